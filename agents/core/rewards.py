"""Which convention of sparse rewards an environment has, and what makes it that of the data.

Sources: the code of D4RL (0/1), OGBench 1.2 (-1/0 for its single tasks, else 0/1) and Gymnasium-Robotics 1.4.2 (mazes
0/1; Fetch and the hand -1/0).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, VectorRewardWrapper
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from zoo.agents.core.conventions import CONVENTIONS, STATED, check_convention
from zoo.agents.core.vector import AnyEnv, layers

# Ids of environments, without the package in front, to their convention; the first that fits.
KNOWN = (
    (r"(visual-)?(pointmaze|antmaze|humanoidmaze|antsoccer)-.*singletask.*", "-1/0"),
    (r"(visual-)?(pointmaze|antmaze|humanoidmaze|antsoccer)-.*", "0/1"),
    (r"zoo/Maze2D-(?!.*dense).*", "0/1"),
    (r"(PointMaze|AntMaze)_(?!.*Dense).*", "0/1"),
    (r"(Fetch|HandReach|HandManipulate)(?!.*Dense).*", "-1/0"),
)


def convention_of_env(env: AnyEnv) -> str | None:
    """What the environment's metadata state, or what is known of its id. None under a wrapper that changes rewards."""
    inside = list(layers(env))
    if any(map(changes_rewards, inside)):
        return None
    stated = (check_convention((metadata or {}).get(STATED)) for metadata in asked(inside, "metadata"))
    if found := next(filter(None, stated), None):
        return found
    spec = next(filter(None, asked(inside, "spec")), None)
    if spec is None or spec.kwargs.get("reward_type", "sparse") != "sparse":
        return None
    name = spec.id.rsplit(":", 1)[-1]
    return next((convention for pattern, convention in KNOWN if re.fullmatch(pattern, name)), None)


def changes_rewards(layer: AnyEnv) -> bool:
    """Whether this layer is a wrapper that changes rewards, or one in a process of it is."""
    if isinstance(layer, SubprocVecEnv):
        return any(layer.env_is_wrapped(gym.RewardWrapper))
    if isinstance(layer, AsyncVectorEnv):
        return any("Reward<" in text for text in layer.call("__str__"))  # "<TransformReward<Maze instance>>"
    return isinstance(layer, gym.RewardWrapper | VectorRewardWrapper)


def asked(inside: Sequence[AnyEnv], name: str) -> Iterator[Any]:
    """An attribute of each layer that is a Gymnasium environment, and of the first one in other processes."""
    for layer in inside:
        if isinstance(layer, SubprocVecEnv | AsyncVectorEnv):
            yield layer.get_attr(name)[0]
        elif not isinstance(layer, VecEnv):
            yield getattr(layer, name, None)


def to_data(data: str | None, env: AnyEnv) -> float:
    """What is added to an environment's rewards to have them in the data's convention; 0 where one is not known."""
    found = None if data is None else convention_of_env(env)
    return 0.0 if data is None or found is None else CONVENTIONS[data][0] - CONVENTIONS[found][0]

"""MOOD's tasks: fifteen rewards in four dm_control domains, their environments, and the returns that score 100.

Source: Cetin et al. 2024, arXiv 2403.13097. Nine rewards are dm_control's own; the six below are custom. All are in
[0, 1], of the state after the control step, and episodes are 1000 steps without termination.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from zoo.datasets.checks import Array

Reward = Callable[[Any], float]  # of a dm_control Physics

TARGETS: Mapping[str, Mapping[str, float]] = {  # the rounded best return in the paper's data: a score of 100
    "cheetah": {"walk": 990.0, "run": 800.0, "walk_backward": 990.0, "run_backward": 550.0},
    "walker": {"walk": 970.0, "run": 730.0, "stand": 990.0, "spin": 990.0},
    "quadruped": {"walk": 940.0, "run": 800.0, "stand": 970.0, "jump": 870.0},
    "humanoid": {"walk": 900.0, "run": 400.0, "stand": 960.0},
}
# dm_control's task of each domain that the custom ones share physics, initial states and observations with.
BASE = {"cheetah": "run", "walker": "walk", "quadruped": "walk", "humanoid": "walk"}


def env_id(domain: str, task: str) -> str:
    """What make_env and gymnasium.make take: it names the module too, so that the id is known wherever it is used."""
    return f"zoo.collecting.mood.rewards:mood/{domain}-{task}-v0"


def _speed(speed: float, target: float) -> float:
    """1 from the target on, falling linearly to 0 at rest."""
    from dm_control.utils.rewards import tolerance

    return tolerance(speed, bounds=(target, np.inf), margin=target, value_at_margin=0.0, sigmoid="linear")


def _upright(physics: Any) -> float:
    return (1.0 + float(physics.torso_upright())) / 2.0


def _spin(physics: Any) -> float:
    """The whole body's angular momentum about its centre of mass, around y, positive; 10 kg m^2/s and more earn 1."""
    return _speed(physics.named.data.subtree_angmom["torso"][1], 10.0)


def _jump(physics: Any) -> float:
    """Upright, with the centre of mass at 1 m or above; on the ground half of it."""
    from dm_control.utils.rewards import tolerance

    height = physics.named.data.sensordata["center_of_mass"][2]
    return _upright(physics) * tolerance(
        height, bounds=(1.0, np.inf), margin=1.0, value_at_margin=0.5, sigmoid="linear"
    )


def reward_functions(domain: str) -> dict[str, Reward]:
    """The rewards of a domain's tasks, of its Physics after a control step; humanoid's look at the control too.

    Raises ValueError for another domain, ImportError without dm_control.
    """
    check_domain(domain)
    from dm_control.suite import cheetah, humanoid, quadruped, walker

    if domain == "cheetah":
        return {
            "walk": lambda physics: _speed(physics.speed(), 2.0),
            "run": cheetah.Cheetah().get_reward,
            "walk_backward": lambda physics: _speed(-physics.speed(), 2.0),
            "run_backward": lambda physics: _speed(-physics.speed(), 10.0),
        }
    if domain == "walker":
        return {
            "walk": walker.PlanarWalker(move_speed=1).get_reward,
            "run": walker.PlanarWalker(move_speed=8).get_reward,
            "stand": walker.PlanarWalker(move_speed=0).get_reward,
            "spin": _spin,
        }
    if domain == "quadruped":
        return {
            "walk": quadruped.Move(desired_speed=0.5).get_reward,
            "run": quadruped.Move(desired_speed=5).get_reward,
            "stand": _upright,
            "jump": _jump,
        }
    return {
        "walk": humanoid.Humanoid(move_speed=1, pure_state=False).get_reward,
        "run": humanoid.Humanoid(move_speed=10, pure_state=False).get_reward,
        "stand": humanoid.Humanoid(move_speed=0, pure_state=False).get_reward,
    }


def check_domain(domain: str) -> None:
    if domain not in TARGETS:
        raise ValueError(f"no MOOD domain {domain!r}; there are {', '.join(TARGETS)}")


def load(domain: str) -> Any:
    """dm_control's environment of a domain's base task, without its remarks on its own model files and on displays.

    Raises ValueError for another domain, ImportError without dm_control.
    """
    check_domain(domain)
    remarks = logging.getLogger("absl")
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*DISPLAY")  # nothing is drawn here
            from dm_control import suite
        return suite.load(domain, BASE[domain])
    finally:
        remarks.setLevel(level)


class MoodEnv(gym.Wrapper):
    """One task: dm_control's domain through shimmy, as vectors of float32, actions in [-1, 1].

    The observation is dm_control's entries in dm_control's order. Every step's info has the rewards of all tasks of the
    domain, as "reward/<task>".
    """

    def __init__(self, domain: str, task: str):
        check_domain(domain)
        if task not in TARGETS[domain]:
            raise ValueError(f"{domain} has no task {task!r}; it has {', '.join(TARGETS[domain])}")
        environment = load(domain)
        from shimmy.dm_control_compatibility import DmControlCompatibilityV0

        super().__init__(DmControlCompatibilityV0(environment))
        self.physics = environment.physics
        self.rewards = reward_functions(domain)
        self.task = task
        spec = environment.action_spec()
        self._low, self._high = spec.minimum, spec.maximum
        size = sum(int(np.prod(entry.shape)) for entry in environment.observation_spec().values())
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = Box(-1.0, 1.0, spec.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed)
        return _flat(observation), info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        native = self._low + (np.asarray(action, np.float64) + 1.0) / 2.0 * (self._high - self._low)
        observation, _, terminated, truncated, info = self.env.step(native)
        rewards = {f"reward/{task}": float(reward(self.physics)) for task, reward in self.rewards.items()}
        return _flat(observation), rewards[f"reward/{self.task}"], terminated, truncated, info | rewards


def _flat(observation: dict[str, Array]) -> Array:
    return np.concatenate([np.ravel(entry) for entry in observation.values()]).astype(np.float32)


for _domain, _tasks in TARGETS.items():
    for _task in _tasks:
        gym.register(
            env_id(_domain, _task).split(":")[1],
            entry_point="zoo.collecting.mood.rewards:MoodEnv",
            kwargs={"domain": _domain, "task": _task},
            disable_env_checker=True,
        )

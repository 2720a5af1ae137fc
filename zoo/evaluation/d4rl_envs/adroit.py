"""D4RL's hands on Gymnasium-Robotics' AdroitHand: the rewards and the ends of episodes of D4RL.

Sources: d4rl/hand_manipulation_suite of Farama-Foundation/D4RL, and Gymnasium-Robotics to 1.4.2, in whose -v1 the dense
rewards of door, hammer and relocate pay for the distance between palm and object where D4RL's charge for it.
"""

from typing import Any

import gymnasium
import numpy as np

DROPPED = 0.075  # height of the pen below which the episode ends
# Where the observation has the palm and what it is to reach: (palm, object), or (difference,).
REACH = {"door": (slice(35, 38),), "hammer": (slice(33, 36), slice(36, 39)), "relocate": (slice(30, 33),)}


def make(hand: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Raises ImportError without gymnasium-robotics."""
    import gymnasium_robotics  # an extra; makes its ids known

    gymnasium.register_envs(gymnasium_robotics)
    name = f"AdroitHand{hand.capitalize()}"
    newest = next(version for version in ("v2", "v1") if f"{name}-{version}" in gymnasium.registry)
    env = gymnasium.make(f"{name}-{newest}", max_episode_steps=10_000, **kwargs).unwrapped  # the limit is ours
    return PenThatDrops(env) if hand == "pen" else ChargesForDistance(env, hand) if newest == "v1" else env


class PenThatDrops(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Ends the episode when the pen has dropped, after the penalty of 5 for it."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated or bool(obs[26] < DROPPED), truncated, info


class ChargesForDistance(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes 0.1 of the palm's distance off the reward, to which -v1 adds it."""

    def __init__(self, env: gymnasium.Env[Any, Any], hand: str):
        super().__init__(env)
        self.reach = REACH[hand]

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        palm, *target = (obs[part] for part in self.reach)
        distance = float(np.linalg.norm(palm - target[0] if target else palm))
        return obs, float(reward) - 0.2 * distance, terminated, truncated, info

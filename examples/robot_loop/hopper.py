"""What a log of the Hopper was worth: a reward and an end for `zoo data import`.

    zoo data import run.log run.hdf5 --reward hopper:reward --done hopper:done     # in this folder

The robot sends observations and no rewards. Gymnasium's reward is the distance covered in a step, which the log does
not have; the torso's speed at its two ends stands in, and differs from it by a hundredth.
"""

import numpy as np

SPEED = 5  # the torso's forward speed in an observation: five positions come before the speeds
HEIGHT, ANGLE = 0, 1


def reward(observations: np.ndarray, actions: np.ndarray, next_observations: np.ndarray) -> np.ndarray:
    """1 for standing (of the state that it comes to), the mean speed of the step, less 0.001 of the squared torques."""
    speed = (observations[:, SPEED] + next_observations[:, SPEED]) / 2
    return healthy(next_observations) + speed - 1e-3 * np.square(actions).sum(-1)


def done(observations: np.ndarray, actions: np.ndarray, next_observations: np.ndarray) -> np.ndarray:
    """Hopper-v5's rule: it has fallen."""
    return ~healthy(next_observations)


def healthy(observations: np.ndarray) -> np.ndarray:
    upright = (observations[:, HEIGHT] > 0.7) & (np.abs(observations[:, ANGLE]) < 0.2)
    return upright & (np.abs(observations[:, 1:]) < 100.0).all(-1)

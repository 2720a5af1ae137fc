"""Writes arm.csv, the log of an arm that an operator's controller moved: 40 episodes of T rows, as a logger has them.

python examples/arm/make_log.py arm.csv

A row: seconds, the episode's number, 23 observations, 7 torques, the reward, and three flags. The observation after the
last action is not in the log, as in most logs. The controller knows a pose for each goal, more or less exactly, and
presses more or less hard: some episodes end in success, some run into a stop, some run out of time.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from arm import ACTIONS, HIGH, JOINTS, LOW, OBSERVATIONS, RATE_HZ, STOPS, ReachingArm, weight_of

EPISODES, SEED = 40, 5
STIFFNESS = np.array([40.0, 40.0, 25.0, 22.0, 10.0, 7.0, 3.5])  # N m / rad
DAMPING = np.array([11.0, 11.0, 7.0, 6.0, 2.8, 2.0, 1.0])  # N m s / rad


class Operator:
    """A controller of joint angles, with an error of its own and a strength of its own in every episode."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.error = rng.normal(0.0, 1.0, JOINTS) * rng.choice([0.01, 0.16], p=[0.35, 0.65])
        self.strength = rng.choice([0.6, 1.0, 4.0], p=[0.3, 0.5, 0.2])

    def __call__(self, arm: ReachingArm) -> np.ndarray:
        wanted = arm.target + self.error + (0.9 * np.sign(arm.target) * STOPS if self.strength > 2 else 0.0)
        torque = self.strength * STIFFNESS * (wanted - arm.q) - DAMPING * arm.dq - weight_of(arm.q)
        return np.clip(torque + 0.03 * (HIGH - LOW) * self.rng.normal(size=JOINTS), LOW, HIGH)


def main(path: Path) -> None:
    rng, arm = np.random.default_rng(SEED), ReachingArm()
    with path.open("w", newline="") as file:
        log = csv.writer(file)
        names = [name for name, *_ in (*OBSERVATIONS, *ACTIONS)]
        log.writerow(["t", "episode", *names, "reward", "success", "failed", "timeout"])
        for episode in range(EPISODES):
            operator = Operator(rng)
            observation, _ = arm.reset(seed=1000 * SEED + episode)
            over, t = False, 0
            while not over:
                action = operator(arm)
                following, reward, terminated, truncated, info = arm.step(action)
                flags = [int(info["success"]), int(info["failed"]), int(truncated)]
                numbers = [f"{number:.5f}" for number in (*observation, *action)]
                log.writerow([f"{t / RATE_HZ:.3f}", episode, *numbers, f"{reward:.2f}", *flags])
                observation, over, t = following, terminated or truncated, t + 1


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "arm.csv"))

"""How good a policy really is: episodes of the arm's true simulator.

python examples/arm/truth.py deploy --episodes 40

Takes an exported folder and needs numpy, onnxruntime and gymnasium. The goals are other ones than those of the log.
"""

import argparse

import numpy as np
from arm import ReachingArm

from zoo_robot import OnnxPolicy


def outcomes(policy, episodes: int, seed: int = 100_000) -> tuple[np.ndarray, dict[str, int]]:
    """Returns (episodes,), and how many ended in success, in failure and by time. policy.predict: (23,) to (7,)."""
    arm, returns, ends = ReachingArm(), np.zeros(episodes), {"success": 0, "failed": 0, "out of time": 0}
    for episode in range(episodes):
        observation, _ = arm.reset(seed=seed + episode)
        over = False
        while not over:
            observation, reward, terminated, truncated, info = arm.step(policy.predict(observation))
            returns[episode] += reward
            over = terminated or truncated
        ends["success" if info["success"] else "failed" if info["failed"] else "out of time"] += 1
    return returns, ends


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Episodes of the true simulator")
    parser.add_argument("folder", help="exported by zoo export")
    parser.add_argument("--episodes", type=int, default=40)
    options = parser.parse_args()
    found, ended = outcomes(OnnxPolicy(f"{options.folder}/policy.onnx"), options.episodes)
    print(f"{options.episodes} episodes: {', '.join(f'{count} {end}' for end, count in ended.items())}")
    print(f"return {found.mean():.2f} (standard error {found.std(ddof=1) / options.episodes**0.5:.2f})")

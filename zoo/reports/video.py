"""The beginning of an episode as an animated picture: python -m zoo.reports.video CHECKPOINT OUT.webp."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.agents import Agent, load
from zoo.evaluation.envs import make_env
from zoo.export.files import write_whole

FRAMES, EVERY, WIDE = 150, 2, 320  # pictures, steps between them, pixels
PER_SECOND = 25


def record(agent: Agent) -> Iterator[NDArray[np.uint8]]:
    env = make_env(agent.spec, render_mode="rgb_array", width=WIDE, height=WIDE * 3 // 4)
    try:
        obs, _ = env.reset(seed=100)
        for step in range(FRAMES * EVERY):
            if step % EVERY == 0:
                yield np.asarray(env.render())
            obs, _, terminated, truncated, _ = env.step(agent.predict(obs)[0])
            if terminated or truncated:
                return
    finally:
        env.close()


def animation(frames: list[NDArray[np.uint8]]) -> bytes:
    pictures = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    duration = round(1000 / PER_SECOND)
    pictures[0].save(file, "webp", save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=60)
    return file.getvalue()


if __name__ == "__main__":
    write_whole(Path(sys.argv[2]), animation(list(record(load(Path(sys.argv[1]), device="cpu")))))

"""What the measurements of speed share: data, turns, spreads, the machine's name, files written whole.

Needs numpy and torch only, so that it runs in the environment of another library too.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

OBSERVATIONS, ACTIONS, BATCH, ROWS = 17, 6, 256, 100_000
EPISODE = 1000  # rows
Run = Callable[[], object]
Round = Callable[[], float]  # measures once and returns the milliseconds of one update


def random_columns(rows: int = ROWS) -> dict[str, np.ndarray]:
    """Transitions that mean nothing, in episodes of 1000 rows that a time limit ends."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.standard_normal((rows, OBSERVATIONS), np.float32),
        "actions": rng.uniform(-1.0, 1.0, (rows, ACTIONS)).astype(np.float32),
        "rewards": rng.random(rows, np.float32),
        "next_observations": rng.standard_normal((rows, OBSERVATIONS), np.float32),
        "terminations": np.zeros(rows, bool),
        "truncations": np.arange(1, rows + 1) % EPISODE == 0,
    }


def clocked(run: Run, each: int, updates: int) -> Round:
    """A round of `each` runs, of so many updates."""

    def measure() -> float:
        begin = time.perf_counter()
        for _ in range(each):
            run()
        return (time.perf_counter() - begin) / (each * updates) * 1e3

    return measure


def in_turns(measures: Mapping[str, Round], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of an update in every round, (rounds,), so that a busy machine slows all alike."""
    for measure in measures.values():
        measure()  # warms up
    times = np.array([[measure() for measure in measures.values()] for _ in range(rounds)])
    return dict(zip(measures, times.T, strict=True))


def versus(step: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The reference's milliseconds, and how many times as long a step takes: median and quartiles of the rounds."""
    q1, ratio, q3 = np.quantile(step / reference, [0.25, 0.5, 0.75]).tolist()
    return {"ms": float(np.median(reference)), "ratio": ratio, "q1": q1, "q3": q3}


def machine() -> dict[str, Any]:
    """What the figures depend on and cannot be compared across."""
    return {"cpu": cpu(), "cores": os.cpu_count(), "torch": torch.__version__, "threads": torch.get_num_threads()}


def cpu() -> str:
    info = Path("/proc/cpuinfo")  # Python's own platform.processor() is empty or "x86_64" on Linux
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write_json(path: Path, content: object) -> None:
    """The file appears under its name only when all of it is written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

"""Learning from a file larger than memory would like: peak memory, and batches a second beside an in-memory table.

python benchmarks/big_data.py --folder /some/disk writes a synthetic file (--gigabytes 10), measures, removes it, and
writes benchmarks/big_data.json. Each measurement is a process of its own, so that its peak is its own. from_disk: with
nothing of the file in the system's cache when the batches begin, as for a file larger than that too.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box

from zoo.agents import TD3BC
from zoo.agents.core.replay import Table
from zoo.agents.core.spec import Dataset
from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.packed import open_packed
from zoo.datasets.packing import CHUNK, PackedWriter

OBS, ACT, LENGTH = 29, 8, 1000  # an AntMaze's, in episodes of 1000
ROW = 4 * (2 * OBS + ACT + 2)  # bytes
MEMORY_ROWS = 4_000_000  # of the table in memory: 1.1 GB, far beyond every cache, as the file is
BATCHES, WARM_UP = 10_000, 2_000  # in which all of the window is replaced by other rows
STEPS = 300


def synthetic(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    walk = rng.standard_normal((rows + 1, OBS), np.float32)
    return {
        "observations": walk[:-1],
        "actions": rng.uniform(-1.0, 1.0, (rows, ACT)).astype(np.float32),
        "rewards": rng.standard_normal(rows, np.float32),
        "next_observations": walk[1:],
        "terminations": np.zeros(rows, bool),
        "truncations": np.arange(rows) % LENGTH == LENGTH - 1,
    }


def write(folder: Path, gigabytes: float) -> None:
    rng = np.random.default_rng(0)
    with PackedWriter(folder, action_space=Box(-1.0, 1.0, (ACT,))) as writer:
        for _ in range(round(gigabytes * 1e9 / ROW / CHUNK)):
            writer.append(synthetic(CHUNK, rng))


def rate(agent: TD3BC, table: Table, batches: int) -> float:
    """Batches of 256 a second, as an update takes them: drawn, gathered, normalised."""
    start = time.perf_counter()
    for _ in range(batches):
        table.advance(agent.config.batch_size)
        agent.sample(table)
    return batches / (time.perf_counter() - start)


def in_file(folder: Path) -> dict[str, float]:
    return rates(open_packed(folder))


def from_disk(folder: Path) -> dict[str, float]:
    data = open_packed(folder)

    def forget() -> None:
        os.sync()  # only what is on the disk can be forgotten
        os.posix_fadvise(data.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    return rates(data, forget)


def in_memory(folder: Path) -> dict[str, float]:
    return rates(OfflineDataset.from_arrays(**synthetic(MEMORY_ROWS, np.random.default_rng(0))))


def rates(data: Dataset, before: Callable[[], None] = lambda: None) -> dict[str, float]:
    agent = TD3BC(data, seed=0, device="cpu")  # fits its normaliser to every row
    table = agent.offline_table(data)
    rate(agent, table, WARM_UP)
    before()
    batches = rate(agent, table, BATCHES)  # of the file: its pages are in the system's cache, as far as they fit
    start = time.perf_counter()
    for _ in range(STEPS):
        table.advance(agent.config.batch_size)
        agent.update(agent.sample(table))
    steps = STEPS / (time.perf_counter() - start)
    return {"rows": len(data), "rows_in_memory": table.size, "batches_per_s": batches, "steps_per_s": steps}


MEASURES = {"in_file": in_file, "from_disk": from_disk, "in_memory": in_memory}


def measure(what: str, folder: Path, gigabytes: float) -> dict[str, float]:
    """In a process of its own. peak_gb: the largest resident set it ever had."""
    command = [sys.executable, __file__, "--folder", str(folder), "--gigabytes", str(gigabytes), "--measure", what]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--measure", choices=("write", *MEASURES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = options.folder / "big"
    if options.measure:
        result: dict[str, float] = {}
        if options.measure == "write":
            write(file, options.gigabytes)
        else:
            result = MEASURES[options.measure](file)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps(result | {"peak_gb": peak}))
        return
    free = shutil.disk_usage(options.folder).free / 1e9
    if free < 1.2 * options.gigabytes:
        raise SystemExit(f"{options.folder} has {free:.0f} GB free, {1.2 * options.gigabytes:.0f} are needed")
    try:
        results = {what: measure(what, options.folder, options.gigabytes) for what in ("write", *MEASURES)}
        results["file"] = {"gb": (file / "rows.f32").stat().st_size / 1e9}
    finally:
        shutil.rmtree(file, ignore_errors=True)
    results["machine"] = {"cores": os.cpu_count(), "processor": platform.machine(), "torch": torch.__version__}
    Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

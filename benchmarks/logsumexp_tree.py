"""Microseconds of writes to and draws from the tree of log weights, on one core, by the number of leaves.

    python benchmarks/logsumexp_tree.py [--json benchmarks/logsumexp_tree.json]

A draw is stratified, a write at random leaves with duplicates. Median CPU time of calls with fresh random numbers: a
busy machine takes turns, which are not counted, and caches and clock, which are. The growth is per factor 10 in leaves:
a cost in proportion to log2 N grows by the factor of the last column, one in proportion to N by 10.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from zoo.agents.shared.logsumexp_tree import LogSumExpTree

LEAVES = (10_000, 100_000, 1_000_000, 10_000_000)
WRITES, BATCH, LARGE = 1024, 512, 65_536


def median_us(run: Callable[[], object], calls: int) -> float:
    run()
    times = []
    for _ in range(calls):
        begin = time.thread_time_ns()
        run()
        times.append(time.thread_time_ns() - begin)
    return sorted(times)[calls // 2] / 1e3


def measure(leaves: int, calls: int) -> dict[str, float]:
    tree = LogSumExpTree(leaves, (), torch.device("cpu"))
    tree.restore({"log_weights": 3.0 * torch.randn(leaves, dtype=torch.float64)})
    values = torch.randn(WRITES, dtype=torch.float64)
    update = median_us(lambda: tree.update(torch.randint(leaves, (WRITES,)), values), calls)
    sample = median_us(lambda: tree.sample(torch.rand(BATCH, dtype=torch.float64)), calls)
    large = median_us(lambda: tree.sample(torch.rand(LARGE, dtype=torch.float64)), max(calls // 20, 3))
    return {
        "leaves": leaves,
        "log2": math.log2(leaves),
        f"update_{WRITES}_us": update,
        f"sample_{BATCH}_us": sample,
        f"samples_per_second_{BATCH}": BATCH / sample * 1e6,
        f"samples_per_second_{LARGE}": LARGE / large * 1e6,
    }


def main(calls: int) -> list[dict[str, float]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[dict[str, float]] = []
    print(
        f"    leaves  update {WRITES}  sample {BATCH}  samples/s at {BATCH}  at {LARGE}   growth: update, sample, log2"
    )
    for leaves in LEAVES:
        rows.append(row := measure(leaves, calls))
        update, sample = row[f"update_{WRITES}_us"], row[f"sample_{BATCH}_us"]
        rates = f"{row[f'samples_per_second_{BATCH}']:16.2e} {row[f'samples_per_second_{LARGE}']:10.2e}"
        growth = ""
        if len(rows) > 1:
            keys = (f"update_{WRITES}_us", f"sample_{BATCH}_us", "log2")
            growth = "".join(f"{row[key] / rows[-2][key]:8.2f}" for key in keys)
        print(f"{leaves:10d} {update:9.0f} us {sample:8.0f} us {rates}           {growth}", flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    result = main(options.calls)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))

"""What a second thread gains: milliseconds of a gradient step, and of its bare matrix products, with one and with more.

    python benchmarks/threads.py [--threads 2] [--json threads.json]

The cases of speed.py. One and more threads take turns in one process; ratios are medians of the rounds.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Round, Run, clocked, in_turns, machine, random_columns, versus, write_json
from speed import CASES, cycle

from zoo.datasets.dataset import OfflineDataset

FEW = ("TD3BC", "IQL", "PARS(10, 2x256)", "CQL, 2x256", "ReBRAC")


def on(threads: int, run: Run, each: int) -> Round:
    """A round of it on so many threads."""
    timed = clocked(run, each, updates=2)

    def measure() -> float:
        torch.set_num_threads(threads)
        run()  # wakes them
        return timed()

    return measure


def measure(name: str, dataset: OfflineDataset, threads: int, rounds: int, each: int) -> dict[str, Any]:
    agent, references = CASES[name](dataset)
    runs = {"step": cycle(agent, dataset), "floor": references["floor"]}
    with agent.compute():
        times = in_turns({(key, n): on(n, run, each) for key, run in runs.items() for n in (1, threads)}, rounds)
    result: dict[str, Any] = {"agent": name}
    for key in runs:
        gain = versus(times[key, threads], times[key, 1])
        result[key] = {"one": gain.pop("ms"), "more": float(np.median(times[key, threads])), **gain}
    return result


def line(row: dict[str, Any]) -> str:
    parts = [f"{row['agent']:<16}"]
    for key in ("step", "floor"):
        r = row[key]
        parts.append(
            f"{key} {r['one']:7.2f} ms, {r['more']:7.2f} ms: {r['ratio']:.2f} x ({r['q1']:.2f} to {r['q3']:.2f})"
        )
    return "   ".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=FEW, default=FEW, metavar="CASE", help=", ".join(FEW))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--each", type=int, default=10, help="turns of two updates in a round")
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args()
    data = OfflineDataset.from_arrays(**random_columns(), name="random")  # type: ignore[arg-type]
    rows = []
    for case in options.only:
        rows.append(measure(case, data, options.threads, options.rounds, options.each))
        print(line(rows[-1]), flush=True)
    if options.json:
        write_json(options.json, {"machine": machine(), "threads": options.threads, "rows": rows})

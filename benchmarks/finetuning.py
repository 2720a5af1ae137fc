"""Online fine-tuning from offline checkpoints: evaluates before and while the agent learns in its environment.

    python benchmarks/learning.py ASPC hopper-medium-replay --save checkpoints
    python benchmarks/finetuning.py checkpoints/ASPC_hopper-medium-replay_*.zip
    python benchmarks/finetuning.py --table
    python benchmarks/finetuning.py --plot

Each row is the return of 10 deterministic episodes from reset seeds 100 to 109, which no training run uses. The first
5,000 environment steps are evaluated every 1,000, where a collapse would show.
"""

import argparse
import csv
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from learning import note, refuse_repeats
from matplotlib.figure import Figure

from zoo.agents import load
from zoo.datasets.reopen import reopen
from zoo.evaluation.envs import make_env
from zoo.evaluation.rollouts import Evaluator

CSV = Path(__file__).parent / "finetuning.csv"
NEW = Path("runs/finetuning.csv")
PICTURE = CSV.with_suffix(".png")
STEPS = (*range(0, 5_000, 1_000), *range(5_000, 20_001, 2_500))


def finetune(path: Path, dataset_path: str | None, out: Path, workers: int) -> None:
    agent = load(path)
    dataset = reopen(agent.spec, path, dataset_path)
    refuse_repeats(out, path.name.split("_")[0], dataset.name, [agent.seed])
    started = time.perf_counter()

    def evaluation(*_: object) -> bool:
        if agent.env_steps not in STEPS:
            return True
        returns = evaluator.evaluate(agent)
        note(out, path.name.split("_")[0], agent, agent.seed, agent.env_steps, returns, started, "")
        return True

    with Evaluator(partial(make_env, agent.spec), workers) as evaluator:
        evaluation()
        agent.finetune_online(make_env(dataset), STEPS[-1], callback=evaluation, dataset=dataset)


def curves(path: Path) -> dict[str, dict[int, np.ndarray]]:
    """Label -> environment steps -> returns of the seeds."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault(row["label"], {}).setdefault(int(row["step"]), []).append(float(row["return_mean"]))
    return {label: {step: np.array(values) for step, values in curve.items()} for label, curve in found.items()}


def table(path: Path) -> str:
    """Markdown: mean +- deviation over the seeds, offline, at its lowest in the first 5,000 steps, and at the end."""
    lines = [
        "| agent | seeds | offline | lowest of the first 5,000 | last | mean of last 3 |",
        "|---|---|---|---|---|---|",
    ]
    for label, curve in curves(path).items():
        steps = sorted(curve)
        early = np.min([curve[step] for step in steps if 0 < step <= 5_000], axis=0)
        cells = [curve[0], early, curve[steps[-1]], np.mean([curve[step] for step in steps[-3:]], axis=0)]
        texts = [f"{cell.mean():.0f} ± {cell.std(ddof=1):.0f}" for cell in cells]
        lines.append(f"| {label} | {len(curve[0])} | {' | '.join(texts)} |")
    return "\n".join(lines)


def plot(path: Path, picture: Path) -> None:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for label, curve in curves(path).items():
        steps = sorted(curve)
        mean = np.array([curve[step].mean() for step in steps])
        spread = np.array([curve[step].std(ddof=1) for step in steps])
        axes.plot(steps, mean, label=label)
        axes.fill_between(steps, mean - spread, mean + spread, alpha=0.15)
    axes.set(xlabel="environment steps", ylabel="return of 10 deterministic episodes")
    axes.legend()
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--dataset", help="path or name, where the checkpoint's own name does not find it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that step environments in evaluations")
    parser.add_argument("--out", type=Path, help=f"CSV file; by default {NEW}, and for --table {CSV.name}")
    parser.add_argument("--table", action="store_true", help="print the table of the CSV file instead")
    parser.add_argument("--plot", action="store_true", help=f"draw the curves into {PICTURE.name} instead")
    options = parser.parse_args()
    options.out = options.out or (CSV if options.table or options.plot else NEW)
    torch.set_num_threads(options.threads)
    if options.table:
        print(table(options.out))
    elif options.plot:
        plot(options.out, PICTURE)
    elif options.checkpoints:
        for checkpoint in options.checkpoints:
            finetune(checkpoint, options.dataset, options.out, options.workers)
    else:
        parser.error("name checkpoints, or give --table or --plot")

"""Learning curves on real data: trains an agent for several seeds and writes every evaluation into a CSV file.

    python benchmarks/learning.py TD3BC hopper-medium-replay --seeds 0 1 2
    python benchmarks/learning.py TD3BC hopper-medium-replay --label BC --set alpha=0.0
    python benchmarks/learning.py --table --against TD3BC

Rows go to runs/learning.csv unless --out names another file; learning.csv beside this file has those of the front page,
and is what --table shows. A seed that a file has already is refused: counted twice, it would narrow the deviations.
Each row is the return of 10 deterministic episodes from reset seeds 100 to 109, which no training run uses.
"""

import argparse
import ast
import csv
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from zoo.agents import AGENTS, Agent
from zoo.datasets.load import open_dataset
from zoo.datasets.packed import MEMORY
from zoo.evaluation.envs import make_env
from zoo.evaluation.rollouts import Evaluator

CSV = Path(__file__).parent / "learning.csv"
NEW = Path("runs/learning.csv")  # where rows go that nobody has looked at yet
FIELDS = ("label", "agent", "dataset", "seed", "step", "return_mean", "return_std", "seconds", "settings")


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    if args.emulate_bf16:
        emulate_bf16()
    dataset = open_dataset(args.dataset, args.memory)
    refuse_repeats(args.out, args.label or args.agent, dataset.name, args.seeds)
    settings = {key: ast.literal_eval(value) for key, value in (item.split("=", 1) for item in args.set)}
    for seed in args.seeds:
        make_env(dataset).close()  # an environment that is not installed shows now, not after the first training steps
        agent = AGENTS[args.agent](dataset, seed=seed, **settings)
        started = time.perf_counter()
        with Evaluator(partial(make_env, agent.spec), args.workers) as evaluator:
            evaluator.start()
            for step in range(args.every, args.steps + 1, args.every):
                agent.learn_offline(dataset, args.every)
                returns = evaluator.evaluate(agent)
                note(args.out, args.label or args.agent, agent, seed, step, returns, started, " ".join(args.set))
        if args.save:
            agent.save(args.save / f"{args.label or args.agent}_{dataset.name}_{seed}.zip")


def refuse_repeats(path: Path, label: str, dataset: str, seeds: list[int]) -> None:
    """Ends the program where the file has rows of one of these seeds."""
    known = {row["seed"] for row in read(path) if (row["label"], row["dataset"]) == (label, dataset)}
    repeated = [seed for seed in seeds if str(seed) in known]
    if repeated:
        raise SystemExit(
            f"{path} has {label} on {dataset} with the seeds {', '.join(map(str, repeated))} already: give other "
            "--seeds, another --label, or another --out"
        )


def emulate_bf16() -> None:
    """Rounds the operands of the networks' matrix products to bf16, as precision="bf16" does on CPUs that can.

    For measuring the effect on the return where the CPU cannot; the sums stay fp32.
    """
    addmm, baddbmm = torch.addmm, torch.baddbmm
    torch.addmm = lambda bias, x, weight: addmm(bias, x.bfloat16().float(), weight.bfloat16().float())
    torch.baddbmm = lambda bias, x, weight: baddbmm(bias, x.bfloat16().float(), weight.bfloat16().float())


def note(
    path: Path, label: str, agent: Agent, seed: int, step: int, returns: np.ndarray, started: float, settings: str
) -> None:
    """One evaluation more in the file, and on the screen. returns: of its episodes. started: by perf_counter."""
    row = {
        "label": label,
        "agent": type(agent).__name__,
        "dataset": agent.spec.name,
        "seed": seed,
        "step": step,
        "return_mean": round(float(returns.mean()), 1),
        "return_std": round(float(returns.std()), 1),
        "seconds": round(time.perf_counter() - started),
        "settings": settings,
    }
    print(row, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of such a file; none where it is not there yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(path: Path, against: str | None = None) -> str:
    """Markdown: last, mean of the last three and best evaluation of each seed: mean ± sample deviation over the seeds.

    against: the label of a rival; a further column has what difference from it the means of the last three leave open.
    """
    rows = read(path)
    heads = ["agent", "dataset", "seeds", "steps", "last", "mean of last 3", "best"]
    heads += [] if against is None else [f"less {against}, 95 %"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for dataset, label in dict.fromkeys((row["dataset"], row["label"]) for row in rows):
        curves = curves_of(rows, dataset, label)
        kinds = ([c[-1] for c in curves], tails(curves), [max(c) for c in curves])
        cells = [f"{np.mean(values):.0f} ± {deviation(values):.0f}" for values in kinds]
        rival = [] if against is None else curves_of(rows, dataset, against)
        cells += [difference(tails(curves), tails(rival))] if rival and label != against else []
        cells += [""] * (len(heads) - 4 - len(cells))
        steps = max(int(row["step"]) for row in rows if (row["dataset"], row["label"]) == (dataset, label))
        lines.append(f"| {label} | {dataset} | {len(curves)} | {steps:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def curves_of(rows: list[dict[str, str]], dataset: str, label: str) -> list[list[float]]:
    """The returns of each seed in the order of the rows."""
    mine = [row for row in rows if (row["dataset"], row["label"]) == (dataset, label)]
    seeds = dict.fromkeys(row["seed"] for row in mine)
    return [[float(row["return_mean"]) for row in mine if row["seed"] == seed] for seed in seeds]


def tails(curves: list[list[float]]) -> list[float]:
    return [float(np.mean(curve[-3:])) for curve in curves]


def deviation(values: Sequence[float]) -> float:
    """Of the sample, divided by n - 1; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def difference(ours: list[float], theirs: list[float]) -> str:
    """Welch's 95 % interval of the difference of two means, and what it says."""
    if min(len(ours), len(theirs)) < 2:
        return "too few seeds"
    low, high = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    verdict = "above" if low > 0.0 else "below" if high < 0.0 else "open"
    return f"{low:+.0f} to {high:+.0f}: {verdict}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", nargs="?", choices=AGENTS)
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("--label", help="name in the table, where the settings make it another algorithm")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="config fields other than the preset's"
    )
    parser.add_argument("--memory", type=int, default=MEMORY, help="bytes for the rows of a packed folder")
    parser.add_argument("--save", type=Path, help="folder for the final checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that step environments in evaluations")
    parser.add_argument("--emulate-bf16", action="store_true", help="round the operands of matrix products to bf16")
    parser.add_argument("--out", type=Path, help=f"CSV file; by default {NEW}, and for --table {CSV.name}")
    parser.add_argument("--table", action="store_true", help="print the table of the CSV file instead")
    parser.add_argument("--against", help="with --table: the label of a rival, for verdicts by intervals")
    options = parser.parse_args()
    options.out = options.out or (CSV if options.table else NEW)
    if options.table:
        print(table(options.out, options.against))
    elif options.agent and options.dataset:
        train(options)
    else:
        parser.error("name an agent and a dataset, or give --table")

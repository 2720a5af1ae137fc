"""What network size, a larger ensemble and evaluation sampling each do on one dataset: the study of Cetin et al. 2024
(arXiv 2403.13097) in small.

    python benchmarks/scale.py
    python benchmarks/scale.py --table

IQL in that paper's form, all widths an eighth of the paper's and its depths kept, so that it runs on a CPU. The seeds
are the members of one population. Each row is the return of 10 deterministic episodes from reset seeds 100 to 109, of
the actor's own action and of the best of 50 candidates.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from learning import note, read, refuse_repeats
from scipy import stats

from zoo.agents import IQL
from zoo.datasets.load import load_dataset
from zoo.evaluation.envs import make_env
from zoo.evaluation.rollouts import Evaluator

CSV = Path(__file__).parent / "scale.csv"
NEW = Path("runs/scale.csv")
DATASET = "hopper-medium-replay"
NETWORKS: dict[str, dict] = {
    "small": {"actor_hidden": (32,) * 2, "critic_hidden": (32,) * 2, "value_hidden": (32,) * 2},
    "large": {"actor_hidden": (128,) * 5, "critic_hidden": (32,) * 3, "value_hidden": (128,) * 2},
    "modern": {
        "actor_hidden": (128,) * 2,
        "critic_hidden": (32,),
        "value_hidden": (128,) * 2,
        "actor_network": "residual",
        "critic_network": "residual",
    },
}
CRITICS = (2, 5)
CANDIDATES = (1, 50)
FORM = {"preset": "simple-ingredients", "temperature": 3.0, "batch_size": 256}


def train(network: str, critics: int, args: argparse.Namespace) -> None:
    dataset = load_dataset(DATASET)
    agent = IQL(dataset, population=args.seeds, n_critics=critics, **FORM, **NETWORKS[network])
    refuse_repeats(args.out, f"{network}, {critics} critics", DATASET, list(range(args.seeds)))
    started = time.perf_counter()
    with Evaluator(partial(make_env, agent.spec), args.workers) as evaluator:
        for step in range(args.every, args.steps + 1, args.every):
            agent.learn_offline(dataset, args.every)
            for seed in range(args.seeds):
                member = agent.member(seed)
                for candidates in CANDIDATES:
                    returns = evaluator.evaluate(member, evaluation_samples=candidates)
                    settings = f"evaluation_samples={candidates}"
                    note(args.out, f"{network}, {critics} critics", agent, seed, step, returns, started, settings)


def table(path: Path) -> str:
    """Markdown: each seed's mean of its last three evaluations; mean and 95% t-interval over the seeds."""
    rows = read(path)
    lines = ["| networks | critics | seeds | steps | actor's own action | best of 50 |", "|---|---|---|---|---|---|"]
    for label in dict.fromkeys(row["label"] for row in rows):
        cells = []
        for candidates in CANDIDATES:
            mine = [r for r in rows if (r["label"], r["settings"]) == (label, f"evaluation_samples={candidates}")]
            seeds = sorted({r["seed"] for r in mine})
            last = [np.mean([float(r["return_mean"]) for r in mine if r["seed"] == seed][-3:]) for seed in seeds]
            half = stats.sem(last) * stats.t.ppf(0.975, len(last) - 1)
            cells.append(f"{np.mean(last):.0f} ± {half:.0f}")
        network, critics = label.removesuffix(" critics").split(", ")
        steps = max(int(r["step"]) for r in mine)
        lines.append(f"| {network} | {critics} | {len(seeds)} | {steps:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--critics", type=int, nargs="+", default=CRITICS)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that step environments in evaluations")
    parser.add_argument("--out", type=Path, help=f"CSV file; by default {NEW}, and for --table {CSV.name}")
    parser.add_argument("--table", action="store_true", help="print the table of the CSV file instead")
    options = parser.parse_args()
    options.out = options.out or (CSV if options.table else NEW)
    if options.table:
        print(table(options.out))
    else:
        torch.set_num_threads(options.threads)
        for size in options.networks:
            for count in options.critics:
                train(size, count, options)

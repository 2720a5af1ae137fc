"""Same- against mixed-objective data: agents of Cetin et al. 2024 (arXiv 2403.13097) on every target of a folder of
MOOD sets, in the form of that paper with smaller networks and batches, so that it runs on a CPU.

    python benchmarks/mood.py mood-small --domains cheetah walker
    python benchmarks/mood.py mood-small --domains walker --tasks spin --steps 5000
    python benchmarks/mood.py mood-small --table

The seeds are the members of one population. Each row is the return of deterministic episodes from reset seeds 100 on,
after the last step. What the CSV file has already, of as many steps, is not run again.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning import note, read

from zoo.agents import AGENTS
from zoo.collecting.mood.rewards import TARGETS
from zoo.datasets.load import load_dataset
from zoo.evaluation.envs import make_env
from zoo.evaluation.rollouts import Evaluator
from zoo.evaluation.scores import normalized_score

CSV = Path(__file__).parent / "mood.csv"
NEW = Path("runs/mood.csv")
KINDS = ("same", "mixed")
SMALL: dict[str, Any] = {"actor_hidden": (128, 128), "critic_hidden": (128, 128), "batch_size": 128}
FORM: dict[str, Any] = SMALL | {"preset": "simple-ingredients"}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {  # label -> agent and settings; ASAC's own are that paper's
    "BC": ("TD3BC", FORM | {"alpha": 0.0}),
    "TD3BC": ("TD3BC", FORM),
    "IQL": ("IQL", FORM | {"value_hidden": (128, 128)}),
    "AWAC": ("AWAC", FORM),
    "ASAC": ("ASAC", SMALL),
}


def train(label: str, path: Path, args: argparse.Namespace) -> None:
    dataset = load_dataset(str(path))
    agent_name, settings = RUNS[label]
    agent = AGENTS[agent_name](dataset, population=args.seeds, **settings)
    started = time.perf_counter()
    agent.learn_offline(dataset, args.steps)
    with Evaluator(partial(make_env, agent.spec)) as evaluator:
        returns = evaluator.evaluate_members(agent, args.episodes)
    for seed in range(args.seeds):
        note(args.out, label, agent, seed, args.steps, returns[seed], started, f"episodes={args.episodes}")


def sets(domain: str, kind: str, tasks: Sequence[str] = ()) -> list[str]:
    """Names of the sets of a domain's tasks, or of those in `tasks`. Raises ValueError where it has none of them."""
    names = [f"mood-{domain}-{task}-{kind}" for task in TARGETS[domain] if not tasks or task in tasks]
    if not names:
        raise ValueError(f"{domain} has none of the tasks {', '.join(tasks)}; it has {', '.join(TARGETS[domain])}")
    return names


def score(rows: list[dict[str, str]], label: str, names: Sequence[str]) -> str:
    """Percent of the target, averaged over the sets: mean ± deviation of the seeds (by n); nothing if a run lacks."""
    scores = []
    for name in names:
        mine = sorted((row for row in rows if (row["label"], row["dataset"]) == (label, name)), key=lambda r: r["seed"])
        scores.append([normalized_score(name, float(row["return_mean"])) for row in mine])
    if len({len(seeds) for seeds in scores}) > 1 or not scores[0]:
        return ""
    means = np.mean(scores, 0)
    return f"{means.mean():.1f} ± {means.std():.1f}"


def score_of_data(folder: Path, names: Sequence[str], pick: Callable[[np.ndarray], float]) -> str:
    """The same of what `pick` makes of each set's own returns: their mean, or the best."""
    scores = []
    for name in names:
        dataset = load_dataset(str(folder / f"{name}.hdf5"))
        returns = np.bincount(dataset.episode_ids, dataset.column("rewards"))
        scores.append(normalized_score(name, float(pick(returns))))
    return f"{np.mean(scores):.1f}"


def table(args: argparse.Namespace) -> str:
    rows = [row for row in read(args.out) if int(row["step"]) == args.steps]
    columns = {f"{domain}, {kind}": sets(domain, kind, args.tasks) for domain in args.domains for kind in KINDS}
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for what, pick in {"the data's mean episode": np.mean, "the data's best episode": np.max}.items():
        cells = [score_of_data(args.folder, names, pick) for names in columns.values()]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    for label in dict.fromkeys(row["label"] for row in rows):
        cells = [score(rows, label, names) for names in columns.values()]
        lines.append(f"| `{label}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of zoo data mood merge")
    parser.add_argument("--domains", nargs="+", choices=TARGETS, default=["cheetah", "walker"])
    parser.add_argument("--tasks", nargs="+", default=(), help="of the domains; by default all")
    parser.add_argument("--agents", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help=f"CSV file; by default {NEW}, and for --table {CSV.name}")
    parser.add_argument("--table", action="store_true", help="print the table of the CSV file instead")
    options = parser.parse_args()
    options.out = options.out or (CSV if options.table else NEW)
    if options.table:
        print(table(options))
    else:
        torch.set_num_threads(options.threads)
        done = {(row["label"], row["dataset"], int(row["step"])) for row in read(options.out)}
        for domain in options.domains:
            for names in zip(*(sets(domain, kind, options.tasks) for kind in KINDS), strict=True):
                for name in names:
                    for label in options.agents:
                        if (label, name, options.steps) not in done:
                            train(label, options.folder / f"{name}.hdf5", options)

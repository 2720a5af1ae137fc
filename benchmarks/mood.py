"""Same- against mixed-objective data: agents of Cetin et al. 2024 (arXiv 2403.13097) on every target of a folder of
MOOD sets, in the form of that paper with smaller networks and batches, so that it runs on a CPU.

    python benchmarks/mood.py mood-small --domains cheetah walker
    python benchmarks/mood.py mood-small --domains walker --tasks spin --steps 20000
    python benchmarks/mood.py mood-small --table

The seeds are the members of one population. Each row is the return of deterministic episodes from reset seeds 100 on,
after the last step. What the CSV file has already, of as many steps, is not run again.
"""

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning import note

from agents import AGENTS
from zoo.datasets import load_dataset
from zoo.envs import make_env
from zoo.evaluation import Evaluator
from zoo.mood_rewards import TARGETS
from zoo.scores import normalized_score

CSV = Path(__file__).parent / "mood.csv"
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


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tasks_of(domain: str, only: Sequence[str]) -> list[str]:
    return [task for task in TARGETS[domain] if not only or task in only]


def score(rows: list[dict[str, str]], label: str, domain: str, kind: str, only: Sequence[str] = ()) -> str:
    """Percent of the target, averaged over the domain's tasks: mean +- deviation over the seeds; none if one lacks."""
    tasks = []
    for name in (f"mood-{domain}-{task}-{kind}" for task in tasks_of(domain, only)):
        mine = sorted((row for row in rows if (row["label"], row["dataset"]) == (label, name)), key=lambda r: r["seed"])
        tasks.append([normalized_score(name, float(row["return_mean"])) for row in mine])
    if len({len(task) for task in tasks}) > 1 or not tasks[0]:
        return ""
    seeds = np.mean(tasks, 0)
    return f"{seeds.mean():.1f} ± {seeds.std():.1f}"


def score_of_data(
    folder: Path, domain: str, kind: str, pick: Callable[[np.ndarray], float], only: Sequence[str] = ()
) -> str:
    """The same of one episode of each task's set: its mean, or its best one."""
    scores = []
    for name in (f"mood-{domain}-{task}-{kind}" for task in tasks_of(domain, only)):
        dataset = load_dataset(str(folder / f"{name}.hdf5"))
        returns = np.bincount(dataset.episode_ids, dataset.column("rewards"))
        scores.append(normalized_score(name, float(pick(returns))))
    return f"{np.mean(scores):.1f}"


def table(args: argparse.Namespace) -> str:
    rows = [row for row in read(args.out) if int(row["step"]) == args.steps]
    columns = [(domain, kind) for domain in args.domains for kind in KINDS]
    lines = [f"| | {' | '.join(map(', '.join, columns))} |", "|---" * (len(columns) + 1) + "|"]
    for name, pick in {"the data's mean episode": np.mean, "the data's best episode": np.max}.items():
        cells = [score_of_data(args.folder, *column, pick, args.tasks) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for label in dict.fromkeys(row["label"] for row in rows):
        cells = [score(rows, label, *column, args.tasks) for column in columns]
        lines.append(f"| `{label}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of zoo data mood merge")
    parser.add_argument("--domains", nargs="+", choices=TARGETS, default=["cheetah", "walker"])
    parser.add_argument("--tasks", nargs="+", default=(), help="of the domains; by default all")
    parser.add_argument("--agents", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--table", action="store_true", help="print the table of the CSV file instead")
    options = parser.parse_args()
    if options.table:
        print(table(options))
    else:
        torch.set_num_threads(options.threads)
        done = {(row["label"], row["dataset"], int(row["step"])) for row in read(options.out)}
        for domain in options.domains:
            for task in tasks_of(domain, options.tasks):
                for kind in KINDS:
                    name = f"mood-{domain}-{task}-{kind}"
                    for label in options.agents:
                        if (label, name, options.steps) not in done:
                            train(label, options.folder / f"{name}.hdf5", options)

"""Milliseconds of one gradient step on one core, sampling included, beside what it can be measured by.

    python benchmarks/speed.py [--json speed.json] [--compare OLD.json] [--only TD3BC IQL]

Beside the floor: the step's own matrix products, forward and backward, as bare torch.mm into ready memory. Beside the
plain step: the same algorithm as a single-file PyTorch script writes it (plain.py). The agents that build on TD3+BC
stand beside a TD3BC of the same networks instead: what the paper's own part costs. Agent and references take turns in
one process, so that a busy machine slows all of them. S=17, A=6, batch 256, 100,000 rows.

Ratios are medians of the rounds, with quartiles. --compare says what became slower since (comparison.py). The plain
steps run in the agents' surroundings, which keep freed memory and flush denormals. ASPC's rounds hold whole periods of
its learned scale.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import plain
import torch
from comparison import NotComparableError, check, read, report
from floor import cql_products, floor, iql_products, td3_products
from measuring import BATCH, Run, clocked, in_turns, machine, random_columns, versus, write_json

from zoo.agents import ASPC, CAR, CQL, IQL, PARS, SPOT, TD3BC, TD3BCSA, Agent, ReBRAC
from zoo.agents.core.replay import Table
from zoo.datasets.dataset import OfflineDataset

Case = tuple[Agent, dict[str, Run]]  # an agent, and two updates of what it stands beside
SMALL, LARGE = (256, 256), (256, 256, 256)


def cycle(agent: Agent, dataset: OfflineDataset) -> Run:
    """Two updates with their sampling: one turn of the policy delay."""
    table = Table.of(dataset, agent.layout, agent.device, agent.dtype)

    def run() -> None:
        agent.update(agent.sample(table))
        agent.update(agent.sample(table))

    return run


def twice(script: plain.TD3BC | plain.ReBRAC | plain.IQL | plain.CQL) -> Run:
    def run() -> None:
        script.update()
        script.update()

    return run


def td3bc(dataset: OfflineDataset, precision: str = "fp32") -> Case:
    agent = TD3BC(dataset, precision=precision)
    return agent, {"floor": floor(td3_products(agent, 2, BATCH, 1)), "plain": twice(plain.TD3BC(dataset))}


def pars(dataset: OfflineDataset, critics: int, hidden: tuple[int, ...]) -> Case:
    agent = PARS(dataset, n_critics=critics, critic_hidden=hidden)
    return agent, {"floor": floor(td3_products(agent, 2, 2 * BATCH, critics))}


def iql(dataset: OfflineDataset) -> Case:
    agent = IQL(dataset)
    return agent, {"floor": floor(iql_products(agent)), "plain": twice(plain.IQL(dataset))}


def cql(dataset: OfflineDataset, hidden: tuple[int, ...]) -> Case:
    agent = CQL(dataset, actor_hidden=hidden, critic_hidden=hidden)
    return agent, {"floor": floor(cql_products(agent)), "plain": twice(plain.CQL(dataset, hidden))}


def rebrac(dataset: OfflineDataset) -> Case:
    agent = ReBRAC(dataset)
    products = td3_products(agent, 2, BATCH, agent.config.n_critics)
    return agent, {
        "floor": floor(products),
        "plain": twice(plain.ReBRAC(dataset)),
        "TD3BC": same_networks(agent, dataset),
    }


def on_td3bc(dataset: OfflineDataset, cls: type[Agent], **settings: Any) -> Case:
    """An agent that adds to TD3BC, as it is after its preparation and warm-up."""
    agent = cls(dataset, **settings)
    return agent, {"TD3BC": same_networks(agent, dataset)}


def same_networks(agent: Agent, dataset: OfflineDataset) -> Run:
    names = ("actor_hidden", "critic_hidden", "actor_norm", "critic_norm")
    return cycle(TD3BC(dataset, **{name: getattr(agent.config, name) for name in names}), dataset)


CASES: dict[str, Callable[[OfflineDataset], Case]] = {
    "TD3BC": td3bc,
    "TD3BC bf16": partial(td3bc, precision="bf16"),
    "PARS(4, 2x256)": partial(pars, critics=4, hidden=SMALL),
    "PARS(10, 2x256)": partial(pars, critics=10, hidden=SMALL),
    "PARS(10, 3x256)": partial(pars, critics=10, hidden=LARGE),
    "IQL": iql,
    "CQL, 2x256": partial(cql, hidden=SMALL),
    "CQL, 3x256": partial(cql, hidden=LARGE),
    "ReBRAC": rebrac,
    "ASPC": partial(on_td3bc, cls=ASPC),
    "TD3BCSA": partial(on_td3bc, cls=TD3BCSA),
    "SPOT, VAE 2x256": partial(on_td3bc, cls=SPOT, density_hidden=SMALL),
    "SPOT": partial(on_td3bc, cls=SPOT),
    "CAR, VAEs 2x256": partial(on_td3bc, cls=CAR, density_hidden=SMALL, density_steps=1, warmup_steps=0, eps_ood=0.5),
    "CAR": partial(on_td3bc, cls=CAR, density_steps=1, warmup_steps=0, eps_ood=0.5),
}


def measure(name: str, dataset: OfflineDataset, rounds: int, each: int) -> dict[str, Any]:
    agent, references = CASES[name](dataset)
    runs = {"step": cycle(agent, dataset), **references}
    with agent.compute():
        times = in_turns({key: clocked(run, each, updates=2) for key, run in runs.items()}, rounds)
    step = times.pop("step")
    return {"agent": name, "step": float(np.median(step))} | {
        key: versus(step, reference) for key, reference in times.items()
    }


def line(row: dict[str, Any]) -> str:
    """A case in words: its milliseconds, then those of each reference, and the ratio to it with quartiles."""
    parts = [f"{row['agent']:<16} {row['step']:7.2f} ms"]
    for key in ("floor", "plain", "TD3BC"):
        if key in row:
            r = row[key]
            parts.append(f"{key} {r['ms']:7.2f} ms {r['ratio']:5.2f} x ({r['q1']:.2f} to {r['q3']:.2f})")
    return "   ".join(parts)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--compare", type=Path, metavar="OLD", help="an earlier file; exit status 1 if slower")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--each", type=int, default=20, help="turns of two updates in a round")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "each": options.each, "rows": []}
    try:
        if options.compare:  # before the measurement: it takes minutes
            old = read(options.compare)
            old["rows"] = [row for row in old["rows"] if row["agent"] in options.only]
            check(old, result["machine"], options.only)
        dataset = OfflineDataset.from_arrays(**random_columns(), name="random")  # type: ignore[arg-type]
        for name in options.only:
            result["rows"].append(measure(name, dataset, options.rounds, options.each))
            print(line(result["rows"][-1]), flush=True)
        if options.json:
            write_json(options.json, result)
        return report(old, result) if options.compare else 0
    except NotComparableError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

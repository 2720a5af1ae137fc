"""Milliseconds of one gradient step on one core, sampling included, beside the floor of its matrix products.

    python benchmarks/speed.py [--json speed.json]

The floor is the step's own products, layer by layer, forward and backward, as bare torch.mm into ready memory, timed
in turns with the agent in the same process, so that a busy machine slows both. S=17, A=6, batch 256, 100,000 rows.

The agents that build on TD3+BC are timed in turns with a TD3BC of the same networks instead: what the paper's own part
costs. ASPC's rounds hold whole periods of its learned scale.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from agents import ASPC, CAR, CQL, IQL, PARS, SPOT, TD3BC, TD3BCSA, Agent, ReBRAC
from agents.replay import Table
from zoo.datasets import OfflineDataset

OBSERVATIONS, ACTIONS, BATCH, ROWS = 17, 6, 256, 100_000
Product = tuple[int, int, int]  # (m, k, n): (m, k) @ (k, n)


def forward(rows: int, sizes: tuple[int, ...]) -> list[Product]:
    return [(rows, i, o) for i, o in pairwise(sizes)]


def weight_gradients(rows: int, sizes: tuple[int, ...]) -> list[Product]:
    return [(i, rows, o) for i, o in pairwise(sizes)]


def input_gradients(rows: int, sizes: tuple[int, ...], to_the_input: bool) -> list[Product]:
    products = [(rows, o, i) for i, o in pairwise(sizes)]
    return products if to_the_input else products[1:]


def gradients(rows: int, sizes: tuple[int, ...]) -> list[Product]:
    """Forward and backward, to the parameters."""
    return forward(rows, sizes) + weight_gradients(rows, sizes) + input_gradients(rows, sizes, to_the_input=False)


def td3_products(agent: Agent, target_members: int, critic_rows: int, actor_members: int) -> list[Product]:
    """All products of two updates: two critic steps, one actor step."""
    c = agent.config
    actor, critic = (OBSERVATIONS, *c.actor_hidden, ACTIONS), (OBSERVATIONS + ACTIONS, *c.critic_hidden, 1)
    critic_step = forward(BATCH, actor) + target_members * forward(BATCH, critic)
    critic_step += c.n_critics * gradients(critic_rows, critic)
    actor_step = gradients(BATCH, actor) + actor_members * (
        forward(BATCH, critic) + input_gradients(BATCH, critic, to_the_input=True)
    )
    return 2 * critic_step + actor_step


def iql_products(agent: Agent) -> list[Product]:
    """All products of two updates. The value sees s in its loss, then s and s' as it is after its step."""
    c = agent.config
    value, actor = (OBSERVATIONS, *c.value_hidden, 1), (OBSERVATIONS, *c.actor_hidden, ACTIONS)
    critic = (OBSERVATIONS + ACTIONS, *c.critic_hidden, 1)
    learn = gradients(BATCH, value) + gradients(BATCH, actor) + c.n_critics * gradients(BATCH, critic)
    return 2 * (learn + 2 * forward(BATCH, value) + c.n_critics * forward(BATCH, critic))


def cql_products(agent: Agent) -> list[Product]:
    """All products of two updates: the actor asked at s for its loss, and at s and s' for actions."""
    c = agent.config
    actor, critic = (OBSERVATIONS, *c.actor_hidden, 2 * ACTIONS), (OBSERVATIONS + ACTIONS, *c.critic_hidden, 1)
    actor_step = gradients(BATCH, actor) + c.n_critics * (
        forward(BATCH, critic) + input_gradients(BATCH, critic, to_the_input=True)
    )
    target = forward(BATCH, actor) + c.n_critics * forward(BATCH, critic)
    asked = (1 + 3 * c.penalty_actions) * BATCH
    return 2 * (actor_step + target + 2 * forward(BATCH, actor) + c.n_critics * gradients(asked, critic))


def floor(products: list[Product]) -> Callable[[], None]:
    """Runs the products; every distinct shape has its own ready operands."""
    operands = {p: (torch.randn(p[0], p[1]), torch.randn(p[1], p[2]), torch.empty(p[0], p[2])) for p in set(products)}

    def run() -> None:
        for product in products:
            a, b, out = operands[product]
            torch.mm(a, b, out=out)

    return run


def cycle(agent: Agent, dataset: OfflineDataset) -> Callable[[], None]:
    """Two updates with their sampling: one turn of the policy delay."""
    table = Table.of(dataset, agent.layout, agent.device, agent.dtype)

    def run() -> None:
        agent.update(agent.sample(table))
        agent.update(agent.sample(table))

    return run


def in_turns(runs: dict[str, Callable[[], None]], rounds: int, each: int) -> dict[str, float]:
    """Median over the rounds of each run's milliseconds for one update (a run is two)."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):  # the first round warms up
        for name, run in runs.items():
            begin = time.perf_counter()
            for _ in range(each):
                run()
            times[name].append((time.perf_counter() - begin) / (2 * each) * 1e3)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def random_dataset() -> OfflineDataset:
    rng = np.random.default_rng(0)
    return OfflineDataset.from_arrays(
        observations=rng.normal(size=(ROWS, OBSERVATIONS)).astype(np.float32),
        actions=rng.uniform(-1, 1, (ROWS, ACTIONS)).astype(np.float32),
        rewards=rng.uniform(0, 1, ROWS).astype(np.float32),
        next_observations=rng.normal(size=(ROWS, OBSERVATIONS)).astype(np.float32),
        terminations=np.zeros(ROWS, bool),
        truncations=np.arange(1, ROWS + 1) % 1000 == 0,
        name="random",
    )


def on_td3bc(dataset: OfflineDataset) -> dict[str, Agent]:
    """Agents that add to TD3BC, as they are after their preparation and warm-up."""
    small = (256, 256)
    agents: dict[str, Agent] = {
        "ReBRAC": ReBRAC(dataset),
        "ASPC": ASPC(dataset),
        "TD3BCSA": TD3BCSA(dataset),
        "SPOT, VAE 2x256": SPOT(dataset, density_hidden=small),
        "SPOT": SPOT(dataset),
        "CAR, VAEs 2x256": CAR(dataset, density_hidden=small, density_steps=1, warmup_steps=0, eps_ood=0.5),
        "CAR": CAR(dataset, density_steps=1, warmup_steps=0, eps_ood=0.5),
    }
    return agents


def versus(rounds: int, each: int, dataset: OfflineDataset) -> list[dict]:
    rows = []
    for name, agent in on_td3bc(dataset).items():
        c = agent.config
        networks = {key: getattr(c, key) for key in ("actor_hidden", "critic_hidden", "actor_norm", "critic_norm")}
        reference = TD3BC(dataset, **networks)
        with agent.compute():
            ms = in_turns({"step": cycle(agent, dataset), "TD3BC": cycle(reference, dataset)}, rounds, each)
        rows.append({"agent": name, **ms, "ratio": ms["step"] / ms["TD3BC"]})
        print(f"{name:<18} {ms['step']:8.2f} ms   TD3BC {ms['TD3BC']:8.2f} ms   {rows[-1]['ratio']:.2f} x", flush=True)
    return rows


def main(rounds: int, each: int) -> list[dict]:
    torch.set_num_threads(1)
    dataset = random_dataset()
    small = (256, 256)
    cases: list[tuple[str, Agent, list[Product]]] = []
    agent: Agent = TD3BC(dataset)
    cases.append(("TD3BC", agent, td3_products(agent, 2, BATCH, 1)))
    agent = TD3BC(dataset, precision="bf16")
    cases.append(("TD3BC bf16", agent, td3_products(agent, 2, BATCH, 1)))
    for critics, hidden in ((4, small), (10, small), (10, (256, 256, 256))):
        agent = PARS(dataset, n_critics=critics, critic_hidden=hidden)
        cases.append((f"PARS({critics}, {len(hidden)}x256)", agent, td3_products(agent, 2, 2 * BATCH, critics)))
    agent = IQL(dataset)
    cases.append(("IQL", agent, iql_products(agent)))
    for hidden in (small, (256, 256, 256)):
        agent = CQL(dataset, actor_hidden=hidden, critic_hidden=hidden)
        cases.append((f"CQL, {len(hidden)}x256", agent, cql_products(agent)))
    rows = []
    for name, agent, products in cases:
        with agent.compute():
            ms = in_turns({"step": cycle(agent, dataset), "floor": floor(products)}, rounds, each)
        rows.append({"agent": name, **ms, "ratio": ms["step"] / ms["floor"]})
        print(f"{name:<18} {ms['step']:8.2f} ms   floor {ms['floor']:8.2f} ms   {rows[-1]['ratio']:.2f} x", flush=True)
    return rows + versus(rounds, each, dataset)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--each", type=int, default=20, help="turns of two updates in a round")
    options = parser.parse_args()
    result = main(options.rounds, options.each)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))

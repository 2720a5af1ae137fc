"""Milliseconds of one gradient step on a GPU, one by one and as CUDA graphs, sampling included, beside its floors.

    python benchmarks/gpu.py [--json gpu.json]
    python benchmarks/gpu.py --population 1 10 100       # the same for populations of TD3BC

The floors are of the step's own operations: their number times the time of the shortest kernel in a graph, the bytes
that they read and write over the copying rate of the memory, and the operations of their matrix products over the rate
of a large one; all three measured in the same run. The largest says what limits the step. S=17, A=6, batch 256,
100,000 rows. With --device cpu the floors say little; it is there to try the script.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import machine, random_columns, write_json
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from zoo.agents import AGENTS, Agent
from zoo.agents.core.replay import Table
from zoo.agents.loop.engine import Engine
from zoo.datasets.dataset import OfflineDataset

CASES: dict[str, tuple[str, dict]] = {
    "TD3BC": ("TD3BC", {}),
    "IQL": ("IQL", {}),
    "PARS, 10 critics 3x256": ("PARS", {"n_critics": 10}),
    "CQL, 3x256": ("CQL", {}),
    "ASPC": ("ASPC", {}),
    "ReBRAC": ("ReBRAC", {"batch_size": 256}),
}
CYCLE = 20  # updates: whole turns of every delay


class Operations(TorchDispatchMode):
    """Counts the operations that are no views, and the bytes of what they take and give."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.count += 1
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return out


def seconds(run: Callable[[], object], device: torch.device, least: float = 0.3) -> float:
    """Mean time of one run, of as many as fill `least` seconds."""
    run()
    count, took = 1, 0.0
    while took < least:
        count *= 2
        wait(device)
        begin = time.perf_counter()
        for _ in range(count):
            run()
        wait(device)
        took = time.perf_counter() - begin
    return took / count


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def rates(device: torch.device) -> dict[str, float]:
    """Seconds of the shortest kernel, bytes a second of a copy, operations a second of a product in fp32."""
    one, big, square = (torch.ones(n, device=device) for n in (1, 2**26, 2**24))
    matrix, kernels = square.view(4096, 4096), 1000

    def short() -> None:
        for _ in range(kernels):
            one.mul_(1.0)

    run: Callable[[], object] = short
    if device.type == "cuda":
        short()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            short()
        run = graph.replay
    return {
        "kernel_s": seconds(run, device) / kernels,
        "bytes_per_s": 2 * big.nbytes / seconds(lambda: big.clone(), device),
        "flop_per_s": 2 * 4096**3 / seconds(lambda: matrix @ matrix, device),
    }


def measure(name: str, agent: Agent, dataset: OfflineDataset, rate: dict[str, float]) -> dict:
    table = Table.of(dataset, agent.layout, agent.device, agent.dtype)

    def cycle(engine: Engine) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CYCLE):
                engine.update(lambda: agent.sample(table))

        return run

    one_by_one, recorded = cycle(Engine(agent)), cycle(Engine.of(agent))
    for _ in range(4):  # warm-ups and recordings
        one_by_one()
        recorded()
    with Operations() as operations, FlopCounterMode(display=False) as flops:
        one_by_one()
    floors = {
        "launches": operations.count / CYCLE * rate["kernel_s"] * 1e3,
        "bytes": operations.bytes / CYCLE / rate["bytes_per_s"] * 1e3,
        "products": flops.get_total_flops() / CYCLE / rate["flop_per_s"] * 1e3,
    }
    limit = max(floors, key=lambda key: floors[key])
    row = {
        "agent": name,
        "eager_ms": seconds(one_by_one, agent.device) / CYCLE * 1e3,
        "ms": seconds(recorded, agent.device) / CYCLE * 1e3,
        "operations": operations.count / CYCLE,
        **{f"{key}_ms": value for key, value in floors.items()},
        "limit": limit,
    }
    told = "  ".join(f"{key} {value:.3f}" for key, value in floors.items())
    print(
        f"{name:<24} eager {row['eager_ms']:8.3f}  graphs {row['ms']:8.3f}  {row['operations']:5.0f} operations  "
        f"floors: {told}  limit: {limit}",
        flush=True,
    )
    return row


def main(options: argparse.Namespace) -> dict:
    device = torch.device(options.device)
    dataset, rate = OfflineDataset.from_arrays(**random_columns(), name="random"), rates(device)  # type: ignore[arg-type]
    print(json.dumps(rate), flush=True)
    rows = []
    if options.population:
        for population in options.population:
            agent = AGENTS["TD3BC"](dataset, population=None if population == 1 else population, device=device)
            rows.append(measure(f"TD3BC, population {population}", agent, dataset, rate))
    else:
        for name in options.cases:
            agent = AGENTS[CASES[name][0]](dataset, device=device, **CASES[name][1])
            rows.append(measure(name, agent, dataset, rate))
    where = machine() | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})
    return {"machine": where, "rates": rate, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--population", type=int, nargs="+", default=[])
    parser.add_argument("--json", type=Path, help="write the rows there")
    arguments = parser.parse_args()
    result = main(arguments)
    if arguments.json:
        write_json(arguments.json, result)

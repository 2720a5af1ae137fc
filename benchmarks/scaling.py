"""What a gradient step costs as one thing grows: batch, width, dataset or population.

    python benchmarks/scaling.py --folder /some/disk [--only batch width rows population] [--device cuda]

TD3BC and IQL with 17 observations, 6 actions, batches of 256 and two layers of 256, where they are not what grows; of
the dataset TD3BC alone, and its batches by themselves. One thread on a CPU. Datasets up to 3 million rows are held in
memory and, like the larger ones, packed in a file (zoo.datasets.packed) in --folder, each removed before the next one
is written: --max-rows 100000000 needs 17 GB. Else two cores of a CPU take about ten minutes in all.

Each writes scaling_<what>_<device>.png and .json to --out, and prints how far the cost is from growing in proportion:
to the size, or for the width to its square, as the products do.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from measuring import ACTIONS, OBSERVATIONS, Run, clocked, in_turns, machine, random_columns, write_json

from zoo.agents import IQL, TD3BC, Agent
from zoo.agents.core.spec import Dataset
from zoo.agents.loop.engine import Engine
from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.packed import open_packed
from zoo.datasets.packing import CHUNK, PackedWriter

AGENTS: dict[str, type[Agent]] = {"TD3BC": TD3BC, "IQL": IQL}
SIZES = {
    "batch": (256, 1_024, 4_096, 16_384, 65_536),
    "width": (256, 512, 1_024, 2_048, 4_096),
    "rows": (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000),
    "population": (1, 4, 16, 64, 256),
}
IN_MEMORY = 3_000_000  # rows; while they are made and loaded, they are there three times
ROW = 4 * (2 * OBSERVATIONS + ACTIONS + 2)  # bytes of a packed row
ROUND = 0.2  # seconds, at least
LEAST_ROUNDS = 3
STEP = "milliseconds of a gradient step"
Point = tuple[str, int, Run]  # series, size, and two updates or whatever else is timed twice


@dataclass(frozen=True)
class Scaling:
    label: str  # of the size
    cost: str  # of what is timed
    power: int  # of the size that a step's arithmetic grows with
    points: Callable[[argparse.Namespace], Iterator[Point]]


def steps(agent: Agent, data: Dataset) -> Run:
    table, engine = agent.offline_table(data), Engine.of(agent)

    def run() -> None:
        for _ in range(2):
            table.advance(agent.config.batch_size)
            engine.update(lambda: agent.sample(table))

    return run


def batches(agent: Agent, data: Dataset) -> Run:
    table = agent.offline_table(data)

    def run() -> None:
        for _ in range(2):
            table.advance(agent.config.batch_size)
            agent.sample(table)

    return run


def of_settings(what: str, options: argparse.Namespace) -> Iterator[Point]:
    """Both agents as a setting grows."""
    dataset = in_memory(CHUNK)
    for name, cls in AGENTS.items():
        for size in SIZES[what]:
            yield name, size, steps(cls(dataset, device=options.device, **settings(what, size, cls)), dataset)


def settings(what: str, size: int, cls: type[Agent]) -> dict[str, Any]:
    if what == "width":
        hidden = ("actor_hidden", "critic_hidden", "value_hidden")
        return {name: (size, size) for name in hidden if name in cls.Config.names()}
    return {"batch_size" if what == "batch" else what: size}


def of_rows(options: argparse.Namespace) -> Iterator[Point]:
    """Steps and bare batches of TD3BC, from memory and from a file, as the dataset grows."""
    for size in (size for size in SIZES["rows"] if size <= options.max_rows):
        if size <= IN_MEMORY:
            yield from of_dataset("in memory", size, in_memory(size), options.device)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            yield from of_dataset("in a file", size, in_file(size, Path(folder)), options.device)


def of_dataset(where: str, size: int, data: Dataset, device: str) -> Iterator[Point]:
    agent = TD3BC(data, device=device)
    yield f"step, {where}", size, steps(agent, data)
    yield f"batch, {where}", size, batches(agent, data)


def in_memory(rows: int) -> OfflineDataset:
    return OfflineDataset.from_arrays(**random_columns(rows), name="random")  # type: ignore[arg-type]


def in_file(rows: int, folder: Path) -> Dataset:
    """The same 100,000 rows again and again. Raises SystemExit where the disk has no room for them."""
    needed, free = 1.2 * ROW * rows, shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"{folder.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} are needed for {rows:,} rows: give "
            "another --folder, or fewer with --max-rows"
        )
    columns = random_columns(CHUNK)
    with PackedWriter(folder / "rows") as writer:
        for _ in range(rows // CHUNK):
            writer.append(columns)
    return open_packed(folder / "rows")


SCALINGS = {
    "batch": Scaling("rows of a batch", STEP, 1, partial(of_settings, "batch")),
    "width": Scaling("units of a hidden layer", STEP, 2, partial(of_settings, "width")),
    "rows": Scaling("transitions of the dataset", "milliseconds of a step, of a batch", 1, of_rows),
    "population": Scaling("members of the population", STEP, 1, partial(of_settings, "population")),
}


def measure(run: Run, device: torch.device, seconds: float) -> dict[str, float]:
    """Milliseconds of one update: median and quartiles of rounds that fill the time."""

    def waited(each: int) -> None:
        for _ in range(each):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize()

    waited(1)
    once = clocked(partial(waited, 1), each=1, updates=1)() / 1e3
    each = max(1, round(ROUND / once))
    rounds = max(LEAST_ROUNDS, round(seconds / (each * once)))
    times = in_turns({"step": clocked(partial(waited, each), each=1, updates=2 * each)}, rounds)["step"]
    q1, median, q3 = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return {"ms": median, "q1": q1, "q3": q3}


def series(points: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The points of each series, in their order."""
    return {name: [p for p in points if p["series"] == name] for name in dict.fromkeys(p["series"] for p in points)}


def exponent(points: list[dict[str, Any]]) -> float:
    """The slope of log cost over log size, by least squares: 1 is proportional."""
    return float(np.polyfit(np.log([p["size"] for p in points]), np.log([p["ms"] for p in points]), 1)[0])


def sentence(name: str, points: list[dict[str, Any]], power: int) -> str:
    first, last = points[0], points[-1]
    growth, cost = last["size"] / first["size"], last["ms"] / first["ms"]
    return (
        f"{name}: {first['ms']:.4g} ms at {first['size']:,}, {last['ms']:.4g} ms at {last['size']:,}: {cost:.4g} x the "
        f"cost for {growth:.4g} x the size, {cost / growth**power:.3f} x what is in proportion; "
        f"exponent {exponent(points):.2f}"
    )


def draw(scaling: Scaling, points: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, part in series(points).items():
        sizes = np.array([p["size"] for p in part])
        ms, q1, q3 = (np.array([p[key] for p in part]) for key in ("ms", "q1", "q3"))
        (curve,) = axes.plot(sizes, ms, "o-", markersize=3, label=name)
        axes.fill_between(sizes, q1, q3, color=curve.get_color(), alpha=0.2)
        (law,) = axes.plot(sizes, ms[0] * (sizes / sizes[0]) ** scaling.power, "--", color="gray", linewidth=0.8)
    law.set_label("in proportion" if scaling.power == 1 else "in proportion to the square")
    every, sizes = (np.unique([p[key] for p in points]) for key in ("ms", "size"))
    axes.set(xscale="log", yscale="log", xlabel=scaling.label, ylabel=scaling.cost)
    axes.set_ylim(every[0] / 1.5, every[-1] * 1.5)
    axes.set_xticks(sizes, [f"{size:,}" if size < 1e5 else f"{size / 1e6:g} M" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=120)


def scale(what: str, options: argparse.Namespace) -> None:
    device, points = torch.device(options.device), []
    for name, size, run in SCALINGS[what].points(options):
        points.append({"series": name, "size": size} | measure(run, device, options.seconds))
        p = points[-1]
        print(f"{what:<10} {name:<17} {size:>11,}  {p['ms']:10.3f} ms ({p['q1']:.3f} to {p['q3']:.3f})", flush=True)
    for name, part in series(points).items():
        print(sentence(name, part, SCALINGS[what].power), flush=True)
    where = machine() | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})
    exponents = {name: exponent(part) for name, part in series(points).items()}
    path = options.out / f"scaling_{what}_{device.type}"
    write_json(path.with_suffix(".json"), {"machine": where, "exponents": exponents, "points": points})
    draw(SCALINGS[what], points, path.with_suffix(".png"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SCALINGS, default=list(SCALINGS), help="what grows")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each point, about; three rounds at least")
    parser.add_argument("--max-rows", type=int, default=10_000_000, help="of the dataset")
    parser.add_argument("--folder", type=Path, help="on a disk with room for the datasets; rows needs it")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args(arguments)
    if "rows" in options.only and options.folder is None:
        parser.error("rows writes datasets: give --folder, on a disk with room for them")
    torch.set_num_threads(1)
    with TD3BC(in_memory(CHUNK), device=options.device).compute():
        for what in options.only:
            scale(what, options)


if __name__ == "__main__":
    main()

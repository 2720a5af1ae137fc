"""PARS's didactic regression: how a network goes on outside its data, with LayerNorm and larger targets.

    python examples/didactic_regression.py --out runs/didactic

The target c * |x| is known on a disk of radius 0.5; the network is asked on [-1, 1]^2. Without LayerNorm it keeps
rising outside. With it, at c = 1, it stays above the largest value of the data; at c = 100 it falls below. Source: Kim
et al. 2025, arXiv 2507.08761, section 3. Not stated there, and chosen here: 2,000 points, full batches, Adam at 1e-3.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.diagnosis.kernel import similarity
from zoo.policies import MLP
from zoo.policies.mlp import Norm

RADIUS = 0.5
ANCHOR = (0.32, -0.38)  # of the kernel, on the rim of the data


class Outcome(NamedTuple):
    """Largest prediction on the disk and outside it and the mean outside, over c; the mean of the kernel outside."""

    norm: str
    scale: float
    inside: float
    outside: float
    mean_outside: float
    similarity: float


def disk(points: int, generator: torch.Generator) -> Tensor:
    """Uniform in the disk, (points, 2)."""
    radius = RADIUS * torch.rand(points, generator=generator).sqrt()
    angle = 2.0 * torch.pi * torch.rand(points, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def fit(norm: Norm, scale: float, steps: int, points: int = 2000, seed: int = 0) -> MLP:
    """A network of three hidden layers of 256, fitted to scale * |x| on the disk."""
    torch.manual_seed(seed)
    network = MLP((2, 256, 256, 256, 1), norm=norm)
    inputs = disk(points, torch.Generator().manual_seed(seed))
    targets = scale * inputs.norm(dim=-1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        loss = (network(inputs).squeeze(-1) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def grid(side: int = 41) -> Tensor:
    """Points of [-1, 1]^2, (side * side, 2)."""
    line = torch.linspace(-1.0, 1.0, side)
    return torch.cartesian_prod(line, line)


def outcome(network: MLP, norm: str, scale: float) -> Outcome:
    points = grid()
    known = points.norm(dim=-1) <= RADIUS
    with torch.no_grad():
        found = network(points).squeeze(-1) / scale
    far = points[~known][::7]  # a seventh is enough for a mean
    kernel = similarity(lambda x: network(x).squeeze(-1), list(network.parameters()), torch.tensor(ANCHOR), far)
    numbers = [float(v) for v in (found[known].max(), found[~known].max(), found[~known].mean(), kernel.mean())]
    return Outcome(norm, scale, *numbers)


def main(scales: Sequence[float], steps: int, out: Path | None) -> list[Outcome]:
    """Prints the table; with out, didactic.csv and didactic.png too."""
    found, networks = [], {}
    for norm in ("none", "before"):
        for scale in scales:
            networks[norm, scale] = fit(norm, scale, steps)  # type: ignore[arg-type]
            found.append(outcome(networks[norm, scale], norm, scale))
            print("  ".join(f"{value:.3f}" if isinstance(value, float) else f"{value:<7}" for value in found[-1]))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "didactic.csv").open("w", newline="") as file:
            csv.writer(file).writerows([Outcome._fields, *found])
        draw(networks, out / "didactic.png")
    return found


def draw(networks: dict[tuple[str, float], MLP], path: Path) -> None:
    """Predictions over scale along a line through the middle of the data."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    line = np.linspace(-2.0, 2.0, 201)
    points = torch.tensor(np.stack([line, 0 * line], -1), dtype=torch.float32)
    for (norm, scale), network in networks.items():
        with torch.no_grad():
            values = network(points).squeeze(-1) / scale
        label = f"{'no LayerNorm' if norm == 'none' else 'LayerNorm'}, c = {scale:g}"
        axes.plot(line, values, "--" if norm == "none" else "-", label=label)
    axes.axvspan(-RADIUS, RADIUS, color="gray", alpha=0.2, label="data")
    axes.set_ylim(-0.5, 2.5)
    axes.set_xlabel("x1, at x2 = 0")
    axes.set_ylabel("prediction / c")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 10.0, 100.0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print("  ".join(Outcome._fields))
    main(options.scales, options.steps, options.out)

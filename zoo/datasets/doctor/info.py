"""describe: what a person wants to know about a dataset before training on it, in 80 columns of text."""

from __future__ import annotations

import textwrap

import numpy as np
from gymnasium.spaces import Box

from zoo.datasets.checks import Array
from zoo.datasets.dataset import OfflineDataset
from zoo.evaluation.scores import REFERENCES, SUCCESS, normalized_score, references, successes

WIDTH = 80
BINS = 8
BAR = 40  # characters of the fullest bin
MAX_DIMS = 24  # rows of the range table per column; an image or a contact vector has too many to read
SHOWN_ELSEWHERE = ("file", "mode", "env_id")


def describe(dataset: OfflineDataset) -> str:
    """A report on source, episodes, returns, spaces, ranges and warnings; lines of at most 80 characters."""
    lengths, returns = dataset.episode_lengths(), dataset.episode_returns()
    source = dataset.provenance
    lines = [dataset.name, "=" * min(len(dataset.name), WIDTH)]
    lines += _entry("source", f"{source.get('file', 'arrays in memory')}")
    if "mode" in source:
        lines += _entry("read in mode", str(source["mode"]))
    for key, value in source.items():
        if key not in SHOWN_ELSEWHERE:
            lines += _entry(key, f"{value:,}" if isinstance(value, int) else str(value))
    lines += _entry("environment", dataset.env_id or "unknown")
    lines += _entry("observations", _space(dataset.observation_space))
    lines += _entry("actions", _space(dataset.action_space))
    lines += _entry("transitions", f"{len(dataset):,}")
    lines += _entry(
        "episodes",
        f"{dataset.num_episodes:,}, with {np.count_nonzero(dataset.terminations):,} terminations and "
        f"{np.count_nonzero(dataset.truncations):,} truncations",
    )
    lines += ["", "per episode        mean         std         min         max"]
    lines += [_statistics("steps", lengths), _statistics("return", returns)]
    if dataset.name in REFERENCES:
        reached = successes(dataset.name, returns)  # AntMaze's episodes go on at the goal
        if reached is not None or references(dataset.name) != SUCCESS:
            lines += [_statistics("score", normalized_score(dataset.name, returns if reached is None else reached))]
    lines += ["", "episodes by return", *_histogram(returns)]
    lines += ["", f"{'column':<22}{'mean':>12}{'std':>12}{'min':>12}{'max':>12}"]
    for name in ("observations", "actions"):
        lines += _ranges(name, dataset.column(name))
    lines += [_range("rewards", dataset.rewards), "", "warnings" if dataset.warnings else "warnings: none"]
    for warning in dataset.warnings:
        lines += textwrap.wrap(warning, WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines)


def _entry(label: str, text: str) -> list[str]:
    return textwrap.wrap(f"{label:<14}{text}", WIDTH, subsequent_indent=" " * 14)


def _space(box: Box) -> str:
    low, high = box.low.min(), box.high.max()
    same = (box.low == low).all() and (box.high == high).all()
    return f"{box.shape[0]} numbers in [{low:g}, {high:g}]" + ("" if same else ", each with bounds of its own")


def _statistics(label: str, values: Array) -> str:
    return f"{label:<11}" + "".join(f"{x:>12,.1f}" for x in (values.mean(), values.std(), values.min(), values.max()))


def _histogram(values: Array) -> list[str]:
    if values.min() == values.max():
        return [f"{values.min():>10,.1f}: all {len(values):,}"]
    counts, edges = np.histogram(values, bins=BINS)
    return [
        f"{low:>10,.1f} .. {high:>10,.1f} |{'#' * round(BAR * count / counts.max()):<{BAR}} {count:,}"
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _ranges(name: str, column: Array) -> list[str]:
    dims = column.shape[1]
    lines = [_range(f"{name}[{dim}]", column[:, dim]) for dim in range(min(dims, MAX_DIMS))]
    if dims > MAX_DIMS:
        lines.append(_range(f"{name}[{MAX_DIMS}:]", column[:, MAX_DIMS:]))
    return lines


def _range(label: str, values: Array) -> str:
    """Mean and std in float64: a float32 sum over a million rows loses digits."""
    cells = (values.mean(dtype=np.float64), values.std(dtype=np.float64), values.min(), values.max())
    return f"{label:<22}" + "".join(f"{cell:>12.4g}" for cell in cells)

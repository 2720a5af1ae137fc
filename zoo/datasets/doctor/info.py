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
USED = 0.05  # part of an action's box below which the box may have another unit


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
    rate = dataset.stated.get("control_rate_hz")
    steps = f", {len(dataset) / rate / 60:,.1f} minutes" if rate else ""
    lines += _entry("control rate", f"{rate:g} Hz{steps}" if rate else "unknown")
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
    lines += ["", f"{'column':<22}{'mean':>10}{'std':>10}{'min':>10}{'max':>10}  limits"]
    for name, names in (("observations", dataset.observation_names), ("actions", dataset.action_names)):
        lines += _ranges(dataset, name, names)
    lines += [_range("rewards", dataset.rewards), ""]
    notices = [*notable(dataset), *dataset.warnings]
    lines.append("to notice" if notices else "warnings: none")
    for notice in notices:
        lines += textwrap.wrap(notice, WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines)


def notable(dataset: OfflineDataset) -> list[str]:
    """What a newcomer should notice, in sentences; zoo data check looks for much more."""
    found = []
    obs, actions = dataset.observations, dataset.actions
    still = np.flatnonzero(obs.max(axis=0) == obs.min(axis=0)) if len(obs) > 1 else ()
    if len(still):
        found.append(f"constant: {', '.join(dataset.observation_names[i] for i in still)}; nothing is learned from it")
    box = dataset.action_space.high - dataset.action_space.low
    narrow = np.flatnonzero((actions.max(axis=0) - actions.min(axis=0)) < USED * box) if len(actions) > 1 else ()
    if len(narrow):
        names = ", ".join(dataset.action_names[i] for i in narrow)
        found.append(f"of the box of {names} less than {USED:.0%} was used: is it in the data's unit?")
    if dataset.num_episodes > 1 and not dataset.terminations.any():
        found.append("nothing terminates: every episode was cut. Right if nothing fails or is ever finished")
    if len(dataset) < 10_000:
        found.append(f"{len(dataset):,} transitions are few; agents that stay close to the data suit them best")
    if not dataset.stated.get("observations"):
        found.append("no names and units are stated: a map gives them, and the robot's contract takes them from it")
    return found


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


def _ranges(dataset: OfflineDataset, name: str, names: tuple[str, ...]) -> list[str]:
    column, entries = dataset.column(name), dataset.stated.get(name) or [{}] * len(names)
    box = dataset.action_space if name == "actions" else None
    lines = []
    for dim in range(min(len(names), MAX_DIMS)):
        entry = entries[dim]
        low, high = (box.low[dim], box.high[dim]) if box is not None else (entry.get("low"), entry.get("high"))
        unit = f" [{entry['unit']}]" if "unit" in entry else ""
        limits = "" if low is None and high is None else f"[{_bound(low)}, {_bound(high)}]"
        lines.append(_range(f"{names[dim]}{unit}", column[:, dim], limits))
    if len(names) > MAX_DIMS:
        lines.append(_range(f"{name}[{MAX_DIMS}:]", column[:, MAX_DIMS:]))
    return lines


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _range(label: str, values: Array, limits: str = "") -> str:
    """Mean and std in float64: a float32 sum over a million rows loses digits."""
    cells = (values.mean(dtype=np.float64), values.std(dtype=np.float64), values.min(), values.max())
    line = f"{label[:21]:<22}" + "".join(f"{cell:>10.4g}" for cell in cells)
    return f"{line}  {limits}".rstrip()

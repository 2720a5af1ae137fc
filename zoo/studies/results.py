"""The evaluations of a study as rows, and what its tables say of them."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.evaluation.callbacks import member_path, read_curve
from zoo.evaluation.scores import normalized_score, references
from zoo.export.files import whole
from zoo.studies.folders import read_status
from zoo.studies.statistics import (
    bootstrap_interval,
    deviation,
    improvement,
    improvement_interval,
    interquartile_mean,
    mean_interval,
    performance_profile,
    pooled,
)
from zoo.studies.study import Cell, Paper, Study

LAST = 3  # evaluations in "mean of the last"
Curves = Mapping[tuple[str, str], list[list[float]]]  # (label, dataset) -> one curve of returns for each seed


@dataclass(frozen=True)
class Row:
    """One evaluation of one seed."""

    label: str
    agent: str
    dataset: str
    seed: int
    step: int
    return_mean: float
    return_std: float
    episodes: int
    state: str  # of the training: done, diverged, ...


def rows_of(folder: Path, cells: Iterable[Cell]) -> list[Row]:
    """Every evaluation that is there, training by training. The seeds of a population are its members, in order."""
    rows = []
    for cell in cells:
        place = folder / cell.place
        state = read_status(place).state
        for index, seed in enumerate(cell.seeds):
            path = place / "evaluations.csv"
            curve = read_curve(path if len(cell.seeds) == 1 else member_path(path, index))
            rows += [
                Row(
                    cell.entry.label,
                    cell.entry.agent,
                    cell.dataset,
                    seed,
                    p.timesteps,
                    round(p.return_mean, 2),
                    round(p.return_std, 2),
                    p.episodes,
                    state,
                )
                for p in curve
            ]
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    with whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))


def curves(rows: Iterable[Row]) -> dict[tuple[str, str], list[list[float]]]:
    by_seed: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in sorted(rows, key=lambda row: row.step):
        by_seed.setdefault((row.label, row.dataset), {}).setdefault(row.seed, []).append(row.return_mean)
    return {key: list(seeds.values()) for key, seeds in by_seed.items()}


def summaries(of: list[list[float]]) -> dict[str, NDArray[np.float64]]:
    """Of each seed's curve: its last evaluation, the mean of the last three, and the best, chosen with hindsight."""
    return {
        "last": np.array([curve[-1] for curve in of]),
        f"mean of last {LAST}": np.array([np.mean(curve[-LAST:]) for curve in of]),
        "best": np.array([max(curve) for curve in of]),
    }


def returns_table(study: Study, found: Curves) -> str:
    """Markdown: mean ± sample deviation over the seeds, and Student's 95 % interval of the mean of the last three."""
    lines = [
        f"| dataset | agent | seeds | last | mean of last {LAST} | 95 % interval | best |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset in study.datasets:
        for entry in study.entries:
            if of := found.get((entry.label, dataset)):
                cells = summaries(of)
                middle = cells[f"mean of last {LAST}"]
                low, high = mean_interval(middle)
                interval = f"{low:.0f} to {high:.0f}" if np.isfinite(low) else "one seed"
                last, mean, best = (with_deviation(values) for values in cells.values())
                row = (dataset, entry.label, len(of), last, mean, interval, best)
                lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def with_deviation(values: NDArray[np.float64], digits: int = 0) -> str:
    return f"{values.mean():.{digits}f}" + (f" ± {deviation(values):.{digits}f}" if len(values) > 1 else "")


def scores(study: Study, found: Curves) -> dict[str, dict[str, NDArray[np.float64]]]:
    """label -> dataset -> normalised scores (seeds,) of the mean of the last three, where a scale is known."""
    return {
        entry.label: {
            dataset: np.asarray(
                normalized_score(dataset, summaries(found[entry.label, dataset])[f"mean of last {LAST}"])
            )
            for dataset in study.datasets
            if (entry.label, dataset) in found and references(dataset) is not None
        }
        for entry in study.entries
    }


def scores_table(study: Study, of: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> str:
    """Markdown: the interquartile mean of the scores over datasets and seeds, and each agent against the first."""
    labels = [label for label in of if of[label]]
    if not labels:
        return "no dataset of this study has a scale of scores"
    first = labels[0]
    lines = [
        f"| agent | datasets | runs | interquartile mean of scores | 95 % interval | P(better than {first}) | 95 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for label in labels:
        low, high = bootstrap_interval(of[label])
        row = [label, len(of[label]), len(pooled(of[label])), f"{interquartile_mean(pooled(of[label])):.1f}"]
        row += [f"{low:.1f} to {high:.1f}"]
        common = set(of[label]) & set(of[first])
        if label == first or not common:
            row += ["-", "-"]
        else:
            bounds = improvement_interval(of[label], of[first])
            row += [f"{improvement(of[label], of[first]):.2f}", f"{bounds[0]:.2f} to {bounds[1]:.2f}"]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def paper_table(study: Study, paper: Paper, of: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> str:
    """Markdown: our scores beside the published ones, and how the two were measured."""
    lines = ["| dataset | agent | ours | paper |", "|---|---|---|---|"]
    for dataset in study.datasets:
        for label, published in paper.scores.items():
            if dataset in published or dataset in of.get(label, {}):
                ours = with_deviation(of[label][dataset], 1) if dataset in of.get(label, {}) else "not run"
                lines.append(f"| {dataset} | {label} | {ours} | {published.get(dataset, '-')} |")
    episodes, every = study.protocol.episodes, study.protocol.every
    ours = (
        f"Ours: {study.steps:,} steps, {len(study.seeds)} seeds, mean of the last {LAST} evaluations, one every "
        f"{every:,} steps, {episodes} episodes each, ± the sample's deviation over the seeds."
    )
    return "\n".join([*lines, "", ours, f"The paper's ({paper.source}): {paper.protocol}."])


def profiles(
    of: Mapping[str, Mapping[str, NDArray[np.float64]]], points: int = 101
) -> tuple[NDArray, dict[str, NDArray]]:
    """Thresholds (points,) between the lowest and highest score, and the share of runs above each, for each agent."""
    every = np.concatenate([pooled(scores) for scores in of.values() if scores])
    thresholds = np.linspace(every.min(), every.max(), points)
    return thresholds, {label: performance_profile(scores, thresholds) for label, scores in of.items() if scores}

"""The report of a study: its tables, and a picture of the curves for each dataset."""

from pathlib import Path

import numpy as np

from zoo.reports import charts
from zoo.reports.page import Page, svg
from zoo.studies.results import Row, curves, paper_table, profiles, returns_table, rows_of, scores, scores_table
from zoo.studies.statistics import mean_interval
from zoo.studies.study import Cell, Study


def study_report(study: Study, folder: Path, cells: list[Cell]) -> Page:
    rows = rows_of(folder, cells)
    found = curves(rows)
    page = Page(study.name, f"{study.steps:,} steps, seeds {', '.join(map(str, study.seeds))}, {folder}")
    page.heading("Returns")
    markdown(page, returns_table(study, found))
    for dataset in study.datasets:
        if drawn := bands_of(rows, dataset):
            page.figure(
                svg(charts.bands(drawn, "steps", "return")),
                f"{dataset}: mean over the seeds, and Student's 95 % interval where there are two or more",
            )
    of = scores(study, found)
    if any(of.values()):
        page.heading("Scores over datasets")
        markdown(page, scores_table(study, of))
        thresholds, shares = profiles(of)
        drawn_profiles = {name: (thresholds.tolist(), values.tolist()) for name, values in shares.items()}
        page.figure(
            svg(charts.lines(drawn_profiles, "score", "share of runs above it")),
            "performance profiles (Agarwal et al. 2021): a line above another one everywhere is better everywhere",
        )
    if study.paper is not None:
        page.heading("Beside the paper")
        markdown(page, paper_table(study, study.paper, of))
    return page


def bands_of(rows: list[Row], dataset: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """label -> steps, mean, low, high (points,), at the steps that all of its seeds have."""
    found = {}
    for label in dict.fromkeys(row.label for row in rows if row.dataset == dataset):
        by_step: dict[int, list[float]] = {}
        for row in rows:
            if (row.label, row.dataset) == (label, dataset):
                by_step.setdefault(row.step, []).append(row.return_mean)
        most = max(map(len, by_step.values()))
        steps = np.array(sorted(step for step, values in by_step.items() if len(values) == most))
        values = np.array([by_step[step] for step in steps])  # (points, seeds)
        mean = values.mean(1)
        bounds = np.array([mean_interval(point) for point in values]) if most > 1 else np.stack([mean, mean], axis=1)
        found[label] = (steps, mean, bounds[:, 0], bounds[:, 1])
    return found


def markdown(page: Page, text: str) -> None:
    """A pipe table, and the lines below it."""
    lines = [line for line in text.splitlines() if line]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    if table:
        page.table(table[0], table[2:])
    for line in lines:
        if not line.startswith("|"):
            page.text(line, "faint")

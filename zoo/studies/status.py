"""How far a study is, and how long the rest will take. Needs no torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.studies.folders import OVER, Status, read_status
from zoo.studies.study import Cell

STATES = ("done", "running", "waiting", "diverged", "failed")


def seconds_left(cells: Sequence[Cell], statuses: Sequence[Status]) -> float | None:
    """Core-seconds of what is not over; None before any cell has taken a step.

    A cell's rate is its own; else the mean of those of the same agent; else of all.
    """
    own = {i: s.seconds / s.steps for i, s in enumerate(statuses) if s.steps and s.seconds}
    if not own:
        return None
    left = 0.0
    for i, (cell, status) in enumerate(zip(cells, statuses, strict=True)):
        if status.state in ("waiting", "running"):
            alike = [rate for k, rate in own.items() if cells[k].entry.label == cell.entry.label]
            rate = own.get(i) or _mean(alike or own.values())
            left += rate * max(cell.steps - status.steps, 0)
    return left


def report(folder: Path, cells: Sequence[Cell], workers: int) -> str:
    """A line for each agent and dataset, and what is left."""
    statuses = [read_status(folder / cell.place) for cell in cells]
    lines = []
    for label, dataset in dict.fromkeys((cell.entry.label, cell.dataset) for cell in cells):
        mine = [s for c, s in zip(cells, statuses, strict=True) if (c.entry.label, c.dataset) == (label, dataset)]
        counts = ", ".join(f"{n} {state}" for state in STATES if (n := sum(s.state == state for s in mine)))
        share = sum(min(s.steps, c.steps) for c, s in zip(cells, statuses, strict=True) if s in mine)
        lines.append(f"{label:<24}{dataset:<32}{counts:<32}{share:>12,} steps")
    lines += [f"! {c.place}: {s.state}: {s.message}" for c, s in zip(cells, statuses, strict=True) if s.message]
    left = seconds_left(cells, statuses)
    over = sum(s.state in OVER for s in statuses)
    rest = "" if over == len(cells) else f"; {duration(None if left is None else left / max(workers, 1))} left"
    return "\n".join([*lines, f"{over} of {len(cells)} trainings are over{rest}"])


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"about {seconds:.0f} seconds"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)

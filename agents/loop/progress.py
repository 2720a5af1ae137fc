"""How far a long loop is: a bar on a terminal, elsewhere a line now and then, with an estimate of what is left."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

FIRST, LONGEST = 10.0, 300.0  # seconds to the first line, and between lines at most


class Progress:
    """with Progress(total, "offline", show) as progress: progress.update(1) after every step.

    show: None is a bar where standard error is a terminal, and nothing elsewhere; True is a bar there, and elsewhere
    lines, each after twice the time of the one before; False is nothing.
    """

    def __init__(self, total: int, what: str, show: bool | None, initial: int = 0):
        terminal = sys.stderr.isatty()
        self.total, self.what, self.done, self.initial = total, what, initial, initial
        self.lines = bool(show) and not terminal
        shown = terminal and show is not False and total > initial
        self.bar = tqdm(
            total=total, initial=initial, desc=what, unit="step", disable=not shown, dynamic_ncols=True, file=sys.stderr
        )
        self.note = ""
        self.began = self.told = 0.0  # at the first step: what comes before it is no part of its rate
        self.pause = FIRST

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def update(self, count: int) -> None:
        if self.done == self.initial:
            self.began = self.told = time.monotonic()
        self.done += count
        self.bar.update(count)
        if self.lines and time.monotonic() - self.told >= self.pause:
            self.told, self.pause = time.monotonic(), min(2 * self.pause, LONGEST)
            print(self.line(self.told - self.began), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """What is told after so many seconds: offline: 1,200 of 100,000 steps, 35 a second, about 47 minutes to go."""
        rate = (self.done - self.initial) / max(seconds, 1e-9)
        left = duration((self.total - self.done) / max(rate, 1e-9))
        return f"{self.what}: {self.done:,} of {self.total:,} steps, {rate:.3g} a second, about {left} to go{self.note}"

    def losses(self, values: dict[str, float]) -> None:
        """Shown beside the bar, or in the next line."""
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()})
        self.note = "".join(f", {name} {value:.3g}" for name, value in values.items())


def duration(seconds: float) -> str:
    """In the words of a person who waits: 40 seconds, 12 minutes, 3.5 hours, 2.1 days."""
    for size, name in ((86_400.0, "days"), (3_600.0, "hours")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds / 60.0:.0f} minutes" if seconds >= 90.0 else f"{seconds:.0f} seconds"

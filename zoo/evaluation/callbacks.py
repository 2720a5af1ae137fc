"""Stable-Baselines3 callbacks for long runs: evaluation on fixed seeds, and the latest checkpoint."""

import csv
import dataclasses
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from zoo.evaluation.rollouts import Evaluator, evaluate
from zoo.evaluation.workers import Maker
from zoo.export.files import whole

EPISODES = 10  # of an evaluation
TAIL = 3  # evaluations whose mean is the end of a curve


@dataclasses.dataclass(frozen=True)
class Point:
    """One evaluation: the agent's clock, and the mean and deviation of the episodes' returns."""

    timesteps: int
    online: bool
    return_mean: float
    return_std: float
    episodes: int = EPISODES  # of files that do not say


def read_curve(path: Path) -> list[Point]:
    """The evaluations in a file of write_curve, oldest first; none if there is no file.

    A row that is no evaluation, such as one that a kill cut off, is left out with a warning.
    """
    if not path.exists():
        return []
    points = []
    with path.open(newline="", errors="replace") as file:
        for row in csv.DictReader(line.replace("\0", "") for line in file):
            try:
                points.append(as_point(row))
            except (KeyError, TypeError, ValueError):
                warnings.warn(f"{path}: left out a damaged row: {row}", stacklevel=2)
    return points


def as_point(row: dict[str, str]) -> Point:
    """Raises KeyError, TypeError or ValueError for a row that is not whole."""
    if row["online"] not in ("True", "False"):
        raise ValueError(f"online must be True or False, got {row['online']!r}")
    return Point(
        timesteps=int(row["timesteps"]),
        online=row["online"] == "True",
        return_mean=float(row["return_mean"]),
        return_std=float(row["return_std"]),
        episodes=int(row.get("episodes", EPISODES)),
    )


def write_curve(path: Path, points: Sequence[Point]) -> None:
    with whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Point)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, points))


def append_point(path: Path, point: Point) -> None:
    """One evaluation more in the file."""
    write_curve(path, [*read_curve(path), point])


def forget_later(path: Path, timesteps: int) -> None:
    """Drops the evaluations of after a step: of what a run did before it went back to its last checkpoint."""
    points = read_curve(path)
    kept = [point for point in points if point.timesteps <= timesteps]
    if len(kept) < len(points):
        write_curve(path, kept)


def lost_return(curve: Sequence[Point]) -> str | None:
    """What to say of a fine-tuning that ended below its beginning; None where it did not.

    The beginning is the last evaluation before it, or its first one; the end, the mean of the last TAIL evaluations.
    Told is a fall by more than a standard error of the difference, or a twentieth.
    """
    online = [point for point in curve if point.online]
    before = [point for point in curve if not point.online and online and point.timesteps <= online[0].timesteps]
    points = [*before[-1:], *online]
    if len(points) < 2:
        return None
    first, tail = points[0], points[1:][-TAIL:]
    last = float(np.mean([point.return_mean for point in tail]))
    fall = first.return_mean - last
    spread = [first.return_std, float(np.mean([point.return_std for point in tail]))]
    error = float(np.linalg.norm(spread)) / first.episodes**0.5
    if fall <= min(error, 0.05 * abs(first.return_mean)):
        return None
    certainty = f", {fall / error:.1f} standard errors" if error else ""
    return (
        f"fine-tuning has lost return: from {first.return_mean:.1f} at step {first.timesteps:,} to {last:.1f}, the "
        f"mean of the last {len(tail)} evaluations{certainty}. The agent from before it is the better one"
    )


def member_path(path: Path, member: int) -> Path:
    """The file of one member of a population: out/member_3/evaluations.csv for out/evaluations.csv."""
    return path.parent / f"member_{member}" / path.name


class OnGrid(BaseCallback):
    """Acts at every multiple of `every` steps of the agent's clock, so that an interrupted run keeps the same grid."""

    def __init__(self, every: int):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        self.every = every

    def _on_training_start(self) -> None:
        self.last = self.model.num_timesteps
        self.end = self.locals.get("total_timesteps", 0)  # of the whole call; an interrupted one does not get there

    def _on_step(self) -> bool:
        now = self.model.num_timesteps  # several environments move the clock by several steps
        if now // self.every > self.last // self.every:
            self.act()
        self.last = now
        return True

    @property
    def finished(self) -> bool:
        """Whether the call has run all its steps."""
        return self.model.num_timesteps >= self.end

    def act(self) -> None:
        raise NotImplementedError


class Evaluation(OnGrid):
    """Every `every` steps and at the last one: deterministic episodes from fixed reset seeds, into log and CSV file.

    SB3's EvalCallback does not fix the seeds of the episodes; here the curves of two runs are comparable. Of a
    population every member is evaluated, and has a file of its own, see member_path. make_env, workers: as in
    rollouts.Evaluator. The workers start with the training and end with it; close() ends them where an error ended the
    training.

    A run that goes on from a checkpoint drops the rows of after it and writes them again. So that none is missing, give
    this callback before SaveLatest: then a checkpoint is never ahead of its curve.

    Fine-tuning is evaluated before its first step too, and warns at its end where it has lost return (lost_return).
    """

    def __init__(
        self,
        make_env: Maker,
        every: int,
        path: Path,
        episodes: int = EPISODES,
        seed: int = 100,
        workers: int | None = 1,
    ):
        super().__init__(every)
        self.evaluator = Evaluator(make_env, workers)
        self.path = path
        self.episodes = episodes
        self.seed = seed
        self.evaluated: int | None = None  # the step of the last evaluation

    def _on_training_start(self) -> None:
        super()._on_training_start()
        now, paths = self.model.num_timesteps, self._paths()
        for path in paths:
            forget_later(path, now)
        if all(now in [point.timesteps for point in read_curve(path)] for path in paths):
            self.evaluated = now
        self.evaluator.start()
        if self._online() and self.evaluated != now and not any(point.online for point in read_curve(self.path)):
            self.act()

    def _on_training_end(self) -> None:
        if self.finished and self.evaluated != self.model.num_timesteps:
            self.act()
        self.close()
        if self.finished and self._online() and (told := lost_return(read_curve(self.path))):
            warnings.warn(told, stacklevel=2)

    def close(self) -> None:
        """Ends the environments and their processes; a further evaluation starts them again."""
        self.evaluator.close()

    def act(self) -> None:
        self.evaluate()

    def evaluate(self) -> None:
        """Evaluates the agent as it is now and appends the result to the file, or to each member's."""
        population = getattr(self.model, "population", None)
        self.evaluated = self.model.num_timesteps
        if population is None:
            self._note("", self.path, self.evaluator.evaluate(self.model, self.episodes, self.seed))
            return
        returns = self.evaluator.evaluate_members(self.model, self.episodes, self.seed)
        self.logger.record("eval/return_mean", float(returns.mean()))
        for member, path in enumerate(self._paths()):
            self._note(f"/member_{member}", path, returns[member])

    def _paths(self) -> list[Path]:
        population = getattr(self.model, "population", None)
        return [self.path] if population is None else [member_path(self.path, i) for i in range(population)]

    def _online(self) -> bool:
        return bool(getattr(self.model, "online", False))

    def _note(self, label: str, path: Path, returns: np.ndarray) -> None:
        point = Point(
            self.model.num_timesteps, self._online(), float(returns.mean()), float(returns.std()), len(returns)
        )
        self.logger.record(f"eval/return_mean{label}", point.return_mean)
        self.logger.record(f"eval/return_std{label}", point.return_std)
        append_point(path, point)


class SaveLatest(OnGrid):
    """Every `every` steps and at the end, also after Ctrl-C: the agent into one file, always a whole checkpoint.

    In a preparation too, every so many of its own steps.
    """

    def __init__(self, path: Path, every: int):
        super().__init__(every)
        self.path = path

    def act(self) -> None:
        self.model.save(self.path)

    def on_preparation_step(self) -> None:
        """Called by the loop after every step of a preparation."""
        if self.model.prepared % self.every == 0:  # type: ignore[attr-defined]
            self.act()

    def _on_training_end(self) -> None:
        self.act()


class ReferenceReturn(BaseCallback):
    """Every `every` steps: what CAR's two densities earn as policies, into the log (reference/return, verifier/return).

    Episodes from fixed reset seeds, as Evaluation; for an agent with predict_density.
    """

    def __init__(self, make_env: Maker, every: int, episodes: int = 10, seed: int = 100):
        super().__init__()
        self.make_env = make_env
        self.every = every
        self.episodes = episodes
        self.seed = seed

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0:
            for name, reference in (("reference", True), ("verifier", False)):
                predict = partial(self.model.predict_density, reference=reference)  # type: ignore[attr-defined]
                policy = SimpleNamespace(predict=predict)
                returns = evaluate(policy, self.make_env, self.episodes, self.seed)
                self.logger.record(f"{name}/return", float(returns.mean()))
        return True

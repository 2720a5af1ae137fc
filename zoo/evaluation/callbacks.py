"""Stable-Baselines3 callbacks for long runs: evaluation on fixed seeds, and the latest checkpoint."""

import csv
import dataclasses
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from zoo.evaluation.rollouts import Evaluator, evaluate
from zoo.evaluation.workers import Maker
from zoo.export.files import whole

EPISODES = 10  # of an evaluation


@dataclasses.dataclass(frozen=True)
class Point:
    """One evaluation: the agent's clock, and the mean and deviation of the episodes' returns."""

    timesteps: int
    online: bool
    return_mean: float
    return_std: float
    episodes: int = EPISODES  # of files that do not say


def read_curve(path: Path) -> list[Point]:
    """The evaluations in a file of append_point, oldest first; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Point(
                timesteps=int(row["timesteps"]),
                online=row["online"] == "True",
                return_mean=float(row["return_mean"]),
                return_std=float(row["return_std"]),
                episodes=int(row.get("episodes", EPISODES)),
            )
            for row in csv.DictReader(file)
        ]


def append_point(path: Path, point: Point) -> None:
    """One evaluation more in a file that read_curve reads."""
    points = [*read_curve(path), point]
    with whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Point)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, points))


def member_path(path: Path, member: int) -> Path:
    """The file of one member of a population: out/member_3/evaluations.csv for out/evaluations.csv."""
    return path.parent / f"member_{member}" / path.name


class Evaluation(BaseCallback):
    """Every `every` steps: deterministic episodes from fixed reset seeds, into the log and a CSV file.

    SB3's EvalCallback does not fix the seeds of the episodes; here the curves of two runs are comparable. Of a
    population every member is evaluated, and has a file of its own, see member_path. make_env, workers: as in
    rollouts.Evaluator. The workers start with the training and end with it; close() ends them where an error ended the
    training.
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
        super().__init__()
        self.evaluator = Evaluator(make_env, workers)
        self.every = every
        self.path = path
        self.episodes = episodes
        self.seed = seed

    def _on_training_start(self) -> None:
        self.evaluator.start()

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0:
            self.evaluate()
        return True

    def _on_training_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends the environments and their processes; a further evaluation starts them again."""
        self.evaluator.close()

    def evaluate(self) -> None:
        """Evaluates the agent as it is now and appends the result to the file, or to each member's."""
        population = getattr(self.model, "population", None)
        if population is None:
            self._note("", self.path, self.evaluator.evaluate(self.model, self.episodes, self.seed))
            return
        returns = self.evaluator.evaluate_members(self.model, self.episodes, self.seed)
        self.logger.record("eval/return_mean", float(returns.mean()))
        for member in range(population):
            self._note(f"/member_{member}", member_path(self.path, member), returns[member])

    def _note(self, label: str, path: Path, returns: np.ndarray) -> None:
        online = bool(getattr(self.model, "online", False))
        point = Point(self.model.num_timesteps, online, float(returns.mean()), float(returns.std()), len(returns))
        self.logger.record(f"eval/return_mean{label}", point.return_mean)
        self.logger.record(f"eval/return_std{label}", point.return_std)
        append_point(path, point)


class SaveLatest(BaseCallback):
    """Every `every` steps and at the end, also after Ctrl-C: the agent into one file, always a whole checkpoint."""

    def __init__(self, path: Path, every: int):
        super().__init__()
        self.path = path
        self.every = every

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0:
            self.model.save(self.path)
        return True

    def _on_training_end(self) -> None:
        self.model.save(self.path)


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

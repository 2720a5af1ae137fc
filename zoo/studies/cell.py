"""One training of a study, in a folder of its own: it goes on where it stopped, and says how it ended.

    python -m zoo.studies.cell FOLDER        FOLDER holds cell.json

Its files are those of zoo train: latest.zip, final.zip, evaluations.csv (in member_<i>/ for the seeds of a population),
and status.json.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import configure

from zoo.agents import AGENTS, Agent
from zoo.datasets.load import open_dataset
from zoo.evaluation.callbacks import Evaluation, SaveLatest
from zoo.evaluation.envs import make_env
from zoo.studies.folders import Status, read_cell, read_status, write_status
from zoo.studies.study import Cell


def run_cell(folder: Path, after_save: Callable[[], None] | None = None) -> Status:
    """Trains, or goes on from latest.zip. Returns how it ended; errors are kept in status.json, not raised.

    after_save: called after each checkpoint, for who carries the files elsewhere.
    """
    cell, before = read_cell(folder), read_status(folder)
    started = time.perf_counter()

    def note(state: str, steps: int, message: str = "") -> Status:
        seconds = before.seconds + time.perf_counter() - started
        return write_status(folder, Status(state, steps, cell.steps, seconds, message))

    note("running", before.steps)
    agent: Agent | None = None
    try:
        data = open_dataset(cell.source)
        agent = begin(cell, data, folder / "latest.zip")
        agent.set_logger(configure(str(folder / "logs"), ["csv"]))
        learn(agent, cell, data, folder, partial(note, "running"), after_save)
        agent.save(folder / "final.zip")
        return note("done", agent.num_timesteps)
    except FloatingPointError as error:
        return note("diverged", agent.num_timesteps if agent else 0, str(error))
    except KeyboardInterrupt:
        note("waiting", agent.num_timesteps if agent else before.steps)
        raise
    except Exception as error:  # a cell that fails is a row of the table, and the study goes on
        return note("failed", agent.num_timesteps if agent else 0, f"{type(error).__name__}: {error}")


def begin(cell: Cell, data: Any, latest: Path) -> Agent:
    cls = AGENTS[cell.entry.agent]
    if latest.exists():
        return cls.load(latest, device=cell.device)
    return cls(
        data,
        seed=cell.seeds[0],
        population=len(cell.seeds) if len(cell.seeds) > 1 else None,
        device=cell.device,
        preset=cell.entry.preset,
        **cell.entry.settings_for(cell.dataset),
    )


def learn(
    agent: Agent,
    cell: Cell,
    data: Any,
    folder: Path,
    note: Callable[[int], Status],
    after_save: Callable[[], None] | None,
) -> None:
    protocol = cell.protocol
    with ExitStack() as stack:
        callbacks: list = []
        if data.env_id is not None:
            evaluation = Evaluation(
                partial(make_env, agent.spec),
                protocol.every,
                folder / "evaluations.csv",
                protocol.episodes,
                protocol.seed,
            )
            callbacks.append(stack.enter_context(closing(evaluation)))
        callbacks.append(Saved(folder / "latest.zip", protocol.every, note, after_save))
        agent.learn_offline(data, max(cell.steps - agent.num_timesteps, 0), callback=callbacks)


class Saved(SaveLatest):
    """SaveLatest that says so."""

    def __init__(self, path: Path, every: int, note: Callable[[int], Status], after_save: Callable[[], None] | None):
        super().__init__(path, every)
        self.note, self.after_save = note, after_save

    def _on_step(self) -> bool:
        going_on = super()._on_step()
        if self.n_calls % self.every == 0:
            self.note(self.model.num_timesteps)
            if self.after_save is not None:
                self.after_save()
        return going_on


def main() -> None:
    folder = Path(sys.argv[1])
    try:
        status = run_cell(folder)
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{folder}: {status.state} {status.message}")


if __name__ == "__main__":
    main()

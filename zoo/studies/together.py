"""Whether the seeds of a cell train faster as one population than as single runs: measured, on the device at hand."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import torch

from zoo.agents import AGENTS
from zoo.datasets.load import open_dataset
from zoo.studies.folders import planned_before, read_plan, write_plan
from zoo.studies.study import Entry, Study

WARM_UP, STEPS = 5, 20  # gradient steps before and during the measurement


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds of a gradient step of one agent, and of one of all seeds as a population."""

    single_ms: float
    population_ms: float
    seeds: int
    workers: int

    @property
    def together(self) -> bool:
        """Whether a population is faster than single runs, as many at a time as there are workers."""
        return self.population_ms < self.single_ms * self.seeds / min(self.workers, self.seeds)


def measure(study: Study, folder: Path, workers: int, device: str) -> dict[tuple[str, str], bool]:
    """(label, dataset) -> together. What the folder's plan.json holds already is not measured again."""
    plan = read_plan(folder)
    for dataset, source in study.datasets.items():
        data = None
        for entry in study.entries:
            if (entry.label, dataset) not in plan:
                data = open_dataset(source) if data is None else data
                timing = time_entry(entry, dataset, data, len(study.seeds), workers, device)
                plan[entry.label, dataset] = {"together": timing.together, **dataclasses.asdict(timing)}
                write_plan(folder, plan)
    return planned_before(folder)


def decided(study: Study, folder: Path, together: bool) -> dict[tuple[str, str], bool]:
    """The same where the user says so; a study goes on as it began."""
    plan = read_plan(folder)
    for dataset in study.datasets:
        for entry in study.entries:
            plan.setdefault((entry.label, dataset), {"together": together})
    write_plan(folder, plan)
    return planned_before(folder)


def time_entry(entry: Entry, dataset: str, data: Any, seeds: int, workers: int, device: str) -> Timing:
    times = []
    for population in (None, seeds):
        settings = entry.settings_for(dataset)
        agent = AGENTS[entry.agent](data, population=population, device=device, preset=entry.preset, **settings)
        table = agent.offline_table(data)
        with agent.compute():
            for step in range(WARM_UP + STEPS):
                if step == WARM_UP:
                    wait(agent.device)
                    started = time.perf_counter()
                agent.update(agent.sample(table))
            wait(agent.device)
        times.append((time.perf_counter() - started) / STEPS * 1e3)
    single, together = times
    return Timing(single, together, seeds, workers)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""zoo study: agents x datasets x seeds from one file: run, plan, status, table, list."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from tyro.conf import Positional

if TYPE_CHECKING:
    from zoo.studies.study import Cell, Study


@dataclass(frozen=True)
class Run:
    """Train and evaluate everything in a study; interrupted at any moment, the same command goes on.

    Args:
        study: TOML file, or the name of one of zoo study list.
        out: folder for the trainings and results.csv; by default runs/ and the study's name.
        on: local, or ray: the cluster that ray.init finds (extra cluster).
        workers: trainings at a time; by default one for each core. On Ray, as many as it has room for.
        gpus: of each training on Ray; a fraction lets several share one.
        seeds: together: the seeds of an agent on a dataset are one population; apart: single runs; measured: what is
            faster here.
        device: auto, cpu or cuda.
    """

    study: Positional[str]
    out: Path | None = None
    on: Literal["local", "ray"] = "local"
    workers: int | None = None
    gpus: float = 0.0
    seeds: Literal["measured", "together", "apart"] = "measured"
    device: str = "auto"

    def run(self) -> None:
        import os

        from zoo.studies.folders import prepare
        from zoo.studies.runner import run_local
        from zoo.studies.status import report

        workers = self.workers or os.cpu_count() or 1
        if workers < 1:
            raise ValueError(f"--workers must be at least 1, got {workers}")
        study, out = opened(self.study, self.out)
        check(study)
        cells = planned(study, out, self.seeds, workers, self.device)
        places = prepare(out, cells)
        print(report(out, cells, workers))
        try:
            if self.on == "ray":
                from zoo.studies.cluster import run_ray

                run_ray(places, self.gpus, lambda place: tell(place, out, cells, workers))
            else:
                run_local(places, workers, lambda place: tell(place, out, cells, workers))
        finally:
            collect(study, out, cells)
        print(tables(study, out, cells))


@dataclass(frozen=True)
class Plan:
    """Make the folders of a study and print those with something left to do, a line each, for another scheduler.

    Each line is the argument of python -m zoo.studies.cell.

    Args:
        study: TOML file, or the name of one of zoo study list.
        out: its folder, as for zoo study run.
        device: auto, cpu or cuda.
    """

    study: Positional[str]
    out: Path | None = None
    device: str = "auto"

    def run(self) -> None:
        from zoo.studies.folders import prepare

        study, out = opened(self.study, self.out)
        check(study)
        print("\n".join(map(str, prepare(out, planned(study, out, "apart", 1, self.device)))))


@dataclass(frozen=True)
class StatusOf:
    """What is done of a study, what is left, and how long it will take.

    Args:
        study: TOML file, or the name of one of zoo study list.
        out: its folder, as for zoo study run.
        workers: trainings at a time.
    """

    study: Positional[str]
    out: Path | None = None
    workers: int | None = None

    def run(self) -> None:
        import os

        from zoo.studies.status import report

        study, out = opened(self.study, self.out)
        print(report(out, known_cells(study, out), self.workers or os.cpu_count() or 1))


@dataclass(frozen=True)
class Table:
    """The results of a study with intervals, and beside a paper's own numbers where the study has them.

    Args:
        study: TOML file, or the name of one of zoo study list.
        out: its folder, as for zoo study run.
    """

    study: Positional[str]
    out: Path | None = None

    def run(self) -> None:
        study, out = opened(self.study, self.out)
        cells = known_cells(study, out)
        collect(study, out, cells)
        print(tables(study, out, cells))


@dataclass(frozen=True)
class List:
    """The studies that come with the package: the papers' tables, with their cost."""

    def run(self) -> None:
        from zoo.studies.study import Study, shipped

        for path in shipped():
            study = Study.read(path)
            print(f"{path.stem:<28}{len(study.cells()):>5} trainings of {study.steps:>9,} steps  {study.cost or ''}")


def opened(name: str, out: Path | None) -> "tuple[Study, Path]":
    from zoo.studies.study import Study, shipped, slug

    path = next((each for each in shipped() if each.stem == name), Path(name))
    study = Study.read(path)
    return study, out or Path("runs") / slug(study.name)


def check(study: "Study") -> None:
    """Builds every agent's config, so that a slip shows before the first training and not after a night."""
    from zoo.agents import AGENTS
    from zoo.studies.study import StudyError

    for entry in study.entries:
        if entry.agent not in AGENTS:
            raise StudyError(f"{study.name}: there is no agent {entry.agent!r}; choose one of {', '.join(AGENTS)}")
        for dataset in study.datasets:
            try:
                AGENTS[entry.agent].Config.build(entry.settings_for(dataset))
            except (TypeError, ValueError) as error:
                raise StudyError(f"{study.name}: {entry.label} on {dataset}: {error}") from error


def planned(study: "Study", out: Path, seeds: str, workers: int, device: str) -> "list[Cell]":
    from zoo.studies.together import decided, measure

    if seeds == "measured" and len(study.seeds) > 1:
        return study.cells(measure(study, out, workers, device), device)
    answer = seeds == "together" and len(study.seeds) > 1
    return study.cells(decided(study, out, answer), device)


def known_cells(study: "Study", out: Path) -> "list[Cell]":
    """The cells as the last run planned them."""
    from zoo.studies.folders import planned_before

    return study.cells(planned_before(out))


def tell(place: Path, out: Path, cells: "list[Cell]", workers: int) -> None:
    from zoo.studies.folders import read_status
    from zoo.studies.status import report

    print(f"{place.relative_to(out)}: {read_status(place).state}; {report(out, cells, workers).splitlines()[-1]}")


def collect(study: "Study", out: Path, cells: "list[Cell]") -> None:
    from zoo.studies.results import rows_of, write_rows

    write_rows(out / "results.csv", rows_of(out, cells))


def tables(study: "Study", out: Path, cells: "list[Cell]") -> str:
    from zoo.studies.results import curves, paper_table, returns_table, rows_of, scores, scores_table

    found = curves(rows_of(out, cells))
    of = scores(study, found)
    parts = [returns_table(study, found), scores_table(study, of)]
    if study.paper is not None:
        parts.append(paper_table(study, study.paper, of))
    parts += unfinished(out, cells)
    return "\n\n".join([*parts, f"every evaluation: {out / 'results.csv'}"])


def unfinished(out: Path, cells: "list[Cell]") -> list[str]:
    """What the tables do not hold, or hold in part: said, not left out."""
    from zoo.studies.folders import read_status

    statuses = {cell.place: read_status(out / cell.place) for cell in cells}
    lines = [
        f"{place}: {status.state} at step {status.steps:,} of {status.of:,} {status.message}"
        for place, status in statuses.items()
        if status.state != "done"
    ]
    return ["\n".join(["Not whole:", *lines])] if lines else []


app = tyro.extras.SubcommandApp()
_COMMANDS: dict[str, Any] = {"run": Run, "plan": Plan, "status": StatusOf, "table": Table, "list": List}
for _name, _command in _COMMANDS.items():
    app.command(_command, name=_name)

"""The folder of a cell: cell.json says what it is, facts.json what its result depends on, status.json how it stands."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.export.files import write_whole
from zoo.studies.study import Cell, Entry, Protocol, StudyError

OVER = ("done", "diverged")


@dataclasses.dataclass(frozen=True)
class Status:
    """How a cell stands, gradient steps done and asked for, and the seconds that they took.

    state: waiting, running, done, diverged (numbers that are not finite) or failed (another error, see message).
    """

    state: str = "waiting"
    steps: int = 0
    of: int = 0
    seconds: float = 0.0
    message: str = ""


def read_status(folder: Path) -> Status:
    path = folder / "status.json"
    return Status(**json.loads(path.read_text())) if path.is_file() else Status()


def write_status(folder: Path, status: Status) -> Status:
    write_json(folder / "status.json", dataclasses.asdict(status))
    return status


def read_cell(folder: Path) -> Cell:
    values = json.loads((folder / "cell.json").read_text())
    entry, protocol = Entry(**values["entry"]), Protocol(**values["protocol"])
    return Cell(**values | {"entry": entry, "protocol": protocol, "seeds": tuple(values["seeds"])})


def prepare(folder: Path, cells: list[Cell]) -> list[Path]:
    """Makes the cells' folders below the study's, and returns those of which something is left to do.

    Raises StudyError where a folder holds a training of other settings: nothing goes on as something else.
    """
    todo = []
    for cell in cells:
        place = folder / cell.place
        if (place / "facts.json").is_file():
            check_same(place, json.loads((place / "facts.json").read_text()), cell.facts())
        write_json(place / "facts.json", cell.facts())
        write_json(place / "cell.json", dataclasses.asdict(cell))
        status = read_status(place)
        if status.state not in OVER or (status.state == "done" and status.steps < cell.steps):
            todo.append(place)
    return todo


def check_same(place: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [f"{name} was {was.get(name)!r}, is {now[name]!r}" for name in now if was.get(name) != now[name]]
    if changed:
        raise StudyError(
            f"{place} was trained with other settings: {'; '.join(changed)}. Give another --out, another label, or "
            "remove that folder"
        )


Plan = dict[tuple[str, str], dict[str, Any]]  # (label, dataset) -> whether its seeds train together, and why


def read_plan(folder: Path) -> Plan:
    path = folder / "plan.json"
    if not path.is_file():
        return {}
    return {(label, name): facts for label, of in json.loads(path.read_text()).items() for name, facts in of.items()}


def write_plan(folder: Path, plan: Plan) -> None:
    nested: dict[str, dict[str, Any]] = {}
    for (label, dataset), facts in plan.items():
        nested.setdefault(label, {})[dataset] = facts
    write_json(folder / "plan.json", nested)


def planned_before(folder: Path) -> dict[tuple[str, str], bool]:
    return {key: facts["together"] for key, facts in read_plan(folder).items()}


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(values, indent=2).encode())

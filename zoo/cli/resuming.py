"""run.json: what a run was begun with. The same command goes on with it; another one is refused."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.export.files import Lock, write_whole

RECORD = "run.json"
# What a run leaves in its folder, and --fresh removes. Logs are numbered, and stay.
LEFT = (
    RECORD,
    "latest.zip",
    "final.zip",
    "evaluations.csv",
    "offline.zip",
    "finetuned.zip",
    "curve.csv",
    "curve.png",
)
SHOWN = 40  # characters of a value in a message

Settings = Mapping[str, Any]  # name -> JSON value


def only_writer(out: Path) -> Lock:
    """The right to write into a run's folder. Raises InUseError where another process has it."""
    return Lock(out, out / ".lock")


def begin_run(out: Path, settings: Settings, fresh: bool, earlier: Settings | None = None) -> None:
    """Writes out/run.json, or compares with the one that is there.

    settings: everything that decides what the run computes, not how far it goes nor where. fresh: removes what an
    earlier run left. earlier: of a folder without a run.json, what its checkpoint tells.
    Raises ValueError that names every difference and the way out.
    """
    if fresh:
        remove_run(out)
    record = out / RECORD
    settings = json.loads(json.dumps(settings))  # tuples are lists in the file
    before = None if fresh else read_record(out) or earlier
    if before is not None:
        found = differences(before, settings)
        if found:
            raise ValueError(
                f"{out} holds a run with other settings: {'; '.join(found)}. Give another --out, or --fresh to remove "
                "that run and begin anew"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_whole(record, json.dumps(settings, indent=2).encode())


def read_record(out: Path) -> dict[str, Any] | None:
    """The settings in out/run.json; None where there is none. Raises ValueError for a damaged one."""
    record = out / RECORD
    if not record.is_file():
        return None
    try:
        return dict(json.loads(record.read_text()))
    except ValueError as error:
        raise ValueError(f"{record} is damaged ({error}): give another --out, or --fresh") from error


def differences(before: Settings, now: Settings) -> list[str]:
    """One "name: was ..., is ..." for each setting that differs. Nested tables are compared entry by entry.

    A name that only one of the two has was not known to the version that wrote the other: it is not compared.
    """
    found = []
    for name in (name for name in before if name in now):
        was, is_ = before[name], now[name]
        if isinstance(was, Mapping) and isinstance(is_, Mapping):
            found += differences(was, is_)
        elif json.loads(json.dumps(was)) != json.loads(json.dumps(is_)):
            found.append(f"{name}: was {_shown(was)}, is {_shown(is_)}")
    return found


def remove_run(out: Path) -> None:
    """Removes what runs write under a name of their own, in `out` and in its members' folders."""
    for name in LEFT:
        (out / name).unlink(missing_ok=True)
    for folder in out.glob("member_*"):
        shutil.rmtree(folder)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."

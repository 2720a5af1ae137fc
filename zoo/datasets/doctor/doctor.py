"""zoo data check: what is wrong with a dataset, in words. Works on raw columns, so also where loading is refused."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zoo.datasets import sources
from zoo.datasets.checks import MATRICES, Array, DatasetError, DatasetNotFoundError
from zoo.datasets.dataset import OfflineDataset, box_for, squeeze
from zoo.datasets.doctor.findings import examine
from zoo.datasets.doctor.recording import FLAGS, FLOATS, ORDER, Finding, Recording
from zoo.datasets.episodes import ends_of
from zoo.datasets.load import load_dataset, open_recording
from zoo.datasets.mapping.apply import box_of, rows_of
from zoo.datasets.mapping.logs import prepared
from zoo.datasets.packed import PackedDataset, check_packed, is_packed, open_packed
from zoo.datasets.readers import arrays, d4rl
from zoo.datasets.sealed import check_seal
from zoo.datasets.sizes import open_hdf5
from zoo.datasets.vocabulary import ALL_NAMES, check_needed, our_names

STATUS = {"note": 0, "warning": 2, "error": 3}  # exit statuses; 1 is any command's failure
WIDTH = 80
COLUMNS = (*FLOATS, *FLAGS)
D4RL = {"terminations": "terminals", "truncations": "timeouts"}  # names inside the doctor


def check(name_or_path: str | Path, **reading: Any) -> list[Finding]:
    """Everything found in a dataset or a log, errors first. reading: load_dataset's arguments, such as a map.

    Raises DatasetNotFoundError where there is no such dataset.
    """
    return diagnose(name_or_path, **reading)[1]


def diagnose(name_or_path: str | Path, **reading: Any) -> tuple[Recording | None, list[Finding]]:
    """The recording, None where it cannot be read, and everything found in it. Arguments and errors: check's."""
    reading = {key: value for key, value in reading.items() if value is not None}
    try:
        recording = record(name_or_path, reading)
        findings = examine(recording)
    except DatasetError as error:
        if isinstance(error, DatasetNotFoundError):
            raise
        return None, [_refused(error)]
    if not any(finding.severity == "error" for finding in findings) and not is_packed(name_or_path):
        try:
            load_dataset(name_or_path, **reading)
        except DatasetError as error:
            findings.insert(0, _refused(error))
    return recording, findings


def status(findings: list[Finding]) -> int:
    """The exit status: 0 healthy, 2 with a warning, 3 with an error."""
    return max((STATUS[finding.severity] for finding in findings), default=0)


def report(name: str, findings: list[Finding]) -> str:
    """The findings as text of at most 80 columns."""
    if not findings:
        return f"{name}: no problems found"
    lines = []
    for finding in findings:
        lines += textwrap.wrap(f"{finding.severity}: {finding.title}", WIDTH)
        for label, text in (("where", finding.where), ("means", finding.meaning), ("to do", finding.fix)):
            lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {label}  ", subsequent_indent=" " * 9)
        lines.append("")
    counts = {severity: sum(f.severity == severity for f in findings) for severity in ORDER}
    summary = ", ".join(f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count)
    return "\n".join([*lines, f"{name}: {summary}"])


def record(name_or_path: str | Path, reading: Mapping[str, Any]) -> Recording:
    """The columns as the file has them, where it has some; else as its reader gives them."""
    if is_packed(name_or_path):
        data = open_packed(name_or_path)
        check_packed(name_or_path)
        return _of_packed(data)
    source = sources.locate(name_or_path)
    if "map" in reading or source.format == "table":
        return _of_log(name_or_path, reading)
    if source.format == "d4rl":
        return _bounded(_read_hdf5(source.path), reading)
    if source.format == "npz":
        return _bounded(_of_columns(source.path.name, arrays.load_npz(source.path), d4rl.FLAGS), reading)
    return _of_dataset(load_dataset(name_or_path, **reading))


def _bounded(recording: Recording, reading: Mapping[str, Any]) -> Recording:
    """The recording with the limits and the time limit that a person gave."""
    if "action_space" in reading:
        size = recording.columns["actions"].shape[-1] if "actions" in recording.columns else 1
        box = box_for(reading["action_space"], size)
        recording = replace(recording, action_low=box.low, action_high=box.high)
    if "max_episode_steps" in reading and "timeouts" not in recording.columns and "terminals" in recording.columns:
        timeouts = arrays.count_timeouts(recording.flag("terminals"), reading["max_episode_steps"])
        recording = replace(recording, columns={**recording.columns, "timeouts": timeouts})
    return recording


def _of_log(path: str | Path, reading: Mapping[str, Any]) -> Recording:
    """A log through its map, with its clock."""
    table, log_map = prepared([open_recording(path)], reading.get("map"), Path(path).name)
    rows = rows_of(table, log_map)
    columns = {D4RL.get(name, name): column for name, column in rows.columns.items()}
    columns["timeouts"] = rows.ends & ~(columns["terminals"] > 0.5)
    walks_on = bool((rows.columns["terminations"] & ~rows.ends).any())
    if walks_on:
        columns["timeouts"] = rows.ends
    for name in FLOATS:  # in float64 only because a map computes in it
        if name in columns:
            columns[name] = columns[name].astype(np.float32)
    box = box_of(log_map, columns["actions"])
    recording = Recording(
        table.name, columns, ("timeouts",) if walks_on else d4rl.FLAGS, box.low, box.high, times=rows.times
    )
    return _named(recording, log_map.stated)


def _of_packed(data: PackedDataset) -> Recording:
    """The first rows of a packed folder, as many as it may take of memory."""
    rows = slice(0, max(1, data.memory // (4 * data.width)))
    columns = {name: np.asarray(data.column(name)[rows]) for name in FLOATS if name != "rewards"}
    columns |= {"rewards": np.asarray(data.column("rewards")[rows])}
    columns |= {name: np.asarray(data.column(ours)[rows]) for ours, name in D4RL.items()}
    box = data.action_space
    recording = Recording(data.name, columns, action_low=box.low, action_high=box.high)
    return _named(recording, data.stated)


def _named(recording: Recording, stated: Mapping[str, Any]) -> Recording:
    """The recording with the names, the sensors' ranges and the rate that were stated."""
    entries = {kind: stated[kind] for kind in ("observations", "actions") if kind in stated}
    names = {
        kind: tuple(entry.get("name") or f"{kind}[{i}]" for i, entry in enumerate(found))
        for kind, found in entries.items()
    }
    limits = tuple(
        (-np.inf if entry.get("low") is None else entry["low"], np.inf if entry.get("high") is None else entry["high"])
        for entry in entries.get("observations", ())
    )
    return replace(recording, names=names, limits=limits, rate=stated.get("control_rate_hz"))


def _read_hdf5(path: Path) -> Recording:
    with open_hdf5(path) as file:
        check_seal(file, path)
        keys = {key for key in file if isinstance(file[key], h5py.Dataset) and key in ALL_NAMES}
        columns: dict[str, Array] = {key: file[key][()] for key in keys}
        attributes = dict(file.attrs)
        if not keys:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            check_needed(path.name, {}, names, limit_known=True)
    known = d4rl.BY_FILE_NAME.get(path.name)
    ends = d4rl.FLAGS if known is None else known.episode_ends
    if "episode_ends" in attributes:
        ends = tuple(str(attributes["episode_ends"]).split())
    return _of_columns(path.name, columns | attributes, ends)


def _of_columns(name: str, values: Mapping[str, Any], episode_ends: tuple[str, ...]) -> Recording:
    """Columns and bounds of a file, under any of the names that readers know."""
    columns = {D4RL.get(ours, ours): values[key] for ours, key in our_names(name, values).items()}
    if "timeouts" not in columns and "episode_ids" in columns and "terminals" in columns:
        columns["timeouts"] = ends_of(squeeze(columns["episode_ids"])) & ~(squeeze(columns["terminals"]) > 0.5)
    recording = Recording(
        name,
        _squeezed({key: columns[key] for key in COLUMNS if key in columns}),
        episode_ends,
        values.get("action_low", -1.0),
        values.get("action_high", 1.0),
    )
    return _named(recording, arrays.stated_in(name, values))


def _squeezed(columns: dict[str, Array]) -> dict[str, Array]:
    return {key: column if key in MATRICES else squeeze(column) for key, column in columns.items()}


def _of_dataset(dataset: OfflineDataset) -> Recording:
    columns = {name: dataset.column(name) for name in FLOATS}
    last = np.append(np.diff(dataset.episode_ids) == 1, True)
    columns |= {"terminals": dataset.terminations, "timeouts": last & ~dataset.terminations}
    walks_on = bool((dataset.terminations & ~last).any())
    columns |= {"timeouts": last} if walks_on else {}
    ends = ("timeouts",) if walks_on else d4rl.FLAGS
    recording = Recording(dataset.name, columns, ends, dataset.action_space.low, dataset.action_space.high)
    return _named(recording, dataset.stated)


def _refused(error: DatasetError) -> Finding:
    return Finding("error", "load_dataset refuses it", "the file", 1, str(error), "See the message above.")

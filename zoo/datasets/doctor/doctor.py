"""zoo data check: what is wrong with a dataset, in words. Works on raw columns, so also where loading is refused."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zoo.datasets import sources
from zoo.datasets.checks import MATRICES, Array, DatasetError
from zoo.datasets.dataset import OfflineDataset, squeeze
from zoo.datasets.doctor.findings import FLAGS, FLOATS, ORDER, Finding, Recording, examine
from zoo.datasets.episodes import ends_of
from zoo.datasets.load import load_dataset
from zoo.datasets.packed import check_packed, is_packed, open_packed
from zoo.datasets.readers import arrays, d4rl
from zoo.datasets.sealed import check_seal
from zoo.datasets.sizes import open_hdf5
from zoo.datasets.vocabulary import ALL_NAMES, our_names

STATUS = {"note": 0, "warning": 2, "error": 3}  # exit statuses; 1 is any command's failure
WIDTH = 80
COLUMNS = (*FLOATS, *FLAGS)
D4RL = {"terminations": "terminals", "truncations": "timeouts"}  # names inside the doctor


def check(name_or_path: str | Path) -> list[Finding]:
    """Everything found in a dataset, errors first. Raises DatasetNotFoundError where there is no such dataset."""
    if is_packed(name_or_path):
        return _of_packed(name_or_path)
    source = sources.locate(name_or_path)
    try:
        recording = _record(source)
        findings = examine(recording)
    except DatasetError as error:
        return [_refused(error)]
    if not any(finding.severity == "error" for finding in findings):
        try:
            load_dataset(name_or_path)
        except DatasetError as error:
            findings.insert(0, _refused(error))
    return findings


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


def _record(source: sources.Source) -> Recording:
    if source.format == "d4rl":
        return _read_hdf5(source.path)
    if source.format == "npz":
        return _of_columns(source.path.name, arrays.load_npz(source.path), d4rl.FLAGS)
    return _of_dataset(load_dataset(source.name or source.path))


def _of_packed(path: str | Path) -> list[Finding]:
    """What can be told of a packed folder without loading it: whether it is the one that was written."""
    try:
        open_packed(path)
        check_packed(path)
    except DatasetError as error:
        return [_refused(error)]
    return []


def _read_hdf5(path: Path) -> Recording:
    with open_hdf5(path) as file:
        check_seal(file, path)
        keys = {key for key in file if isinstance(file[key], h5py.Dataset) and key in ALL_NAMES}
        columns: dict[str, Array] = {key: file[key][()] for key in keys}
        attributes = dict(file.attrs)
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
    return Recording(
        name,
        _squeezed({key: columns[key] for key in COLUMNS if key in columns}),
        episode_ends,
        values.get("action_low", -1.0),
        values.get("action_high", 1.0),
    )


def _squeezed(columns: dict[str, Array]) -> dict[str, Array]:
    return {key: column if key in MATRICES else squeeze(column) for key, column in columns.items()}


def _of_dataset(dataset: OfflineDataset) -> Recording:
    columns = {name: dataset.column(name) for name in FLOATS}
    last = np.append(np.diff(dataset.episode_ids) == 1, True)
    columns |= {"terminals": dataset.terminations, "timeouts": last & ~dataset.terminations}
    walks_on = bool((dataset.terminations & ~last).any())
    columns |= {"timeouts": last} if walks_on else {}
    ends = ("timeouts",) if walks_on else d4rl.FLAGS
    return Recording(dataset.name, columns, ends, dataset.action_space.low, dataset.action_space.high)


def _refused(error: DatasetError) -> Finding:
    return Finding("error", "load_dataset refuses it", "the file", 1, str(error), "See the message above.")

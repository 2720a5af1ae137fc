"""Recordings and a map, to one dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.checks import DatasetValueError
from zoo.datasets.dataset import Limits, OfflineDataset, box_for
from zoo.datasets.episodes import LastRow
from zoo.datasets.mapping.apply import dataset_of
from zoo.datasets.mapping.logmap import LogMap, MapLike, read_map
from zoo.datasets.mapping.resample import resample
from zoo.datasets.table import Streams, Table, flat, joined
from zoo.datasets.vocabulary import our_names

Recording = Table | Streams
ROLES = {"reward": "rewards", "terminated": "terminations", "truncated": "truncations", "episode": "episode_ids"}


def mapped(
    recordings: Sequence[Recording],
    log_map: MapLike | None,
    name: str,
    *,
    action_space: Limits | None = None,
    last_row: LastRow | None = None,
) -> OfflineDataset:
    """Recordings of one layout as a dataset; action_space and last_row win over the map."""
    table, whole = prepared(recordings, log_map, name)
    if action_space is not None:
        whole = with_limits(whole, action_space)
    if last_row is not None:
        whole = replace(whole, last_row=last_row)
    return dataset_of(table, whole, whole.name or name)


def prepared(recordings: Sequence[Recording], log_map: MapLike | None, name: str) -> tuple[Table, LogMap]:
    """The recordings as one table, and the map completed by what their format says itself."""
    own = read_map({} if log_map is None else log_map)
    table = joined([resample(part, own) if isinstance(part, Streams) else part for part in recordings], name)
    says = {**by_vocabulary(table), **table.known}
    known = {key: value for key, value in says.items() if key not in ("observations", "actions")}
    given = {key: value for key, value in vars(own).items() if value != getattr(LogMap(), key)}
    for kind in ("observations", "actions"):
        given[kind] = filled(getattr(own, kind), says.get(kind, ()), table.columns)
    return table, read_map(known | given)


def filled(mine: Sequence[Any], known: Sequence[Any], columns: Mapping[str, Any]) -> list[Any]:
    """The entries of a map, those that name no column completed by the format's own at their place."""
    if not mine or len(mine) != len(known):
        return list(mine or known)
    complete = []
    for entry, other in zip(mine, known, strict=True):
        other = {"name": other, "column": other} if isinstance(other, str) else dict(other)
        placed = "column" not in entry and entry.get("name") not in columns
        complete.append({**other, **entry} if placed or entry.get("column") == other.get("column") else entry)
    return complete


def by_vocabulary(table: Table) -> dict[str, Any]:
    """What columns say that have the names of zoo.datasets.vocabulary, vectors as observations[0], observations[1]."""
    stems = dict.fromkeys(name.split("[")[0] for name in table.columns)
    found = our_names(table.name, stems)
    known: dict[str, Any] = {key: found[ours] for key, ours in ROLES.items() if found.get(ours) in table.columns}
    for kind in ("observations", "actions"):
        parts = [name for name in table.columns if name.split("[")[0] == found.get(kind)]
        known[kind] = [{"column": name} for name in parts]
    sent = [np.abs(table.columns[entry["column"]]).max() for entry in known["actions"]]
    if sent and max(sent) <= 1:  # the box that arrays have where nothing is said
        known["actions"] = [{**entry, "low": -1.0, "high": 1.0} for entry in known["actions"]]
    return known


def table_of_dataset(data: OfflineDataset) -> Table:
    """A dataset as a table with a map of its own, so that another map may name, choose or convert its columns."""
    box, entries = data.action_space, data.stated
    columns = {**flat("observations", data.observations), **flat("actions", data.actions), "rewards": data.rewards}
    flags = {"terminations": data.terminations, "truncations": data.truncations, "episode_ids": data.episode_ids}
    stated = {kind: entries.get(kind) or [{}] * getattr(data, kind).shape[1] for kind in ("observations", "actions")}
    known: dict[str, Any] = {
        "observations": [{**entry, "column": f"observations[{i}]"} for i, entry in enumerate(stated["observations"])],
        "actions": [
            {**entry, "column": f"actions[{i}]", "low": float(low), "high": float(high)}
            for i, (entry, low, high) in enumerate(zip(stated["actions"], box.low, box.high, strict=True))
        ],
        "reward": "rewards",
        "terminated": "terminations",
        "truncated": "truncations",
        "episode": "episode_ids",
        "name": data.name,
        "env_id": data.env_id,
        "control_rate_hz": entries.get("control_rate_hz"),
    }
    return Table(
        data.name,
        {**columns, **flags},
        np.zeros(len(data), np.int64),
        flat("observations", data.next_observations),
        known={key: value for key, value in known.items() if value is not None},
        provenance=data.provenance,
        notes=data.warnings,
    )


def with_limits(log_map: LogMap, limits: Limits) -> LogMap:
    """The map with other limits of its actions. Raises DatasetValueError where their number is another one."""
    box = box_for(limits, len(log_map.actions))
    if box.shape != (len(log_map.actions),):
        raise DatasetValueError(
            f"the action box has {box.shape[0]} components, the map {len(log_map.actions)} actions."
        )
    limited = tuple(
        {**entry, "low": float(low), "high": float(high)}
        for entry, low, high in zip(log_map.actions, box.low, box.high, strict=True)
    )
    return replace(log_map, actions=limited)


def source_of(files: Sequence[Path], log_map: MapLike | None) -> dict[str, str]:
    """What was read, for the provenance: the files, a hash of their contents, and the hash of the map.

    logs and logs_sha256 stay when the dataset is written into another file; file, sha256 and path are of this one.
    """
    whole = hashlib.sha256()
    for path in files:
        parts = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
        for part in parts:
            with part.open("rb") as opened:
                whole.update(hashlib.file_digest(opened, "sha256").digest())
    names = ", ".join(path.name for path in files[:20])
    about = {"logs": names, "logs_sha256": whole.hexdigest(), "file": names, "sha256": whole.hexdigest()}
    if len(files) == 1:
        about["path"] = str(files[0].absolute())
    if isinstance(log_map, str | Path):
        about["map_sha256"] = hashlib.sha256(Path(log_map).read_bytes()).hexdigest()
    return about

"""LeRobot datasets, v3 (many episodes a file) and v2 (a file each): meta/info.json and data/**/*.parquet, by pyarrow.

Source: huggingface.co/docs/lerobot/lerobot-dataset-v3. Videos are not read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.readers.columnar import columns_of
from zoo.datasets.table import Table


def read(path: Path) -> Table:
    """The columns of a dataset by its folder; vectors with the names of their features, observation.state[shoulder].

    Raises DatasetValueError for a folder that is not whole.
    """
    try:
        info = json.loads((path / "meta" / "info.json").read_text())
        features = info["features"]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetValueError(f"{path}/meta/info.json cannot be read ({error}). Download it again.") from error
    files = sorted((path / "data").glob("**/*.parquet"))
    if not files:
        raise DatasetValueError(f"{path} has no data/**/*.parquet. Download it again.")
    try:
        content = pa.concat_tables([pyarrow.parquet.read_table(file) for file in files])
    except (pa.ArrowException, OSError) as error:
        raise DatasetValueError(f"{path}: its data cannot be read ({error}). Download it again.") from error
    if "total_frames" in info and content.num_rows != info["total_frames"]:
        raise DatasetValueError(
            f"{path} has {content.num_rows:,} rows, meta/info.json says {info['total_frames']:,}. Download it again."
        )
    columns: dict[str, Array] = {}
    for name, column in columns_of(path.name, content).items():
        key, bracket, index = name.partition("[")
        names = _names(features.get(key, {}))
        columns[f"{key}[{names[int(index[:-1])]}]" if bracket and names else name] = column
    if "index" in columns:
        order = np.argsort(columns["index"], kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
    known: dict[str, Any] = {"episode": "episode_index", "time": "timestamp", "control_rate_hz": float(info["fps"])}
    known["observations"] = [name for name in columns if name.startswith("observation.")]
    known["actions"] = [name for name in columns if name.split("[")[0] == "action"]
    if "next.reward" in columns:
        known["reward"] = "next.reward"
    provenance = {"file": path.name, "format": f"LeRobot {info.get('codebase_version', '')}".strip()}
    recordings = np.zeros(content.num_rows, np.int64)
    return Table(path.name, columns, recordings, known=known, provenance=provenance)


def _names(feature: dict[str, Any]) -> list[str]:
    """The names of a feature's components: a list, or {"motors": [...]}; none where they do not fit."""
    names = feature.get("names")
    if isinstance(names, dict):
        names = next((value for value in names.values() if isinstance(value, list)), None)
    shape = feature.get("shape", [])
    fits = isinstance(names, list) and len(shape) == 1 and len(names) == shape[0]
    return [str(name) for name in names] if fits and names else []

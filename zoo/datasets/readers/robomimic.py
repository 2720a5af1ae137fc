"""robomimic's HDF5: data/demo_0/{actions, rewards, dones, obs/..., next_obs/...}, a group for each demonstration.

Source: robomimic.github.io/docs/datasets/overview.html. Its algorithms take dones for states without a future, and so
does the map that comes with the file; a map of your own may say otherwise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.table import Table, flat, joined

WIDEST = 128  # components of an observation that is a vector and no image


def read(path: Path) -> Table:
    """Every demonstration's columns: actions[i], rewards, dones, and obs keys such as robot0_eef_pos[0]; no images.

    Raises DatasetValueError for a file that h5py cannot read, or without actions.
    """
    try:
        with h5py.File(path) as file:
            data = file["data"]
            demos = sorted(data, key=lambda name: int(re.sub(r"\D", "", name) or 0))
            tables = [_demo(f"{path.name}: {name}", data[name]) for name in demos]
            env_args = data.attrs.get("env_args")
    except (OSError, KeyError) as error:
        raise DatasetValueError(f"{path.name} cannot be read ({error}). It is damaged or cut off.") from error
    table = joined(tables, path.stem)
    provenance: dict[str, Any] = {"file": path.name, "demonstrations": len(demos)}
    if env_args is not None:
        provenance["env_args"] = str(env_args)
    return Table(**{**vars(table), "provenance": provenance, "known": _known(table)})


def _demo(name: str, group: h5py.Group) -> Table:
    if "actions" not in group:
        raise DatasetValueError(f"{name} has no actions; it has {', '.join(group)}.")
    rows = len(group["actions"])
    columns: dict[str, Array] = {}
    successors: dict[str, Array] = {}
    for key in ("actions", "rewards", "dones", "states"):
        if key in group:
            columns |= flat(key, group[key][()])
    for folder, into in (("obs", columns), ("next_obs", successors)):
        for key, item in group.get(folder, {}).items():
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub" and np.prod(item.shape[1:]) <= WIDEST:
                into |= flat(key, item[()])
    return Table(name, columns, np.zeros(rows, np.int64), successors)


def _known(table: Table) -> dict[str, Any]:
    own = ("actions", "rewards", "dones", "states")
    observations = [name for name in table.columns if name.split("[")[0] not in own]
    known: dict[str, Any] = {
        "episode": "file",
        "observations": observations or [name for name in table.columns if name.startswith("states[")],
        "actions": [{"column": name, "low": -1.0, "high": 1.0} for name in table.columns if name.startswith("actions")],
    }
    known |= {"reward": "rewards"} if "rewards" in table.columns else {}
    known |= {"terminated": "dones"} if "dones" in table.columns else {}
    return known

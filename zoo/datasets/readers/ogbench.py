"""OGBench: its .npz files, with the rewards of its single-task ids.

Source: seohongpark/ogbench; Park et al. 2025, arXiv 2410.20092. A file holds trajectories of T + 1 rows whose last row
carries terminals = 1 and no action. `terminals` are the ends of trajectories; whether a state has a future is in
`masks`, which come with the rewards of a task.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import gymnasium
import numpy as np
from numpy.typing import NDArray

from zoo.datasets.checks import Array, DatasetKeyError, DatasetNotFoundError, as_floats, check_columns
from zoo.datasets.dataset import Limits, OfflineDataset, episode_index, squeeze
from zoo.datasets.places import home
from zoo.datasets.readers.arrays import load_npz

URL = "https://rail.eecs.berkeley.edu/datasets/ogbench"
NEEDED = ("observations", "actions", "terminals")
STATE = ("qpos", "button_states")  # what the rewards of a task are computed from

ID = re.compile(
    r"(?P<env>(?:pointmaze|antmaze|humanoidmaze|antsoccer|cube|scene|puzzle)(?:-[a-z0-9]+)?)"
    r"-(?P<data>navigate|stitch|explore|play|noisy)"
    r"(?P<task>-singletask(?:-task[1-5])?)?"
    r"-v0"
)


def find_file(name: str) -> Path:
    """Path of the file of an OGBench id: in $OGBENCH_DATASET_DIR if that is set, else or then in ~/.ogbench/data.

    Raises DatasetNotFoundError with the URL when the file is absent.
    """
    file_name = f"{_without_task(name)}.npz"
    for folder in folders():
        if (folder / file_name).is_file():
            return folder / file_name
    raise DatasetNotFoundError(
        f"the file of {name}, {file_name}, is not in {' or '.join(str(folder) for folder in folders())}.\n"
        f"`zoo data download {name}` fetches it (in Python download=True), or\n"
        f"Download {url_of(name)}\nand save it as {folders()[0] / file_name}"
    )


def url_of(name: str) -> str:
    """Where OGBench publishes the file of an id."""
    return f"{URL}/{_without_task(name)}.npz"


def folders() -> list[Path]:
    """Where OGBench's files are looked for; the first is where they are downloaded to."""
    own = os.environ.get("OGBENCH_DATASET_DIR")
    return [*([Path(own).expanduser()] if own else []), home() / ".ogbench" / "data"]


def read_ogbench(path: Path, *, name: str | None = None, action_space: Limits | None = None) -> OfflineDataset:
    """Read a file in OGBench's layout: as published, or as its loader returns it, compact or with next_observations.

    name: the single-task id whose rewards and masks are wanted ("antmaze-medium-navigate-singletask-v0"); they are
    computed by the ogbench package. A file that holds rewards and masks itself needs neither. Steps after success
    stay in their trajectory. action_space defaults to [-1, 1]^A, which is OGBench's.
    Raises DatasetNotFoundError, DatasetKeyError, DatasetValueError, or ImportError without the ogbench package.
    """
    raw = load_npz(path)
    missing = [key for key in NEEDED if key not in raw]
    if missing:
        raise DatasetKeyError(f"{path.name} lacks {', '.join(missing)} of OGBench's keys; it has {', '.join(raw)}.")
    numbers: dict[str, Array] = {
        key: squeeze(as_floats(path.name, key, raw[key])) for key in ("terminals", "valids", "masks") if key in raw
    }
    check_columns(path.name, {"observations": raw["observations"], "actions": raw["actions"], **numbers})
    flags = {key: column > 0.5 for key, column in numbers.items()}
    rows, successors, ends = _transitions(raw, flags)
    columns = {key: array[rows] for key, array in raw.items()}
    task = ID.fullmatch(name or "")
    env_id = f"{task['env']}{task['task']}-v0" if task and task["task"] else None
    if env_id is not None:
        columns |= _rewards_of(env_id, columns)
    elif "rewards" not in raw or "masks" not in raw:
        raise DatasetKeyError(
            f"{path.name} is goal-conditioned: it has no rewards and masks. " + _how_to_choose_a_task(name or path.stem)
        )
    terminations = squeeze(columns["masks"]) < 0.5
    return OfflineDataset.from_arrays(
        observations=columns["observations"],
        actions=columns["actions"],
        rewards=columns["rewards"],
        next_observations=successors,
        terminations=terminations,
        truncations=ends & ~terminations,
        episode_ids=episode_index(ends),
        action_space=action_space,
        name=name or path.stem,
        env_id=None if env_id is None else f"ogbench:{env_id}",
        provenance={"file": path.name, "rows_in_file": len(raw["terminals"])},
    )


def _transitions(raw: Mapping[str, Array], flags: Mapping[str, NDArray[np.bool_]]) -> tuple[Array, Array, Array]:
    """Rows that are transitions, their next observations, and which of them end a trajectory."""
    ends = flags["terminals"]
    if "next_observations" in raw:
        rows = np.arange(len(ends))
        successors = raw["next_observations"]
    else:
        last_states = ~flags["valids"] if "valids" in flags else ends
        last_states[-1] = True  # of a file that was cut: the last row has no successor
        rows = np.flatnonzero(~last_states)
        successors = raw["observations"][rows + 1]
        ends = last_states[np.minimum(np.arange(len(ends)) + 1, len(ends) - 1)]
    last = ends[rows]
    last[-1:] = True
    return rows, successors, last


def _rewards_of(env_id: str, columns: dict[str, Array]) -> dict[str, Array]:
    """Rewards and masks of a task, from the recorded states, as the ogbench package defines them."""
    try:
        from ogbench.relabel_utils import relabel_dataset
    except ImportError as error:
        raise ImportError(
            f"the rewards of {env_id} are computed by OGBench's package ({error}): "
            "pip install 'offline-agent-zoo[ogbench]'"
        ) from error
    if "qpos" not in columns:
        raise DatasetKeyError(
            f"the rewards of {env_id} need the key qpos, which the file lacks: use the published one."
        )
    env = gymnasium.make(f"ogbench:{env_id}")
    try:
        states = {key: columns[key] for key in STATE if key in columns}
        relabel_dataset(env_id, env, states)
    finally:
        env.close()
    return {"rewards": states["rewards"], "masks": states["masks"]}


def _without_task(name: str) -> str:
    return re.sub(r"-singletask(-task[1-5])?", "", name)


def _how_to_choose_a_task(name: str) -> str:
    if ID.fullmatch(name):
        return f"Load {name.removesuffix('-v0')}-singletask-v0, or -singletask-task1-v0 to -task5-v0, by that name."
    return "Load a single-task id such as antmaze-medium-navigate-singletask-v0, or store the two columns."

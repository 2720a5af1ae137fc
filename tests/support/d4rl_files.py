"""Small HDF5 files in D4RL's layout, so that no test needs a download."""

from pathlib import Path

import h5py
import numpy as np


def worked_example() -> dict[str, np.ndarray]:
    """8 rows, observation 10 i, reward i: 0-2 run into a time limit, 3-5 into a terminal, 6-7 have no end."""
    return {
        "observations": np.array([[0.0], [10.0], [20.0], [30.0], [40.0], [50.0], [60.0], [70.0]], np.float32),
        "actions": np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7]], np.float32),
        "rewards": np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], np.float32),
        "terminals": np.array([0, 0, 0, 0, 0, 1, 0, 0], bool),
        "timeouts": np.array([0, 0, 1, 0, 0, 0, 0, 0], bool),
    }


def true_successors() -> np.ndarray:
    """next_observations of worked_example: 29, 59 and 79 end its episodes and are no row's observation."""
    return np.array([[10.0], [20.0], [29.0], [40.0], [50.0], [59.0], [70.0], [79.0]], np.float32)


def write_hdf5(path: Path, columns: dict[str, np.ndarray], **attributes: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, column in columns.items():
            file[key] = column
        file.attrs.update(attributes)
    return path

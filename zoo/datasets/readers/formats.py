"""The formats that are read as tables or streams, and meet a map. A new format is a line in FORMATS."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zoo.datasets.checks import DatasetNotFoundError, DatasetValueError
from zoo.datasets.table import Streams, Table


@dataclass(frozen=True)
class Format:
    """One format: its name, what a path of it looks like, and the module of readers/ whose read(path) opens it."""

    name: str
    recognizes: Callable[[Path], bool]
    module: str
    extra: str = ""  # of setup.cfg, where a library is needed

    def read(self, path: Path) -> Table | Streams:
        """Raises DatasetValueError for a damaged file, ImportError where the library is not installed."""
        try:
            module = importlib.import_module(f"zoo.datasets.readers.{self.module}")
            read: Callable[[Path], Table | Streams] = module.read
            return read(path)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"reading {path} ({self.name}) needs a library ({error}): pip install 'offline-agent-zoo[{self.extra}]'"
            ) from error


def _suffix(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.suffix.lower() in suffixes


def _episodes_folder(path: Path) -> bool:
    if not path.is_dir():
        return False
    inside = [child for child in path.iterdir() if not child.name.startswith(".")]
    folders = [child for child in inside if child.is_dir()]
    return any(child.suffix == ".npz" for child in inside) or any(
        grandchild.suffix == ".npy" for child in folders[:3] for grandchild in child.iterdir()
    )


def _robomimic(path: Path) -> bool:
    if not (path.is_file() and path.suffix in (".hdf5", ".h5")):
        return False
    import h5py

    try:
        with h5py.File(path) as file:
            data = file.get("data")
            return isinstance(data, h5py.Group) and any(isinstance(data[key], h5py.Group) for key in data)
    except OSError:
        return False  # the reader of HDF5 says what is wrong


FORMATS: list[Format] = [
    Format("robomimic", _robomimic, "robomimic"),
    Format("CSV", _suffix(".csv", ".tsv"), "columnar", "logs"),
    Format("Parquet", _suffix(".parquet"), "columnar", "logs"),
    Format("LeRobot", lambda path: (path / "meta" / "info.json").is_file(), "lerobot", "logs"),
    Format("MCAP", _suffix(".mcap"), "mcap", "logs"),
    Format("ROS 1 bag", _suffix(".bag"), "rosbag", "logs"),
    Format("ROS 2 bag", lambda path: (path / "metadata.yaml").is_file(), "rosbag", "logs"),
    Format("folder of episodes", _episodes_folder, "folder"),
]


def format_of(path: Path) -> Format | None:
    """The first format that recognizes the path; None where none does."""
    return next((format for format in FORMATS if format.recognizes(path)), None)


def open_raw(path: Path) -> Table | Streams:
    """A table or streams of any format that is read so. Raises DatasetNotFoundError, DatasetValueError, ImportError."""
    if not path.exists():
        raise DatasetNotFoundError(f"there is no file or folder {path}.")
    format = format_of(path)
    if format is None:
        raise DatasetValueError(f"{path} is of none of the formats {', '.join(f.name for f in FORMATS)}.")
    return format.read(path)

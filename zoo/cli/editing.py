"""zoo data merge | split | filter: datasets out of datasets, episode by episode."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from zoo.cli.logs import summary
from zoo.cli.reading import Reading


@dataclass(frozen=True)
class Merge(Reading):
    """Join datasets of one robot into one.

    Args:
        paths: two or more datasets, and at the end what is written: an HDF5 file, or a folder.
        overwrite: replace what is there under the name.
    """

    paths: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DATASET... OUT")]
    overwrite: bool = False

    def run(self) -> None:
        from zoo.datasets.dataset import OfflineDataset
        from zoo.datasets.writers import write

        if len(self.paths) < 3:
            raise ValueError("zoo data merge takes two or more datasets and then the file or folder to write")
        *sources, out = self.paths
        data = OfflineDataset.join([self.load(path) for path in sources], out.stem)
        print(f"{summary(data)}\nwrote {write(data, out, self.overwrite)}")


@dataclass(frozen=True)
class Split(Reading):
    """Split a dataset into two by whole episodes, drawn at random: to train on, and to hold out.

    Args:
        path: name or path of a dataset.
        first: HDF5 file or folder to write.
        second: likewise, with the other episodes.
        part: of the episodes that goes into the first.
        seed: of the draw.
        overwrite: replace what is there under the names.
    """

    path: Positional[str]
    first: Positional[Path]
    second: Positional[Path]
    part: float = 0.9
    seed: int = 0
    overwrite: bool = False

    def run(self) -> None:
        from zoo.datasets.editing import split
        from zoo.datasets.writers import write

        for data, out in zip(split(self.load(self.path), self.part, self.seed), (self.first, self.second), strict=True):
            print(f"{summary(data)}\nwrote {write(data, out, self.overwrite)}")


@dataclass(frozen=True)
class Filter(Reading):
    """Keep the episodes of a dataset that are wanted; every bound that is given holds.

    Args:
        path: name or path of a dataset.
        out: HDF5 file or folder to write.
        min_return: sum of the raw rewards, at least.
        max_return: at most.
        min_length: steps, at least.
        max_length: at most.
        ends: only episodes that terminated, or that were cut.
        top: best part by return of what the bounds leave, such as 0.1.
        overwrite: replace what is there under the name.
    """

    path: Positional[str]
    out: Positional[Path]
    min_return: float | None = None
    max_return: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    ends: Literal["any", "terminated", "truncated"] = "any"
    top: float | None = None
    overwrite: bool = False

    def run(self) -> None:
        from zoo.datasets.editing import Wanted, filtered
        from zoo.datasets.writers import write

        wanted = Wanted(self.min_return, self.max_return, self.min_length, self.max_length, self.ends, self.top)
        data = filtered(self.load(self.path), wanted)
        print(f"{summary(data)}\nwrote {write(data, self.out, self.overwrite)}")

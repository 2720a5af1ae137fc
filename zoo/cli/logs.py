"""zoo data map | import: own logs in."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from zoo.cli.reading import Reading

if TYPE_CHECKING:
    from zoo.datasets.dataset import OfflineDataset


@dataclass(frozen=True)
class MapCommand:
    """Write a first map of a log, guesses marked, for you to correct: what is an observation, an action, the reward.

    Args:
        file: a log: CSV, Parquet, npz, HDF5, a folder of episodes, LeRobot, MCAP, a ROS bag, or any dataset.
        out: TOML file to write; by default it is printed.
    """

    file: Positional[Path]
    out: Path | None = None

    def run(self) -> None:
        from zoo.datasets.load import open_recording
        from zoo.datasets.mapping.guess import first_map
        from zoo.export.files import write_whole

        text = first_map(open_recording(self.file), str(self.file))
        if self.out is None:
            print(text, end="")
        elif self.out.exists():
            raise FileExistsError(f"{self.out} exists, and may hold your corrections: choose another name")
        else:
            write_whole(self.out, text.encode())
            print(f"wrote {self.out}: correct it, above all its guesses, then zoo data import {self.file} OUT --map "
                  f"{self.out}")  # fmt: skip


@dataclass(frozen=True)
class Import(Reading):
    """Read logs of one layout, by a map, into one dataset for zoo train.

    Args:
        paths: one or more logs, and at the end what is written: an HDF5 file in D4RL's layout, or a folder, which
            agents learn from without loading it.
        name: of the dataset; by default the map's or the file's.
        reward: of the log of a control loop (zoo_robot's Recorder), which has none: package.module:function of
            observations (N, O), actions (N, A) and next_observations (N, O) to (N,). docs/control.md has the rule.
        done: likewise, true where next_observations is a state without a future; by default none is.
        overwrite: replace what is there under the name.
    """

    paths: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE... OUT")]
    name: str | None = None
    reward: str | None = None
    done: str | None = None
    overwrite: bool = False

    def run(self) -> None:
        from zoo.datasets.writers import write

        if len(self.paths) < 2:
            raise ValueError("zoo data import takes one or more logs and then the file or folder to write")
        data = self.read(self.paths[:-1])
        written = write(data, self.paths[-1], self.overwrite)
        print(summary(data))
        print(f"wrote {written}; look at it with zoo data check {written}, learn from it with zoo train")

    def read(self, files: tuple[Path, ...]) -> "OfflineDataset":
        from dataclasses import replace

        from zoo.datasets.load import read_logs
        from zoo.datasets.readers.runlog import function, is_runlog, read_runlog

        if is_runlog(files[0]):
            if self.reward is None or len(files) > 1:
                raise ValueError(
                    f"{files[0]} is the log of a control loop: give one at a time, and --reward module:function, "
                    "for a robot logs no rewards"
                )
            data = read_runlog(files[0], function(self.reward), function(self.done) if self.done else None)
            return replace(data, name=self.name) if self.name else data
        if self.reward or self.done:
            raise ValueError("--reward and --done are for the log of a control loop; a map names a reward column")
        if len(files) == 1:
            data = self.load(files[0])
            return replace(data, name=self.name) if self.name else data
        if self.mode or self.max_episode_steps:
            raise ValueError("several files are read by a map: say mode and max_episode_steps there")
        return read_logs(files, self.map, name=self.name, action_space=self.limits, last_row=self.last_row)


def summary(data: "OfflineDataset") -> str:
    """What was read, in a few lines: rows, ends, and what was decided of last rows."""
    import numpy as np

    last = np.append(np.diff(data.episode_ids) == 1, True)
    failed = int((data.terminations & last).sum())
    returns = data.episode_returns()
    lines = [
        f"{data.name}: {len(data):,} transitions in {data.num_episodes:,} episodes; {failed:,} end in a termination, "
        f"{data.num_episodes - failed:,} are cut",
        f"  returns {returns.min():g} to {returns.max():g}, rewards {data.rewards.min():g} to {data.rewards.max():g}",
        f"  observations: {', '.join(data.observation_names[:40])}",
        f"  actions: {', '.join(data.action_names[:40])}",
        *(f"  note: {warning}" for warning in data.warnings),
    ]
    return "\n".join(lines)

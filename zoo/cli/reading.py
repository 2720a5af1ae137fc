"""How a dataset is to be read: the options that every command shares that opens one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from zoo.datasets.dataset import OfflineDataset


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a dataset is to be read.

    Args:
        map: TOML file that says what the columns of a log are; zoo data map writes a first one.
        mode: of HDF5 files in D4RL's layout: full, or parity, the rows of d4rl's qlearning_dataset.
        max_episode_steps: the time limit, of files that do not mark it.
        last_row: a last row that is not terminal and whose successor is not in the log: left out, or kept with its own
            observation as the successor.
        action_low: limits of the actions, one number or one for each; by default the file's, else -1.
        action_high: likewise, else 1.
    """

    map: Path | None = None
    mode: Literal["full", "parity"] | None = None
    max_episode_steps: int | None = None
    last_row: Literal["drop", "keep"] | None = None
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()

    @property
    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Raises ValueError where only one of the two was given."""
        if bool(self.action_low) != bool(self.action_high):
            raise ValueError("give both, --action-low and --action-high")
        return (self.action_low, self.action_high) if self.action_low else None

    @property
    def options(self) -> dict[str, Any]:
        """load_dataset's arguments."""
        return {
            "map": self.map,
            "mode": self.mode,
            "max_episode_steps": self.max_episode_steps,
            "last_row": self.last_row,
            "action_space": self.limits,
        }

    def load(self, path: str | Path) -> "OfflineDataset":
        from zoo.datasets.load import load_dataset

        return load_dataset(path, **self.options)

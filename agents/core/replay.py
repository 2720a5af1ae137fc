"""Transitions as one table on the device: a batch is a single gather."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.agents.core.batch import CHOSEN, Batch
from zoo.agents.core.compute import zeros
from zoo.agents.core.config import AgentConfig
from zoo.agents.core.spec import Dataset


class Layout:
    """Where each column of a Batch lies in a row of the table."""

    def __init__(self, columns: tuple[str, ...], observation_size: int, action_size: int):
        wide = {
            "observations": observation_size,
            "next_observations": observation_size,
            "actions": action_size,
            "next_actions": action_size,
        }
        self.slices: dict[str, slice] = {}
        start = 0
        for name in columns:
            stop = start + wide.get(name, 1)
            self.slices[name] = slice(start, stop)
            start = stop
        self.width = start
        self.scalars = {name for name in columns if name not in wide}

    def pack(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Columns (N,) or (N, k) to rows (N, width), float32."""
        count = len(columns["rewards"])
        rows = np.empty((count, self.width), dtype=np.float32)
        for name, where in self.slices.items():
            rows[:, where] = columns[name].reshape(count, -1)
        return rows

    def unpack(self, rows: Tensor) -> Batch:
        """Rows (..., B, width) to a Batch of views."""
        views = {name: rows[..., where] for name, where in self.slices.items()}
        return Batch(**{name: view.squeeze(-1) if name in self.scalars else view for name, view in views.items()})


class Table:
    """Rows of transitions (capacity, width), filled from the start; `size` of them are valid."""

    def __init__(self, layout: Layout, capacity: int, device: torch.device, dtype: torch.dtype):
        self.layout = layout
        self.rows = zeros((capacity, layout.width), device, dtype)
        self.size = 0
        self.next = 0

    @classmethod
    def of(cls, dataset: Dataset, layout: Layout, device: torch.device, dtype: torch.dtype) -> "Table":
        """The whole dataset. Raises KeyError for a column that it cannot supply, ValueError if it is empty."""
        if len(dataset) == 0:
            raise ValueError(f"{dataset.name} has no transitions to learn from")
        columns = {
            name: np.full(len(dataset), CHOSEN[name]) if name in CHOSEN else dataset.column(name)
            for name in layout.slices
        }
        table = cls(layout, len(dataset), device, dtype)
        table.append(columns)
        return table

    @property
    def capacity(self) -> int:
        return len(self.rows)

    @property
    def total(self) -> int:
        """Rows of the data that batches come from; `size` of them are in the table."""
        return self.size

    def advance(self, rows: int) -> None:
        """Told before each update how many rows its batch will draw."""

    def append(self, columns: dict[str, np.ndarray]) -> Tensor:
        """Adds transitions; a full table forgets its oldest. Returns where they went, (n,)."""
        return self.append_rows(torch.from_numpy(self.layout.pack(columns)).to(self.rows))

    def append_rows(self, rows: Tensor) -> Tensor:
        """The same for rows (n, width) that are packed already; n is at most the capacity."""
        where = (self.next + torch.arange(len(rows), device=self.rows.device)) % self.capacity
        self.rows[where] = rows
        self.next = (self.next + len(rows)) % self.capacity
        self.size = min(self.size + len(rows), self.capacity)
        return where

    def column(self, name: str) -> Tensor:
        """A view of one column of the valid rows, (size,) or (size, k)."""
        view = self.rows[: self.size, self.layout.slices[name]]
        return view.squeeze(-1) if name in self.layout.scalars else view

    def choose(self, name: str, values: Tensor) -> None:
        """Fills in a column of the agent's own choice (batch.CHOSEN), (total,)."""
        self.column(name).copy_(values)

    def gather(self, indices: Tensor) -> Tensor:
        """Rows (*indices.shape, width)."""
        return self.rows.index_select(0, indices.reshape(-1)).view(*indices.shape, self.layout.width)

    def split(self, count: int) -> Iterator[Tensor]:
        """All of the data in their order, `count` rows at a time, (count, width)."""
        yield from self.rows[: self.size].split(count)

    def fetch(self, indices: Tensor) -> Tensor:
        """Rows (*indices.shape, width) by their place in all of the data, below total."""
        return self.gather(indices)

    def restore(self, rows: Tensor, following: int) -> None:
        """Puts back what was saved of a table: its valid rows, and where the next one goes."""
        self.rows[: len(rows)] = rows
        self.size, self.next = len(rows), following


def starting_rows(config: AgentConfig, dataset: Dataset) -> Tensor:
    """Rows of the whole dataset ("all"), or of its part_episodes episodes of highest return ("part")."""
    if config.online_buffer == "all":
        return torch.arange(len(dataset))
    return torch.from_numpy(best_episodes(dataset, config.part_episodes))


def best_episodes(dataset: Dataset, count: int) -> NDArray[np.int64]:
    """Indices of the rows of the `count` episodes of highest return, the earlier one of equals, in the data's order."""
    episodes = dataset.column("episode_ids")
    returns = np.bincount(episodes, weights=dataset.column("rewards").astype(np.float64))
    best = np.argsort(-returns, kind="stable")[:count]
    return np.flatnonzero(np.isin(episodes, best))

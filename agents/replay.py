"""Transitions as one table on the device: a batch is a single gather."""

from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from agents.batch import CHOSEN, Batch
from agents.spec import Dataset


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
    """Rows of transitions (capacity, width), filled from the start; `size` of them are valid.

    resident: whether they lie in the device's memory.
    """

    resident: ClassVar[bool] = True

    def __init__(self, layout: Layout, capacity: int, device: torch.device, dtype: torch.dtype):
        self.layout = layout
        self.rows = torch.zeros(capacity, layout.width, device=device, dtype=dtype)
        self.size = 0
        self.next = 0

    @classmethod
    def of(cls, dataset: Dataset, layout: Layout, device: torch.device, dtype: torch.dtype) -> "Table":
        """The whole dataset; one that is packed in a file stays there. Raises KeyError for a column that it cannot
        supply, ValueError if it is empty."""
        if len(dataset) == 0:
            raise ValueError(f"{dataset.name} has no transitions to learn from")
        if isinstance(dataset, Packed):
            return PackedTable(dataset, layout, device, dtype)
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

    def gather(self, indices: Tensor) -> Tensor:
        """Rows (*indices.shape, width)."""
        return self.rows.index_select(0, indices.reshape(-1)).view(*indices.shape, self.layout.width)

    def restore(self, rows: Tensor, following: int) -> None:
        """Puts back what was saved of a table: its valid rows, and where the next one goes."""
        self.rows[: len(rows)] = rows
        self.size, self.next = len(rows), following


@runtime_checkable
class Packed(Protocol):
    """A dataset whose transitions lie in a file, a row of float32 for each; zoo.packed.PackedDataset is one."""

    @property
    def slices(self) -> Mapping[str, slice]: ...  # column -> its place in a packed row
    @property
    def name(self) -> str: ...
    def column(self, name: str) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def gather(self, indices: np.ndarray) -> np.ndarray: ...  # (n,) to packed rows (n, width)


class PackedTable(Table):
    """A table whose rows stay in a file: the same batches as from memory, gathered as they are asked for."""

    resident = False

    def __init__(self, dataset: Packed, layout: Layout, device: torch.device, dtype: torch.dtype):
        self.layout = layout
        self.dataset = dataset
        self.device, self.dtype = device, dtype
        self.size, self.next = len(dataset), 0
        self.chosen = {
            name: torch.full((self.size,), value, dtype=dtype, device=device)
            for name, value in CHOSEN.items()
            if name in layout.slices
        }
        self.follows = np.append(np.diff(dataset.column("episode_ids")) == 0, False)  # by the next row, (N,)
        unknown = layout.slices.keys() - dataset.slices.keys() - self.chosen.keys() - set(FOLLOWING)
        if unknown:
            raise KeyError(f"{dataset.name} has no column {', '.join(sorted(unknown))} in its file")

    @property
    def capacity(self) -> int:
        return self.size

    @property
    def rows(self) -> Tensor:  # type: ignore[override]
        raise ValueError(
            f"{self.dataset.name} is left in its file, and this asks for all of its rows at once: load it into memory"
        )

    def append_rows(self, rows: Tensor) -> Tensor:
        raise ValueError(f"{self.dataset.name} is left in its file, which is only read")

    def column(self, name: str) -> Tensor:
        """A column of the agent's own choice, (size,), which is in memory. Raises ValueError for any other."""
        if name not in self.chosen:
            raise ValueError(f"{self.dataset.name} is left in its file, and this asks for all of its {name} at once")
        return self.chosen[name]

    def gather(self, indices: Tensor) -> Tensor:
        """Rows (*indices.shape, width)."""
        where = indices.reshape(-1).cpu().numpy()
        rows = self.dataset.gather(where)
        if self.layout.slices != self.dataset.slices:
            rows = self._arrange(rows, where)
        result = torch.from_numpy(rows).to(self.device, self.dtype)
        for name, values in self.chosen.items():
            result[:, self.layout.slices[name]] = values[indices.reshape(-1)].unsqueeze(-1)
        return result.view(*indices.shape, self.layout.width)

    def _arrange(self, packed: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Packed rows in the agent's layout, with the columns that are the next row's."""
        rows = np.empty((len(where), self.layout.width), np.float32)
        for name, place in self.layout.slices.items():
            if name in self.dataset.slices:
                rows[:, place] = packed[:, self.dataset.slices[name]]
            elif name == "next_actions":
                following = self.dataset.gather(where + self.follows[where])
                rows[:, place] = following[:, self.dataset.slices["actions"]]
            elif name == "next_action_valid":
                rows[:, place] = self.follows[where, None]
        return rows


FOLLOWING = ("next_actions", "next_action_valid")  # columns that are the next row's

"""Datasets larger than memory: a window over the file, which batches are drawn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.agents.core.batch import CHOSEN
from zoo.agents.core.replay import Layout, Table

Rows = NDArray[np.float32]  # (n, width)
PIECES = 256  # of a window: enough that it looks like the whole, few enough that each is a fast read
FOLLOWING = ("next_actions", "next_action_valid")  # columns that are the next row's


@runtime_checkable
class Packed(Protocol):
    """A dataset whose transitions lie in a file, a row of float32 for each, as zoo.datasets.packed has them."""

    @property
    def name(self) -> str: ...
    @property
    def slices(self) -> Mapping[str, slice]: ...  # column -> its place in a packed row
    @property
    def memory(self) -> int: ...  # bytes that its rows may take in memory
    def column(self, name: str) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def read(self, start: int, stop: int) -> Rows: ...  # packed rows
    def gather(self, indices: NDArray[np.int64]) -> Rows: ...  # packed rows (n, width) of indices (n,)


def table_of(
    dataset: Packed, layout: Layout, device: torch.device, dtype: torch.dtype, seed: int = 0, drawn: int = 0
) -> Table:
    """All of the dataset's rows where its memory has room for them, else a window.

    seed, drawn: of the window. Raises KeyError for a column that the file does not have.
    """
    unknown = layout.slices.keys() - dataset.slices.keys() - CHOSEN.keys() - set(FOLLOWING)
    if unknown:
        raise KeyError(f"{dataset.name} has no column {', '.join(sorted(unknown))} in its file")
    room = room_for(dataset, layout, dtype)
    if room < len(dataset):
        return Window(dataset, layout, device, dtype, room // PIECES, seed, drawn)
    table = Table(layout, len(dataset), device, dtype)
    table.append_rows(torch.from_numpy(read(dataset, layout, 0, len(dataset))))
    return table


def room_for(dataset: Packed, layout: Layout, dtype: torch.dtype) -> int:
    """How many rows the dataset's memory has room for: whole pieces, of one row at least."""
    return PIECES * max(dataset.memory // (PIECES * layout.width * dtype.itemsize), 1)


class Window(Table):
    """PIECES pieces of a dataset, each `piece` consecutive rows of it; others come in their place, one after the other.

    A pass cuts the dataset into pieces, from a random row on and round its end, and takes them in random order. As many
    rows come in as a batch draws, so that a row is drawn once in a pass on average. What the window holds follows from
    seed and drawn alone: training goes on bit for bit. A thread reads the piece that comes next.

    seed: of the order. drawn: how many rows have been drawn so far.
    """

    def __init__(
        self,
        dataset: Packed,
        layout: Layout,
        device: torch.device,
        dtype: torch.dtype,
        piece: int,
        seed: int = 0,
        drawn: int = 0,
    ):
        super().__init__(layout, PIECES * piece, device, dtype)
        self.size = self.capacity
        self.dataset, self.piece, self.seed, self.drawn = dataset, piece, seed, drawn
        self.chosen = {
            name: torch.full((self.total,), value, dtype=dtype)
            for name, value in CHOSEN.items()
            if name in layout.slices
        }
        self.thread = ThreadPoolExecutor(1, "zoo-window")
        self.next = drawn // piece  # the piece that comes next, counted from the first pass's first
        self.coming: Future[Tensor] = self.thread.submit(self.read, self.next)
        for _ in range(PIECES):
            self.move()

    @property
    def total(self) -> int:
        return len(self.dataset)

    def advance(self, rows: int) -> None:
        self.drawn += rows
        while self.next < self.drawn // self.piece + PIECES:
            self.move()

    def move(self) -> None:
        """Takes in the next piece, in the oldest one's place. Raises OSError where the file has become shorter."""
        self.place(self.next).copy_(self.coming.result(), non_blocking=True)
        self.fill(self.place(self.next), self.indices(self.next))
        self.next += 1
        self.coming = self.thread.submit(self.read, self.next)

    def place(self, number: int) -> Tensor:
        """Where a piece lies in the table, (piece, width)."""
        return self.rows.view(PIECES, self.piece, self.layout.width)[number % PIECES]

    def fill(self, rows: Tensor, where: NDArray[np.int64]) -> None:
        """Puts the chosen columns into rows (n, width), which are these of the dataset, (n,)."""
        for name, values in self.chosen.items():
            rows[:, self.layout.slices[name]] = values[torch.from_numpy(where)].to(rows).unsqueeze(-1)

    def indices(self, number: int) -> NDArray[np.int64]:
        """Which rows of the dataset a piece is, (piece,)."""
        lap, turn = divmod(number, self.total // self.piece)
        return (int(starts(self.seed, lap, self.total, self.piece)[turn]) + np.arange(self.piece)) % self.total

    def read(self, number: int) -> Tensor:
        """A piece from the file, (piece, width), on the CPU."""
        start = int(self.indices(number)[0])
        stop = min(start + self.piece, self.total)
        parts = [read(self.dataset, self.layout, start, stop)]
        if stop - start < self.piece:  # it goes round the end
            parts.append(read(self.dataset, self.layout, 0, self.piece - (stop - start)))
        rows = torch.from_numpy(np.concatenate(parts))
        return rows.pin_memory() if self.rows.is_cuda else rows  # pinned, so that copying does not wait for the device

    # All of the dataset ---------------------------------------------------------------------------------------------

    def append_rows(self, rows: Tensor) -> Tensor:
        raise ValueError(f"{self.dataset.name} is left in its file, which is only read")

    def column(self, name: str) -> Tensor:
        """A column of the agent's own choice, (total,), on the CPU. Raises ValueError for any other."""
        if name not in self.chosen:
            raise ValueError(f"{self.dataset.name} is left in its file, and this asks for all of its {name} at once")
        return self.chosen[name]

    def choose(self, name: str, values: Tensor) -> None:
        super().choose(name, values)
        for number in range(self.next - PIECES, self.next):
            self.fill(self.place(number), self.indices(number))

    def split(self, count: int) -> Iterator[Tensor]:
        for start in range(0, self.total, count):
            stop = min(start + count, self.total)
            rows = torch.from_numpy(read(self.dataset, self.layout, start, stop)).to(self.rows)
            self.fill(rows, np.arange(start, stop))
            yield rows

    def fetch(self, indices: Tensor) -> Tensor:
        where = indices.reshape(-1).cpu().numpy()
        valid = follows(self.dataset, where)
        packed = self.dataset.gather(where)
        following = self.dataset.gather(where + valid) if "next_actions" in self.layout.slices else packed
        rows = torch.from_numpy(arrange(self.dataset, self.layout, packed, following, valid)).to(self.rows)
        self.fill(rows, where)
        return rows.view(*indices.shape, self.layout.width)


@lru_cache(maxsize=4)  # a pass ends while the next begins, in two threads
def starts(seed: int, lap: int, rows: int, piece: int) -> NDArray[np.int64]:
    """First rows of a pass's pieces, in their order. Fewer than `piece` rows sit out, others in each pass."""
    rng = np.random.default_rng((seed, lap))
    return (rng.integers(rows) + piece * rng.permutation(rows // piece)) % rows


def read(dataset: Packed, layout: Layout, start: int, stop: int) -> Rows:
    """Consecutive rows in an agent's layout; columns of its own choice hold what they begin with."""
    packed = dataset.read(start, min(stop + 1, len(dataset)))  # with the row that follows
    valid = follows(dataset, np.arange(start, stop))
    following = packed[np.arange(stop - start) + valid] if "next_actions" in layout.slices else packed
    return arrange(dataset, layout, packed[: stop - start], following, valid)


def follows(dataset: Packed, where: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the next row goes on with the row's episode, (n,)."""
    episodes, after = dataset.column("episode_ids"), where + 1
    return (after < len(dataset)) & (episodes[where] == episodes[np.minimum(after, len(dataset) - 1)])


def arrange(dataset: Packed, layout: Layout, packed: Rows, following: Rows, valid: NDArray[np.bool_]) -> Rows:
    """Packed rows (n, width) in an agent's layout. following: the rows whose actions are the next ones."""
    if layout.slices == dataset.slices:
        return packed
    rows = np.empty((len(packed), layout.width), np.float32)
    for name, place in layout.slices.items():
        if name in CHOSEN:
            rows[:, place] = CHOSEN[name]
        elif name == "next_actions":
            rows[:, place] = following[:, dataset.slices["actions"]]
        elif name == "next_action_valid":
            rows[:, place] = valid[:, None]
        else:
            rows[:, place] = packed[:, dataset.slices[name]]
    return rows

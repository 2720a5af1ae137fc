"""How much memory a population will take, told before it is built."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.agents.core.compute import choose_device
from zoo.agents.core.learner import Learner
from zoo.agents.core.spec import Dataset

UPDATES = 4  # that are watched: the usual delays come round in them
SPARE = 0.1  # of the memory at hand, for what allocators lose between blocks


@dataclass(frozen=True)
class Footprint:
    """Bytes on the agent's device while it trains offline."""

    shared: int  # the dataset's rows
    member: int  # each member's networks, their targets, gradients and moments, and the work of an update

    def of(self, population: int) -> int:
        return self.shared + population * self.member

    def fits(self, available: int) -> int:
        """The largest population for so many bytes, SPARE of them left."""
        return max(int((1.0 - SPARE) * available - self.shared) // self.member, 0)


def check_population_fits(
    cls: type[Learner], dataset: Dataset, population: int, device: str | torch.device = "auto", **settings: Any
) -> None:
    """Raises MemoryError, which says what would fit, where the device has no room for so many members.

    Watches a few updates of a single agent on the CPU, of the same settings. Nothing is checked where the system does
    not tell how much memory is free.
    """
    where = choose_device(device)
    available = free_memory(where)
    if available is None:
        return
    needs = footprint(cls, dataset, **settings)
    fits = needs.fits(available)
    if population > fits:
        raise MemoryError(
            f"a population of {population} {cls.__name__} needs about {gib(needs.of(population))}, "
            f"{gib(needs.shared)} for the data and {gib(needs.member)} for each member; {where} has {gib(available)} "
            "free: "
            + (f"{fits} members would fit" if fits else "not even one would fit; smaller networks or batches take less")
        )


def footprint(cls: type[Learner], dataset: Dataset, **settings: Any) -> Footprint:
    """What a population of these settings takes; of swept ones, its first member stands for all."""
    config = {name: value for name, value in settings.items() if name in cls.Config.names()}
    swept = {name for name, value in config.items() if name in cls.Config.build(config).sweeps()}
    single = {name: value[0] if name in swept else value for name, value in settings.items()}
    with Meter() as meter:
        agent = cls(dataset, device="cpu", **single)
        built = meter.live
        table = agent.offline_table(dataset)
        shared = meter.live - built
        meter.peak = meter.live  # building the table took a copy for a moment
        if agent.preparation_steps:
            agent.prepare(table)
        for _ in range(UPDATES):
            agent.update(agent.sample(table))
    return Footprint(shared, meter.peak - shared)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free, or that the system would free, on the device; None where it does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo")
    if lines.exists():
        sizes = dict(line.split(":", 1) for line in lines.read_text().splitlines())
        return 1024 * int(sizes["MemAvailable"].split()[0])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


class Meter(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size

"""A CUDA graph's stand-in on the CPU, with its rules: what is recorded is tensor operations, and nothing else."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.agents.core.learner import Metrics

aten = torch.ops.aten
# A value or a shape that the host would have to wait for, or numbers that the host makes.
FORBIDDEN = {
    aten._local_scalar_dense.default: "reads a value on the host",
    aten.equal.default: "reads a value on the host",
    aten.nonzero.default: "has a shape that depends on values",
    aten.masked_select.default: "has a shape that depends on values",
    aten._unique2.default: "has a shape that depends on values",
    aten.bincount.default: "has a shape that depends on values",
    aten.lift_fresh.default: "copies a number from the host",
}


class Operations(TorchDispatchMode):
    """Runs operations and writes them down."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable, tuple, dict, Any]] = []
        self.squeezed: list[tuple[Tensor, tuple, tuple]] = []  # and how they lay before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in FORBIDDEN or by_mask(func, args):
            raise RuntimeError(f"{func} {FORBIDDEN.get(func, 'has a shape that depends on values')}")
        if func is aten.squeeze_.dim:
            self.squeezed.append((args[0], args[0].size(), args[0].stride()))
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        """The same operations on the same tensors, whatever they hold now; results go where the first ones went."""
        for tensor, size, stride in self.squeezed:
            tensor.as_strided_(size, stride)
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            returned = func._schema.returns
            if any(value.alias_info is not None for value in returned):
                continue  # a view, or in place
            for old, new in zip(tensors(out), tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def by_mask(func: Callable, args: tuple) -> bool:
    """Indexing with a mask."""
    return func in (aten.index.Tensor, aten.index_put_.default) and any(
        index is not None and index.dtype == torch.bool for index in args[1]
    )


def tensors(out: Any) -> list[Tensor]:
    return [t for t in (out if isinstance(out, tuple | list) else [out]) if isinstance(t, Tensor)]


class Tape:
    """An zoo.agents.loop.engine.Recorder. recorded: how many pieces of work it holds."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def warm_up(self, work: Callable[[], Metrics]) -> Metrics:
        return work()

    def record(self, work: Callable[[], Metrics]) -> tuple[Metrics, Callable[[], None]]:
        with Operations() as operations:
            metrics = work()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            operations.replay()

        return metrics, replay

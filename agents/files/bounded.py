"""Checkpoints of strangers: an agent may not become larger than the file that it is said to come from."""

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.agents.files.checkpoint import CheckpointError

FREE = 64 * 2**20  # bytes
MOST = 20  # times the file's size: targets, moments and what is drawn and scaled on the way to a parameter
BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    SafetensorError,
    struct.error,
)


class TooLargeError(ValueError):
    """What a config asks for is more than its file can hold."""


class Bounded(TorchDispatchMode):
    """Counts the bytes that operations fill, and stops before the one that goes beyond the limit.

    Views are free, and so are empty and zero tensors: the system gives memory for them when it is written to, and
    buffers for transitions to come are larger than what is in them.
    """

    def __init__(self, limit: int):
        super().__init__()
        self.left = limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        views = any(one.alias_info and not one.alias_info.is_write for one in func._schema.returns)
        if not (views or "empty" in name or "zeros" in name):
            tensors = [leaf.nbytes for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            shape = args[0] if args and isinstance(args[0], list | tuple) and not tensors else ()
            self.left -= max([*tensors, 4 * math.prod(shape) if all(isinstance(n, int) for n in shape) else 0])
            if self.left < 0:
                raise TooLargeError("its settings ask for larger networks than the file holds")
        return func(*args, **(kwargs or {}))


@contextmanager
def of_a_stranger(path: str | os.PathLike) -> Iterator[None]:
    """Where an agent is built from a file: whatever goes wrong is the file's fault, and CheckpointError says so."""
    try:
        with Bounded(FREE + MOST * os.path.getsize(path)):
            yield
    except CheckpointError:
        raise
    except BROKEN as error:
        said = f"{type(error).__name__}: {error}"[:300]
        raise CheckpointError(
            f"{path}: no agent can be built from it ({said}); it is damaged, or was edited: use another copy"
        ) from error


def check_population(path: str | os.PathLike, population: Any, state: dict[str, Tensor]) -> None:
    """Raises CheckpointError for a number of members that no tensor has, before a list of so many is made."""
    if population is None:
        return
    found = any(tensor.dim() and len(tensor) == population for tensor in state.values())
    if type(population) is not int or not found:
        raise CheckpointError(f"{path} says it has {population} members, and none of its tensors has; it is damaged")

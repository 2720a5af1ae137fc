"""Where and how gradient steps compute: device, precision, memory."""

import ctypes
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_memory() -> None:
    """Tells glibc to keep freed memory: an update frees what the next one asks for, and fresh pages cost more than
    the arithmetic on them. Other C libraries are left alone.
    """
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc accepts
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)


def zeros(shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros for what is yet to come. On a CPU they take memory only where something has been written."""
    if device.type != "cpu":
        return torch.zeros(tuple(shape), device=device, dtype=dtype)
    lazy = np.zeros(tuple(shape), torch.empty((), dtype=dtype).numpy().dtype)  # torch's own writes every page
    return torch.from_numpy(lazy).detach()  # an operation, which those that count memory see


def choose_device(device: str | torch.device) -> torch.device:
    """ "auto" is the GPU if there is one. Raises ValueError for a device that this machine, or the zoo, has not."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:0', got {device!r}") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"agents run on 'cpu' or 'cuda', got device={device!r}; 'auto' takes what there is")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen.type == "cuda" and not count:
        raise ValueError(f"no CUDA here, got device={device!r}: use 'cpu' or 'auto', or a CUDA build of torch")
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise ValueError(f"this machine has {count} CUDA devices, counted from 0, got device={device!r}")
    return chosen


def check_precision(precision: str, device: torch.device) -> str:
    """Raises ValueError for an unknown one; warns where there are no bf16 products and fp32 is used all the same."""
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    if precision == "bf16" and not (device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        warnings.warn(
            f"precision='bf16' needs a CPU with bf16 matrix products (AVX-512 or AMX); this {device.type} runs in fp32",
            stacklevel=4,
        )
    return precision


@contextmanager
def compute(precision: str) -> Iterator[None]:
    """Where gradient steps run. With "bf16", oneDNN rounds the operands of fp32 products; all else stays fp32."""
    keep_memory()
    torch.set_flush_denormal(True)  # Adam's averages of a dead unit decay to denormals, which cost twice the time
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = backend.fp32_precision
    backend.fp32_precision = "bf16" if precision == "bf16" else before
    try:
        yield
    finally:
        backend.fp32_precision = before
        torch.set_flush_denormal(False)

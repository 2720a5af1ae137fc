"""Files of strangers: what they declare is compared with what they are, before memory is asked for.

A few kilobytes can declare a hundred million rows (HDF5 fills what was never written, zip and gzip unpack a
thousandfold) or lead to other files. Real recordings compress to a tenth at best; what declares more than MOST times
its own size is refused.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from zoo.datasets.checks import DatasetError, DatasetValueError, unreadable

MOST = 100  # bytes declared for each byte of the file
FREE = 64 * 2**20  # bytes that may be declared in any case
# What h5py, zipfile, NumPy and JSON raise for damaged files; RecursionError is a RuntimeError.
BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """A file to read. What it raises while it is read, as h5py does in many ways, is DatasetValueError."""
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(path, file)
            yield file
    except DatasetError:
        raise
    except BROKEN as error:
        raise unreadable(path, error) from error


def check_hdf5(path: Path, file: h5py.File) -> None:
    """Raises DatasetValueError for arrays larger than the file can be, and for those whose rows lie in other files."""
    arrays: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    for name, array in arrays.items():
        if array.is_virtual or array.external:
            raise DatasetValueError(f"{path.name}: the rows of {name} lie in another file. Copy them into this one.")
        if array.chunks and math.prod(array.chunks) * array.dtype.itemsize > limit(path):
            check_declared(path, name, math.prod(array.chunks) * array.dtype.itemsize)
    check_declared(path, "all arrays together", sum(array.nbytes for array in arrays.values()))


def check_zip(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises DatasetValueError for members that unpack to more than the file can be."""
    check_declared(path, "all members together", sum(member.file_size for member in archive.infolist()))


def check_declared(path: Path, name: str, size: int) -> None:
    if size > limit(path):
        raise DatasetValueError(
            f"{path.name} has {path.stat().st_size:,} bytes and declares {size:,} for {name}: more than data compress. "
            "It is damaged, or made to fill the memory."
        )


def limit(path: Path) -> int:
    """Bytes that a file may declare."""
    return FREE + MOST * path.stat().st_size

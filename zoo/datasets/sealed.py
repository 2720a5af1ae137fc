"""HDF5 files that a full disk does not tear apart, and that know the checksum of their content.

HDF5 ends the process with a segmentation fault where the disk fills while it writes: it must not be told. Here it
writes through Disk, which keeps in memory what the disk has refused, so that HDF5 can end in order; then the error is
raised. The checksum is over names, types, shapes and decoded values of all datasets and attributes, so compression and
layout do not matter.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zoo.datasets.checks import DatasetValueError

SEAL = "content_sha256"  # attribute of the file
CHUNK = 100_000  # rows in memory at a time


@contextmanager
def sealed_hdf5(
    temporary: Path, target: Path, layout: str | None = None
) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new file, sealed after the block, and what raises the disk's error, in the name of `target`, once it is full.

    Ask it after each large write: what the disk refuses stays in memory until the block ends.
    """
    with temporary.open("w+b", buffering=0) as raw:
        disk = Disk(raw, target)
        with h5py.File(disk, "w", libver=layout) as file:
            yield file, disk.check
            file.attrs[SEAL] = content_sha256(file)
        disk.check()


class Disk(io.RawIOBase):
    """A file for h5py whose writes never fail: from the first one that the disk refuses on, they stay in memory."""

    def __init__(self, raw: io.FileIO, path: Path):
        self.raw, self.path = raw, path
        self.refused: list[tuple[int, bytes]] = []  # place and content, oldest first
        self.error: OSError | None = None
        self.place = self.size = 0

    def check(self) -> None:
        """Raises the disk's first error."""
        if self.error is not None:
            raise OSError(self.error.errno, os.strerror(self.error.errno or 0), os.fspath(self.path))

    def write(self, content: Any) -> int:
        content = bytes(content)
        if self.error is None:
            try:
                self._to_disk(content)
            except OSError as error:
                self.error = error
        if self.error is not None:
            self.refused.append((self.place, content))
        self.place += len(content)
        self.size = max(self.size, self.place)
        return len(content)

    def _to_disk(self, content: bytes) -> None:
        done = 0
        while done < len(content):
            done += os.pwrite(self.raw.fileno(), content[done:], self.place + done)

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        count = max(min(len(target), self.size - self.place), 0)
        known = os.pread(self.raw.fileno(), count, self.place)
        target[:count] = known.ljust(count, b"\0")
        for place, content in self.refused:
            begin, end = max(place, self.place), min(place + len(content), self.place + count)
            if begin < end:
                target[begin - self.place : end - self.place] = content[begin - place : end - place]
        self.place += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def truncate(self, size: int | None = None) -> int:
        self.size = self.place if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self.raw.fileno(), self.size)
            except OSError as error:
                self.error = error
        return self.size

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def content_sha256(file: h5py.File) -> str:
    """Of all datasets and attributes but the seal."""
    digest, names = hashlib.sha256(), []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in sorted(names):
        column = file[name]
        digest.update(f"{name} {column.dtype.str} {column.shape}\n".encode())
        if column.ndim == 0:
            digest.update(np.asarray(column[()]).tobytes())
        for start in range(0, len(column) if column.ndim else 0, CHUNK):
            digest.update(np.ascontiguousarray(column[start : start + CHUNK]).tobytes())
    for name in sorted(set(file.attrs) - {SEAL}):
        value = file.attrs[name]
        values = np.asarray(value)
        content = str(value).encode() if values.dtype.kind in "OSU" else values.tobytes()
        digest.update(f"{name} {values.dtype.kind} {values.shape}\n".encode() + content)
    return digest.hexdigest()


def check_seal(file: h5py.File, path: Path) -> None:
    """Raises DatasetValueError where a sealed file's content is another one; files without a seal pass."""
    if SEAL in file.attrs and file.attrs[SEAL] != content_sha256(file):
        raise DatasetValueError(
            f"{path}: the content does not match its checksum: it is damaged, or was edited. Use another copy"
        )

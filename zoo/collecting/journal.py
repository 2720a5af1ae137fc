"""A recording in progress: the file beside a dataset that only grows, until it becomes the dataset.

A record is MAGIC, its mark, which is the first half of the SHA-256 of what the recording is about, the content's
length, the first half of the SHA-256 of mark and content, and the content: an array as np.save writes it. The first
record is `about` itself, in JSON; each other one is an episode. A record that is damaged is passed over, up to the next
MAGIC.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import gymnasium as gym
import numpy as np

from zoo.collecting.recording import About, bounds, check_about, write_hdf5
from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.readers.d4rl import SUFFIXES
from zoo.export.files import Lock, sync

MAGIC = b"\x89ZOO\r\n\x1a\n"
HEAD = struct.Struct("<8s16sQ16s")
EARLIER = b"\x93NUMPY"  # journals of before had no checksums
SYNC = 1.0  # seconds of recording that a power loss may take


class Journal:
    """The episodes of a recording so far. with Journal(path, about) as journal: ...

    A kill loses the episodes in progress and nothing else, a damaged byte the episode that it is in; the same
    recording, begun again, goes on behind its last whole episode, and says what it has lost.
    path: of the dataset; the journal is path + ".journal". about: what the recording is, in numbers and texts; becomes
    the dataset's attributes.
    Raises FileExistsError where the dataset is there already, ValueError where the journal is about something else,
    InUseError where another process records to the same path.
    """

    def __init__(self, path: Path, about: About):
        if path.suffix not in SUFFIXES:
            raise DatasetValueError(f"{path}: a recording is an HDF5 file, its name ends in {' or '.join(SUFFIXES)}")
        if path.exists():
            raise FileExistsError(f"{path} is already there; delete it to record it again, or give another path")
        self.lock = Lock(path)
        self.path = path
        self.about = dict(about)
        self.file = path.with_name(path.name + ".journal")
        self.numbers: set[int] = set()  # of the whole episodes
        self.rows = 0
        self.synced = time.monotonic()
        try:
            self._open()
        except BaseException:
            self.lock.release()
            raise

    def _open(self) -> None:
        size = self.file.stat().st_size if self.file.exists() else 0
        found = self._recover() if size else 0
        if self.rows:
            lost = size - found
            left = f"; {lost:,} bytes of unfinished or damaged episodes left out" if lost else ""
            print(f"going on from {self.file}: {self.rows:,} rows{left}")
        else:
            self.file.write_bytes(b"")
            self._write(np.frombuffer(json.dumps(self.about).encode(), np.uint8))
            self.sync()
            sync(self.file.parent)

    def append(self, rows: Array) -> None:
        """One episode more."""
        self._write(rows)
        self.numbers.add(int(rows["infos/episode"][0]))
        self.rows += len(rows)
        if time.monotonic() - self.synced > SYNC:
            self.sync()

    def sync(self) -> None:
        """All episodes are on the disk when this returns."""
        sync(self.file)
        self.synced = time.monotonic()

    def keep(self, rows: int) -> None:
        """Forgets what came after so many rows. Raises ValueError where an episode does not end there."""
        self._recover(rows)
        if self.rows != rows:
            raise ValueError(f"{self.file} has no episode that ends after {rows:,} rows, but after {self.rows:,}")

    def episodes(self) -> Iterator[Array]:
        """The rows of each whole episode, in the order in which they ended."""
        for _, _, content in records(self.file):
            if (rows := as_episode(content)) is not None:
                yield rows

    def finish(self, env: gym.Env) -> Path:
        """Makes the dataset, with the bounds of the environment's spaces, and removes the journal. Returns the path."""
        write_hdf5(self.path, self.episodes(), self.about | bounds(env), self.rows)
        self.file.unlink()
        self.close()
        return self.path

    def close(self) -> None:
        """Another process may go on with the recording. Twice is no error."""
        if self.lock.descriptor >= 0 and self.file.exists():
            self.sync()
        self.lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, array: Array) -> None:
        """A record; where the disk is full, none."""
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        mark, text = self._mark(), content.getbuffer()
        head = HEAD.pack(MAGIC, mark, len(text), half_sha256(mark, text))
        before = self.file.stat().st_size
        try:
            with self.file.open("ab") as file:
                file.write(head + text)
        except OSError:
            os.truncate(self.file, before)
            raise

    def _mark(self) -> bytes:
        return half_sha256(json.dumps(self.about).encode())

    def _recover(self, limit: int | None = None) -> int:
        """Counts what is whole, at most `limit` rows, and cuts off what follows. Returns the bytes that are whole.

        Raises ValueError where an episode is of another recording.
        """
        self.numbers, self.rows = set(), 0
        with self.file.open("rb") as file:
            if file.read(len(EARLIER)) == EARLIER:
                raise ValueError(
                    f"{self.file} is a journal of an earlier version: let that one finish it, or delete it"
                )
        end = found = 0
        for stop, mark, content in records(self.file):
            rows = as_episode(content)
            if rows is not None:
                if limit is not None and self.rows + len(rows) > limit:
                    break
                if mark != self._mark():
                    self._refuse()
                self.numbers.add(int(rows["infos/episode"][0]))
                self.rows += len(rows)
            end, found = stop, found + HEAD.size + len(content)
        os.truncate(self.file, end)
        return found

    def _refuse(self) -> None:
        for _, _, content in records(self.file):
            if as_episode(content) is None:
                check_about(self.file, json.loads(as_array(content).tobytes()), self.about)
        raise ValueError(f"{self.file} was made with other settings. Delete it to begin anew, or give another path.")


def half_sha256(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()[:16]


def records(path: Path) -> Iterator[tuple[int, bytes, memoryview]]:
    """Where each whole record ends, its mark and its content, which is valid until the next one is asked for."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        begin = text.find(MAGIC)
        while begin >= 0:
            stop = _end_of(text, begin)
            if stop is None:
                begin = text.find(MAGIC, begin + 1)
                continue
            content = text[begin + HEAD.size : stop]
            yield stop, text[begin + 8 : begin + 24], memoryview(content)
            begin = text.find(MAGIC, stop)


def _end_of(text: mmap.mmap, begin: int) -> int | None:
    """Where the record that begins here ends; None if it is not whole."""
    if begin + HEAD.size > len(text):
        return None
    _, mark, size, digest = HEAD.unpack(text[begin : begin + HEAD.size])
    stop = begin + HEAD.size + size
    if stop > len(text) or half_sha256(mark, text[begin + HEAD.size : stop]) != digest:
        return None
    return stop


def as_array(content: memoryview) -> Array:
    return np.load(io.BytesIO(content), allow_pickle=False)


def as_episode(content: memoryview) -> Array | None:
    """The rows of a record; None for the first one, which is text."""
    rows = as_array(content)
    return rows if rows.dtype.names else None

"""The log of a control loop as a file: what recorder.py writes, read back. Needs numpy, no other file of this project.

A file is a sequence of blocks, which are only ever appended. A block is a head of 16 bytes (marker, kind, length and
CRC-32, little-endian) and its content. Kinds:

run   JSON: what holds for a run of the loop: rate, limits, the names of outcomes and causes, the policy's metadata.
rows  ticks, as row_type says, in the order in which they were.
end   JSON: why the run ended, and how many ticks were dropped. Where the power was cut there is none.

A block that is not whole, or whose checksum is wrong, is left out, and reading goes on at the next marker.
"""

from __future__ import annotations  # Python 3.9 reads this file

import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
MARKER = b"ZOOL"
RUN, ROWS, END = b"run ", b"rows", b"end "
HEAD = struct.Struct("<4s4sII")  # marker, kind, bytes of the content, CRC-32 of kind and content
BYTES = HEAD.size


class LogError(ValueError):
    """A file that is no log of a control loop, or has nothing in it that can be read."""


def row_type(observation_size: int, action_size: int) -> np.dtype:
    """One tick. Missing numbers are NaN.

    number: of the tick among those that the recorder was given; a step of more than one is ticks that were dropped.
    tick: of the deadline.  time: of the tick's begin, seconds on the loop's clock.
    lateness, work, age: seconds, as in the loop's report.  doubt: the guard's number.
    outcome, cause: places in the run's lists of names.  limited, late: flags.
    observation (O,): what the policy saw.  wanted (A,): its answer.  written (A,): what the robot was sent.
    """
    numbers = [(name, "<f4") for name in ("lateness", "work", "age", "doubt")]
    codes = [(name, "u1") for name in ("outcome", "cause", "limited", "late")]
    vectors = [
        ("observation", "<f4", observation_size),
        ("wanted", "<f8", action_size),
        ("written", "<f8", action_size),
    ]
    fields = [("number", "<i8"), ("tick", "<i8"), ("time", "<f8"), *numbers, *codes]
    return np.dtype(fields + [(name, kind, (size,)) for name, kind, size in vectors])


def block(kind: bytes, content: bytes) -> bytes:
    """A block of the file."""
    return HEAD.pack(MARKER, kind, len(content), zlib.crc32(content, zlib.crc32(kind))) + content


@dataclass(frozen=True)
class Run:
    """One run of a loop. rows: its ticks, as row_type says. end: reason and dropped, None where the file breaks off."""

    about: dict[str, Any]
    rows: np.ndarray
    end: dict[str, Any] | None

    @property
    def observed(self) -> np.ndarray:
        """Which ticks had a sound observation, (ticks,) bool."""
        return np.isfinite(self.rows["observation"]).all(-1)

    @property
    def answered(self) -> np.ndarray:
        """Which ticks the policy answered with finite numbers, (ticks,) bool."""
        return self.observed & np.isfinite(self.rows["wanted"]).all(-1)

    def names(self, title: str) -> list[str]:
        """What the contract calls the dimensions of "observations" or "actions"; a name for each, maybe made up."""
        size = self.about["observation_size" if title == "observations" else "action_size"]
        known = (self.about.get("policy") or {}).get(title) or [{}] * size
        return [entry.get("name") or f"{title}[{i}]" for i, entry in enumerate(known)]


@dataclass(frozen=True)
class Log:
    """The runs of a file, and how many bytes of it could not be read."""

    runs: tuple[Run, ...]
    damaged: int


def read_log(path: str | os.PathLike[str]) -> Log:
    """Every run of a file, with all blocks that are whole.

    Raises FileNotFoundError, or LogError for a file of another kind and for one without a single run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no log at {path}; a ControlLoop with recorder=Recorder(path, ...) writes one")
    content = path.read_bytes()
    if content[:4] != MARKER:
        raise LogError(f"{path} is no log of a control loop: it does not begin with {MARKER!r}")
    found: list[tuple[dict[str, Any], list[np.ndarray], list[dict[str, Any]]]] = []
    used = 0
    for kind, payload in _blocks(content):
        if kind == RUN:
            found.append((_checked(path, json.loads(payload)), [], []))
        elif not found:
            continue  # of a run whose first block is damaged
        elif kind == ROWS:
            about, pieces, _ = found[-1]
            pieces.append(np.frombuffer(payload, row_type(about["observation_size"], about["action_size"])))
        else:
            found[-1][2].append(json.loads(payload))
        used += BYTES + len(payload)
    if not found:
        raise LogError(f"{path} has no run that can be read: the first block of each is damaged")
    runs = []
    for about, pieces, ends in found:
        empty = np.zeros(0, row_type(about["observation_size"], about["action_size"]))
        runs.append(Run(about, np.concatenate(pieces) if pieces else empty, ends[-1] if ends else None))
    return Log(tuple(runs), len(content) - used)


def _blocks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each whole block."""
    start = content.find(MARKER)
    while start >= 0 and start + BYTES <= len(content):
        _, kind, length, checksum = HEAD.unpack_from(content, start)
        payload = content[start + BYTES : start + BYTES + length]
        if len(payload) == length and zlib.crc32(payload, zlib.crc32(kind)) == checksum:
            yield kind, payload
            start = content.find(MARKER, start + BYTES + length)
        else:
            start = content.find(MARKER, start + 1)


def _checked(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    if about["format"] > FORMAT:
        raise LogError(f"{path} has format {about['format']}, this reader up to {FORMAT}: use a newer runlog.py")
    return about

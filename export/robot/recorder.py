"""The recorder of a control loop: every tick into an append-only file, and never a deadline missed for it.

The loop's thread copies a tick into a buffer of fixed size and goes on. A thread of the recorder's own takes the ticks
from there to the file, a few times a second. Where the disk is too slow and the buffer is full, ticks are dropped and
counted: the loop does not wait. Needs numpy, and runlog.py beside it.
"""

from __future__ import annotations  # Python 3.9 reads this file

import json
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .runlog import END, FORMAT, MARKER, ROWS, RUN, block, row_type

log = logging.getLogger("recorder")


class Recorder:
    """Give it to ControlLoop(..., recorder=Recorder("run.log", policy)); read_log reads the file.

    path: a file that is there already goes on: a run is appended to it.
    policy: the OnnxPolicy that the loop runs. Its metadata and the state of its noise go into the log, so that a later
        replay gives the same bits.
    seconds: of ticks that the buffer has room for; its memory is seconds * rate rows.
    write_every: seconds between two writes, the most that a crash of the program loses.
    sync_every: seconds after which the disk is told to keep what it has; the most that a power cut loses.
    most_bytes: where the file is as long as this, recording ends and the loop goes on. None: no limit.

    dropped: ticks of this run that found the buffer full. problem: why recording ended early, None where it did not.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        policy: Any = None,
        *,
        seconds: float = 10.0,
        write_every: float = 0.1,
        sync_every: float = 1.0,
        most_bytes: int | None = None,
    ):
        for name, value in (("seconds", seconds), ("write_every", write_every), ("sync_every", sync_every)):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be a positive number of seconds, got {value}")
        self.path, self.policy = Path(path), policy
        self.seconds, self.write_every, self.sync_every, self.most_bytes = seconds, write_every, sync_every, most_bytes
        self.dropped = 0
        self.problem: str | None = None
        self._thread: threading.Thread | None = None

    def begin(self, about: Mapping[str, Any]) -> None:
        """Opens the file and starts the thread; about: of the run, see control.py.

        Raises OSError where the file cannot be written, ValueError where it is a file of another kind.
        """
        if self._thread is not None:
            raise RuntimeError(f"{self.path} is being recorded by a run that has not ended")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size:
            with open(self.path, "rb") as file:
                if file.read(4) != MARKER:
                    raise ValueError(f"{self.path} is no log of a control loop: give the recorder another path")
        self._ring = np.zeros(max(math.ceil(self.seconds * about["rate"]), 16), _type_of(about))
        self._views = {name: self._ring[name] for name in self._ring.dtype.names or ()}
        self._noted = self._taken = self._offered = self.dropped = 0
        self.problem = None
        whole = {
            "format": FORMAT,
            "wall_time": time.time(),
            **about,
            "policy": dict(getattr(self.policy, "metadata", None) or {}) or None,
            "noise_state": getattr(self.policy, "noise_state", None),
        }
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._length = os.fstat(self._file).st_size
            self._append(block(RUN, json.dumps(whole).encode()))
            os.fsync(self._file)
        except BaseException:
            os.close(self._file)
            raise
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._pump, name="recorder", daemon=True)
        self._thread.start()

    def note(
        self,
        tick: int,
        time: float,
        lateness: float,
        work: float,
        age: float,
        doubt: float,
        outcome: int,
        cause: int,
        limited: bool,
        late: bool,
        observation: np.ndarray | None,
        wanted: np.ndarray | None,
        written: np.ndarray,
    ) -> None:
        """Takes down one tick, see runlog.row_type; copies, and neither waits nor raises. From the loop's thread."""
        number = self._offered
        self._offered = number + 1
        if self._noted - self._taken >= len(self._ring):
            self.dropped += 1
            return
        i, views = self._noted % len(self._ring), self._views
        views["number"][i], views["tick"][i], views["time"][i] = number, tick, time
        views["lateness"][i], views["work"][i], views["age"][i], views["doubt"][i] = lateness, work, age, doubt
        views["outcome"][i], views["cause"][i], views["limited"][i], views["late"][i] = outcome, cause, limited, late
        views["observation"][i] = math.nan if observation is None else observation
        views["wanted"][i] = math.nan if wanted is None else wanted
        views["written"][i] = written
        self._noted += 1  # last: from now on the row is the other thread's

    def end(self, reason: str) -> None:
        """Writes what is left and closes the file; after the last action, so it may take its time."""
        if self._thread is None:
            return
        self._ending.set()
        self._thread.join()
        self._thread = None
        try:
            if self.problem is None:
                content = json.dumps({"reason": reason, "dropped": self.dropped, "ticks": self._offered})
                self._append(block(END, content.encode()))
                os.fsync(self._file)
        except OSError as error:
            self._give_up(f"the end could not be written: {error}")
        finally:
            os.close(self._file)

    def _pump(self) -> None:
        """The recorder's thread: it holds Python's lock for microseconds at a time."""
        synced = time.monotonic()
        while True:
            ending = self._ending.wait(self.write_every)
            self._drain()
            if time.monotonic() - synced >= self.sync_every and self.problem is None:
                try:
                    os.fsync(self._file)
                except OSError as error:
                    self._give_up(str(error))
                synced = time.monotonic()
            if ending:
                return

    def _drain(self) -> None:
        """The noted rows, in at most two pieces: the buffer is a ring."""
        noted = self._noted
        while self._taken < noted:
            start = self._taken % len(self._ring)
            count = min(noted - self._taken, len(self._ring) - start)
            if self.problem is None:
                try:
                    self._append(block(ROWS, self._ring[start : start + count].tobytes()))
                except OSError as error:
                    self._give_up(str(error))
            self._taken += count

    def _append(self, content: bytes) -> None:
        if self.most_bytes is not None and self._length + len(content) > self.most_bytes:
            raise OSError(f"{self.path} would be longer than most_bytes={self.most_bytes:,}")
        self._length += len(content)
        while content:
            content = content[os.write(self._file, content) :]

    def _give_up(self, problem: str) -> None:
        self.problem = problem
        log.error("recording has ended, the loop goes on: %s", problem)


def _type_of(about: Mapping[str, Any]) -> np.dtype:
    return row_type(about["observation_size"], about["action_size"])

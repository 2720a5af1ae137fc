"""Runs the cells of a study, each in a process of its own, so many at a time. No scheduler: a queue of folders.

What is done is not repeated; what was killed goes on from its checkpoint; a cell that diverges or fails is noted, and
the study goes on. Threads of each process: the cores, shared.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from zoo.studies.folders import read_status, write_status


def run_local(places: Sequence[Path], workers: int, tell: Callable[[Path], None]) -> None:
    """Runs the cells of these folders, `workers` at a time. tell: called when one is over.

    Ctrl-C and SIGTERM reach every process, which saves its checkpoint; then KeyboardInterrupt is raised.
    """
    threads = max((os.cpu_count() or 1) // workers, 1)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    running: set[subprocess.Popen] = set()
    stopped = threading.Event()

    def one(place: Path) -> None:
        if stopped.is_set():
            return
        with (place / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "zoo.studies.cell", str(place)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
            running.add(process)
            process.wait()
            running.discard(process)
        if not stopped.is_set():
            note_death(place, process.returncode)
            tell(place)

    def stop() -> None:
        stopped.set()
        for process in list(running):
            process.send_signal(signal.SIGINT)

    with terminated_as_interrupted(), ThreadPoolExecutor(workers) as pool:
        try:
            for future in [pool.submit(one, place) for place in places]:
                future.result()
        except BaseException:
            stop()
            raise


def note_death(place: Path, code: int) -> None:
    """A process that ended without a word, killed by the system for its memory for example, is a failed cell."""
    status = read_status(place)
    if status.state == "running":
        write_status(place, replace(status, state="failed", message=f"the process ended with status {code}"))


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM as Ctrl-C; only the main thread can ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Runs the cells of a study on a Ray cluster: whatever ray.init finds. Ray is the scheduler; extra `cluster`.

A cell works in a temporary folder of its node. After every checkpoint its files go home, to one actor on the machine
that began the study; a cell whose node dies is tried again on another one and goes on from what came home. So no shared
disk is needed, and the results are files in the study's folder. Datasets must be found under the same name on every
node.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.export.files import write_whole
from zoo.studies.cell import run_cell
from zoo.studies.folders import OVER, read_status, write_status

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless the user asks for it

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(f"--on ray needs {missing.name}: pip install 'offline-agent-zoo[cluster]'") from missing

RETRIES = 5  # of a cell whose node died
POLL = 2.0  # seconds between looks at a cell's folder, for files to send home
Files = dict[str, bytes]


class Home:
    """Keeps the cells' files on the machine that began the study."""

    def __init__(self, places: Sequence[str]):
        self.places = [Path(place) for place in places]

    def fetch(self, index: int) -> Files:
        return read_files(self.places[index], {})[0]

    def put(self, index: int, files: Files) -> None:
        for name, content in files.items():
            write_whole(self.places[index] / name, content)


def read_files(folder: Path, known: dict[str, float]) -> tuple[Files, dict[str, float]]:
    """The files of a folder that changed since `known`, and when each one did."""
    times = {str(path.relative_to(folder)): path.stat().st_mtime for path in folder.rglob("*") if path.is_file()}
    changed = [name for name, when in times.items() if known.get(name) != when and not Path(name).name.startswith(".")]
    return {name: (folder / name).read_bytes() for name in changed}, times


def work(home: Any, index: int) -> str:
    """One cell on a node: fetches what is at home, goes on from it, and sends home what changes."""
    folder = Path(tempfile.mkdtemp(prefix="zoo-cell-"))
    sent: dict[str, float] = {}

    def send() -> None:
        nonlocal sent
        files, sent = read_files(folder, sent)
        ray.get(home.put.remote(index, files))

    try:
        for name, content in ray.get(home.fetch.remote(index)).items():
            write_whole(folder / name, content)
        _, sent = read_files(folder, {})
        status = run_cell(folder, after_save=send)
        send()
        return status.state
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_ray(places: Sequence[Path], gpus: float, tell: Callable[[Path], None], cpus: float = 1.0) -> None:
    """Runs the cells of these folders. gpus, cpus: of each, fractions too. tell: called when one is over."""
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Home)
    home = actor.options(num_cpus=0, scheduling_strategy=here).remote([str(place.resolve()) for place in places])
    task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(work)
    pending = {task.remote(home, index): place for index, place in enumerate(places)}
    try:
        while pending:
            ready, _ = ray.wait(list(pending), timeout=POLL)
            for reference in ready:
                place = pending.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    note_lost(place, error)
                tell(place)
    except KeyboardInterrupt:
        for reference in pending:
            ray.cancel(reference, recursive=True)
        time.sleep(POLL)  # what a cell saves on its way out still comes home
        raise


def note_lost(place: Path, error: Exception) -> None:
    """A cell that no node brought to its end: it stays where its last checkpoint is."""
    status = read_status(place)
    if status.state not in OVER:
        message = f"no node finished it ({type(error).__name__}); run the study again"
        write_status(place, replace(status, state="failed", message=message))

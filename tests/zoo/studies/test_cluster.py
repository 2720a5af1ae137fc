"""A study on a Ray cluster of two nodes, one of which dies in the middle."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.studies.folders import prepare, read_status
from zoo.studies.study import Study

pytest.importorskip("ray")

STEPS, EVERY = 3_000, 100
STUDY = {
    "name": "two nodes",
    "steps": STEPS,
    "seeds": [0, 1],
    "evaluation": {"every": EVERY, "episodes": 1},
    "datasets": {"hopper-medium-replay": "hopper-medium-replay"},
    "agents": [{"agent": "TD3BC", "settings": {"actor_hidden": [8], "critic_hidden": [8], "batch_size": 8}}],
}
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address", "127.0.0.1"]
DRIVER = """
import sys
from pathlib import Path
from zoo.studies.cluster import run_ray
run_ray([Path(place) for place in sys.argv[1:]], 0.0, lambda place: print("over", place.name, flush=True))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(pid: int) -> list[int]:
    """A process and all that came of it."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    below = children.read_text().split() if children.exists() else []
    return [pid, *(each for child in below for each in descendants(int(child)))]


def kill(process: subprocess.Popen) -> None:
    for pid in descendants(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


@pytest.fixture
def cluster(monkeypatch) -> Iterator[list[subprocess.Popen]]:
    """A head that works on nothing and two nodes of one core each, all on this machine; the nodes."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    port = free_port()
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    without = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    head = [*RAY, "--head", "--port", str(port), "--num-cpus", "0", "--include-dashboard", "false"]
    processes = [subprocess.Popen(head, env=without, **quiet)]
    time.sleep(8)
    node = [*RAY, "--address", f"127.0.0.1:{port}", "--num-cpus", "1"]
    processes += [subprocess.Popen(node, env=without, **quiet) for _ in range(2)]
    yield processes[1:]
    for process in processes:
        kill(process)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_a_cell_whose_node_dies_goes_on_elsewhere_from_what_came_home(cluster, tmp_path):
    places = prepare(tmp_path, Study.of(STUDY).cells())
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *map(str, places)], stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 180
    while not all(read_status(place).steps >= 2 * EVERY for place in places):
        assert driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    assert all(read_status(place).state == "running" for place in places)
    kill(cluster[0])
    printed, _ = driver.communicate(timeout=300)
    assert (driver.returncode, printed.count("over")) == (0, 2)
    for place in places:
        status = read_status(place)
        assert (status.state, status.steps) == ("done", STEPS)
        assert (place / "final.zip").is_file()
        steps = [int(line.split(",")[0]) for line in (place / "evaluations.csv").read_text().splitlines()[1:]]
        assert steps == list(range(EVERY, STEPS + 1, EVERY))  # none lost, none doubled

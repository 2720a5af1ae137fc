"""A policy drives a simulated robot in another process: 1,000 decisions a second, on one core.

    python examples/robot_loop/run.py DIR [--rate 1000] [--robot-rate 1000] [--faults drop@300x20 nan@500x5 die@900]

DIR: of agent.export_onnx; where write_guard left a disagreement.onnx in it, that guards. README.md beside this file
says what the rates mean and how to read the tables.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import math
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from zoo_robot.control import ControlLoop, Limits, Report
from zoo_robot.disagreement import Disagreement
from zoo_robot.recorder import Recorder
from zoo_robot.runtime import OnnxPolicy

ROBOT = Path(__file__).with_name("robot.py")
STALE = 3.0  # steps of the robot after which an observation says too little
PHASE = 0.3  # of a period after the robot's tick, the loop's: room for jitter on both sides


class Link:
    """The loop's end of the socket: datagrams with a stamp, of which only newer and timely ones count.

    A datagram that took `max_delay` seconds longer than the fastest one so far counts as lost: the loop times an
    observation from when it is read, and cannot see how long it was under way.
    """

    def __init__(self, port: int, max_delay: float, clock: Callable[[], float] = time.monotonic):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.max_delay, self.clock = max_delay, clock
        self.received = -1
        self.fastest = math.inf  # time of arrival less time of sending, by two clocks of unknown offset
        self.sent = 0

    def greet(self, timeout: float = 10.0) -> None:
        """Starts the robot and waits for its first observation, which is left for read()."""
        self.socket.send(np.int64(0).tobytes())
        if not select.select([self.socket], [], [], timeout)[0]:
            raise TimeoutError(f"no observation from the robot within {timeout:g} s")

    def read(self) -> np.ndarray | None:
        """The newest timely observation, or None. Raises ConnectionRefusedError where nobody listens any more."""
        values = None
        while True:
            try:
                content = self.socket.recv(4096)
            except BlockingIOError:
                return values
            stamp = int.from_bytes(content[:8], "little")
            delay = self.clock() - stamp * 1e-9
            self.fastest = min(self.fastest, delay)
            if stamp > self.received and delay - self.fastest <= self.max_delay:
                self.received, values = stamp, np.frombuffer(content[8:], "<f8")

    def write(self, action: np.ndarray) -> None:
        self.sent += 1
        with contextlib.suppress(BlockingIOError):  # a full buffer drops this action; the next is newer anyway
            self.socket.send(np.int64(self.sent).tobytes() + action.astype("<f8").tobytes())

    def take_leave(self) -> None:
        """Ends the robot. The socket stays open, for the robot may be about to send."""
        with contextlib.suppress(ConnectionRefusedError):  # the robot was faster
            self.socket.send(np.int64(self.sent + 1).tobytes())


@contextlib.contextmanager
def robot(arguments: list[str]) -> Iterator[tuple[subprocess.Popen, int]]:
    """The robot's process and its port; it is ended with the block."""
    process = subprocess.Popen([sys.executable, str(ROBOT), *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the robot did not start: {ROBOT.name} exited with {process.wait()}")
        yield process, json.loads(line)["port"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def drive(
    directory: Path,
    rate: float,
    robot_rate: float,
    steps: int,
    faults: list[str],
    on_overrun: str,
    log: Path | None,
    record: Path | None = None,
) -> tuple[Report, dict | None]:
    """The loop's report, and the robot's, which is None where it died. record: a file that every tick is added to."""
    policy = OnnxPolicy(directory)
    guarded = (directory / "disagreement.onnx").exists()
    guard = Disagreement(directory, policy=policy.metadata) if guarded else None
    limits = Limits(policy.low, policy.high, safe=np.clip(0.0, policy.low, policy.high))
    arguments = ["--rate", str(robot_rate)] + (["--faults", *faults] if faults else [])
    if env_id := policy.metadata["dataset"]["env_id"]:
        arguments += ["--env", env_id]
    with robot(arguments) as (process, port):
        link = Link(port, max_delay=STALE / robot_rate)
        loop = ControlLoop(
            link.read,
            policy.predict,
            link.write,
            limits,
            rate=rate,
            observation_size=policy.observation_size,
            stale_after=STALE / robot_rate,
            on_overrun=on_overrun,
            guard=guard,
            memory=policy,
            recorder=None if record is None else Recorder(record, policy),
        )
        policy.predict(np.zeros(policy.observation_size))  # the first call takes milliseconds
        link.greet()
        time.sleep(PHASE / rate)
        report = loop.run(int(steps * rate / robot_rate))
        link.take_leave()
        assert process.stdout is not None
        last = process.stdout.readline()
        link.socket.close()
    if log is not None:
        loop.write_log(log)
    return report, json.loads(last) if last else None


def share_one_core(core: int, realtime: bool) -> None:
    """This process, and the robot's that it starts, on one core; realtime: before all ordinary processes there."""
    os.sched_setaffinity(0, {core})
    if realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rate", type=float, default=1000.0, help="of the loop, ticks a second")
    parser.add_argument(
        "--robot-rate", type=float, default=1000.0, help="control steps a second; 125 is Hopper's real time"
    )
    parser.add_argument("--steps", type=int, default=10_000, help="control steps to run for")
    parser.add_argument(
        "--faults", nargs="*", default=[], metavar="KIND@STEPxCOUNT", help="drop, late, nan, shape, die"
    )
    parser.add_argument("--on-overrun", default="hold", choices=["hold", "safe", "stop"])
    parser.add_argument("--core", type=int, help="pin both processes to it")
    parser.add_argument("--realtime", action="store_true", help="scheduling class SCHED_FIFO; needs the right to it")
    parser.add_argument("--log", type=Path, help="write the ticks there, JSON lines")
    parser.add_argument("--record", type=Path, help="add every tick to this log; zoo data import reads it")
    parser.add_argument("--json", type=Path, help="write both reports there")
    options = parser.parse_args()
    logging.basicConfig(format="%(name)s: %(message)s")
    if options.core is not None:
        share_one_core(options.core, options.realtime)
    report, result = drive(
        options.directory,
        options.rate,
        options.robot_rate,
        options.steps,
        options.faults,
        options.on_overrun,
        options.log,
        options.record,
    )
    print(report)
    if result is None:
        print("robot: died")
    else:
        returns = np.array(result["returns"])
        print(
            f"robot: {result['steps']} steps, {result['without_new_action']} without a new action, "
            f"{result['at_rest']} at rest; {len(returns)} episodes, return {returns.mean():.1f} ± {returns.std():.1f}"
            if len(returns)
            else f"robot: {result}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"loop": dataclasses.asdict(report), "robot": result}, indent=2))


if __name__ == "__main__":
    main()

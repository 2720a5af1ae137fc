"""The robot of the demonstration: a simulation behind a UDP socket, stepped at its own rate in a process of its own.

    python examples/robot_loop/robot.py --env Hopper-v5 --rate 1000 [--faults nan@200x5 die@900]

It prints its port, waits for a first datagram, and from then on, at absolute deadlines: takes the newest action that
has come, steps the simulation by one control step, sends the observation. A step without a new action repeats the last
one, and after `PATIENCE` of them the torque is zero: the watchdog that belongs on a robot. Where an episode ends it
sends the last observation, and is silent for a step while it is put back on its feet. A datagram without an action
ends it, with a line of JSON.

Datagrams are little-endian: an int64 that grows, then float64 values; without values they greet or take leave. That of
an observation is its time on the robot's clock, in nanoseconds.
"""

import argparse
import dataclasses
import json
import os
import re
import signal
import socket
import time

import gymnasium
import numpy as np

PATIENCE = 5  # control steps
FAULTS = ("drop", "late", "nan", "shape", "die")
DELAY = 10  # steps by which a late observation is late


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to the observations of the steps from `start` on, `count` of them."""

    kind: str
    start: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Fault":
        match = re.fullmatch(rf"({'|'.join(FAULTS)})@(\d+)(?:x(\d+))?", text)
        if match is None:
            raise argparse.ArgumentTypeError(
                f"a fault is KIND@STEPxCOUNT, KIND one of {', '.join(FAULTS)}; got {text!r}"
            )
        return cls(match[1], int(match[2]), int(match[3] or 1))


def datagrams(step: int, stamp: int, obs: np.ndarray, faults: list[Fault], delayed: dict[int, bytes]) -> list[bytes]:
    """What is sent after a step: its observation, with what the faults make of it, and what was delayed until now."""
    kinds = {fault.kind for fault in faults if fault.start <= step < fault.start + fault.count}
    if "die" in kinds:
        os.kill(os.getpid(), signal.SIGKILL)
    values = np.full_like(obs, np.nan) if "nan" in kinds else np.append(obs, 0.0) if "shape" in kinds else obs
    content = np.int64(stamp).tobytes() + values.astype("<f8").tobytes()
    if "late" in kinds:
        delayed[step + DELAY] = content
    due = [delayed.pop(step)] if step in delayed else []
    return due if kinds & {"drop", "late"} else [*due, content]


def newest(server: socket.socket) -> np.ndarray | None:
    """The last action that has come, empty where the loop takes leave; or None."""
    action = None
    while True:
        try:
            action = np.frombuffer(server.recv(4096)[8:], "<f8")
        except BlockingIOError:
            return action


def serve(server: socket.socket, env_id: str, rate: float, seed: int, faults: list[Fault]) -> dict:
    """Runs the robot until the loop takes leave; episode i starts from reset(seed + i). Returns what it saw."""
    env = gymnasium.make(env_id)
    action = rest = np.zeros(env.action_space.shape)
    env.reset()
    env.step(rest)  # the first step takes tens of milliseconds
    obs, _ = env.reset(seed=seed)
    returns, current, step, silent, repeated, resting = [], 0.0, 0, 0, 0, 0
    over = 0  # steps since the episode ended: in the first its last observation is sent, in the second nothing
    delayed: dict[int, bytes] = {}
    print(json.dumps({"port": server.getsockname()[1]}), flush=True)
    _, peer = server.recvfrom(64)
    server.connect(peer)
    server.setblocking(False)
    start = time.monotonic()
    while True:
        if over < 2:
            for content in datagrams(step, time.monotonic_ns(), obs, faults, delayed):
                server.send(content)
        time.sleep(max(start + (step + 1) / rate - time.monotonic(), 0.0))
        came = newest(server)
        if came is not None and came.size == 0:
            return {"steps": step, "without_new_action": repeated, "at_rest": resting, "returns": returns}
        silent = 0 if came is not None else silent + 1
        repeated += silent > 0
        resting += silent > PATIENCE
        action = rest if silent > PATIENCE else action if came is None else came
        step += 1
        if over == 0:
            obs, reward, terminated, truncated, _ = env.step(action)
            current += float(reward)
            over = int(terminated or truncated)
        elif over == 1:
            over = 2
        else:
            returns.append(current)
            obs, _ = env.reset(seed=seed + len(returns))
            current, over = 0.0, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--rate", type=float, default=1000.0, help="control steps a second")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--faults", type=Fault.parse, nargs="*", default=[], metavar="KIND@STEPxCOUNT")
    options = parser.parse_args()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        try:
            result = serve(server, options.env, options.rate, options.seed, options.faults)
        except ConnectionRefusedError:
            raise SystemExit("the control loop is gone") from None
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

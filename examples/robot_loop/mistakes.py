"""Does `zoo-robot shadow` find the usual mistakes between two pieces of software, and is it silent where there is none?

    python examples/robot_loop/mistakes.py OLD NEW [--steps 2000] [--log run.log]

OLD, NEW: bundles for one robot, such as those of circle.py; NEW learned on from OLD. OLD is run in the simulator,
without a clock, and recorded. Then each mistake of MISTAKES is planted into a copy of NEW, and shadow is asked. The
last rows of the table are honest pairs.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import onnx
from onnx import helper, numpy_helper

from zoo_robot.control import ControlLoop, Limits
from zoo_robot.recorder import Recorder
from zoo_robot.runlog import ROWS, RUN, Run, block, read_log
from zoo_robot.runtime import OnnxPolicy
from zoo_robot.shadow import shadow

DEGREES = 180.0 / np.pi


@dataclass(frozen=True)
class Planted:
    """A mistake: what the network sees is obs @ sensors, what it does is actions @ joints. sign: what must be told."""

    sign: str
    sensors: Callable[[np.ndarray], None] | None = None  # changes a unit matrix (O, O)
    joints: Callable[[np.ndarray], None] | None = None  # (A, A)
    lag: int = 0  # ticks by which the log's observations are old


def exchange(i: int, k: int) -> Callable[[np.ndarray], None]:
    def change(matrix: np.ndarray) -> None:
        matrix[:, [i, k]] = matrix[:, [k, i]]

    return change


def scale(i: int, factor: float) -> Callable[[np.ndarray], None]:
    def change(matrix: np.ndarray) -> None:
        matrix[i, i] = factor

    return change


def joints(i: int, k: int) -> str:
    return f"actions actions[{i}] and actions[{k}] are in each other's place"


def sensors(i: int, k: int) -> str:
    return f"observations observations[{i}] and observations[{k}] are in each other's place"


MISTAKES = {
    "joints 0 and 1 exchanged": Planted(joints(0, 1), joints=exchange(0, 1)),
    "joints 0 and 2 exchanged": Planted(joints(0, 2), joints=exchange(0, 2)),
    "joint 0 has the other sign": Planted("action actions[0] has the other sign", joints=scale(0, -1.0)),
    "joint 2 has the other sign": Planted("action actions[2] has the other sign", joints=scale(2, -1.0)),
    "joint 0 in degrees": Planted("action actions[0] is at the edge", joints=scale(0, DEGREES)),
    "joint 1 in radians": Planted("actions[1] is too small: degrees", joints=scale(1, 1.0 / DEGREES)),
    "joint 2 a thousandth": Planted("actions[2] is too small: a factor of 1000", joints=scale(2, 1e-3)),
    "joint 1 a quarter": Planted("actions[1] is too small: a factor of 4", joints=scale(1, 0.25)),
    "sensors 2 and 4 exchanged": Planted(sensors(2, 4), sensors=exchange(2, 4)),
    "sensors 5 and 10 exchanged": Planted(sensors(5, 10), sensors=exchange(5, 10)),
    "sensor 4 has the other sign": Planted("observations[4] has the other sign", sensors=scale(4, -1.0)),
    "sensor 5 has the other sign": Planted("observations[5] has the other sign", sensors=scale(5, -1.0)),
    "sensor 4 in radians": Planted("observations[4] is too small: degrees", sensors=scale(4, 1.0 / DEGREES)),
    "sensor 10 a thousandfold": Planted("observations[10] is too large: a factor of 1000", sensors=scale(10, 1e3)),
    "observations a tick late": Planted("actions are 1 observation late", lag=1),
    "observations two ticks late": Planted("actions are 2 observations late", lag=2),
}


def recorded(bundle: Path, log: Path, steps: int, env_id: str | None = None, seed: int = 0) -> Run:
    """A bundle's run in the simulator, a step a tick, as fast as it goes. An episode ends with a tick of silence."""
    policy = OnnxPolicy(bundle, providers="cpu")
    env = gymnasium.make(env_id or policy.metadata["dataset"]["env_id"])
    robot = {"obs": env.reset(seed=seed)[0], "over": False, "now": 0.0}

    def read() -> np.ndarray | None:
        return robot["obs"]

    def write(action: np.ndarray) -> None:
        if robot["over"] or robot["obs"] is None:  # the terminal observation was seen: it is put back in silence
            robot["obs"] = None if robot["over"] else env.reset()[0]
            robot["over"] = False
        else:
            robot["obs"], _, terminated, truncated, _ = env.step(action)
            robot["over"] = terminated or truncated

    def sleep(seconds: float) -> None:
        robot["now"] += seconds

    rate = 125.0
    loop = ControlLoop(
        read,
        policy.predict,
        write,
        Limits(policy.low, policy.high, safe=np.clip(0.0, policy.low, policy.high)),
        rate=rate,
        observation_size=policy.observation_size,
        stale_after=3.0 / rate,
        memory=policy,
        recorder=Recorder(log, policy, seconds=steps / rate + 1.0),
        clock=lambda: robot["now"],
        sleep=sleep,
    )
    loop.run(steps)
    env.close()
    return read_log(log).runs[-1]


def plant(bundle: Path, mistake: Planted, copy: Path) -> Path:
    """A copy of the bundle whose policy makes the mistake."""
    shutil.copytree(bundle, copy)
    policy = OnnxPolicy(bundle, providers="cpu")
    contract = json.loads((copy / "contract.json").read_text())
    for name in ("actor.onnx", "policy.onnx"):
        model = onnx.load(copy / name)
        for change, tensor, size in (
            (mistake.sensors, "obs", policy.observation_size),
            (mistake.joints, "actions", policy.action_size),
        ):
            if change is not None:
                matrix = np.eye(size, dtype=np.float32)
                change(matrix)
                mix(model.graph, tensor, matrix, policy)
        onnx.checker.check_model(model)
        (copy / name).write_bytes(model.SerializeToString())
        contract["files"][name]["sha256"] = hashlib.sha256((copy / name).read_bytes()).hexdigest()
    (copy / "contract.json").write_text(json.dumps(contract))
    return copy


def mix(graph: onnx.GraphProto, tensor: str, matrix: np.ndarray, policy: OnnxPolicy) -> None:
    """Multiplies the input obs, or the output actions, by a matrix; actions stay inside the box."""
    inside = f"{tensor}_inside"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [inside if name == tensor else name for name in names]
    graph.initializer.append(numpy_helper.from_array(matrix, f"{tensor}_matrix"))
    if tensor == "obs":
        graph.node.insert(0, helper.make_node("MatMul", [tensor, f"{tensor}_matrix"], [inside]))
        return
    for name, edge in (("box_low", policy.low), ("box_high", policy.high)):
        graph.initializer.append(numpy_helper.from_array(edge, name))
    graph.node.append(helper.make_node("MatMul", [inside, f"{tensor}_matrix"], ["mixed"]))
    graph.node.append(helper.make_node("Max", ["mixed", "box_low"], ["above"]))
    graph.node.append(helper.make_node("Min", ["above", "box_high"], [tensor]))


def delayed(run: Run, lag: int, path: Path) -> Run:
    """The run with observations that are `lag` ticks old: its actions answer later ones."""
    rows = run.rows.copy()
    rows["wanted"][:-lag] = run.rows["wanted"][lag:]
    rows = rows[:-lag]
    path.write_bytes(block(RUN, json.dumps(run.about).encode()) + block(ROWS, rows.tobytes()))
    return read_log(path).runs[-1]


def found(old: Path, new: Path, run: Run) -> list[str]:
    """The bad findings of shadow."""
    return [finding.text for finding in shadow(old, new, run) if finding.bad]


def table(old: Path, new: Path, run: Run) -> list[tuple[str, bool, str]]:
    """Name, whether it went as it should, and the first finding: of every mistake, then of the honest pairs."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, mistake) in enumerate(MISTAKES.items()):
            logged = delayed(run, mistake.lag, Path(folder) / f"{number}.log") if mistake.lag else run
            bundle = new if mistake.lag else plant(new, mistake, Path(folder) / str(number))
            told = [text for text in found(old, bundle, logged) if mistake.sign in text]
            rows.append((name, bool(told), told[0] if told else "not found"))
    for name, second in (("honest: OLD itself", old), ("honest: NEW", new)):
        told = found(old, second, run)
        rows.append((name, not told, told[0] if told else "silent"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--log", type=Path, help="keep the run there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = recorded(options.old, options.log or Path(folder) / "run.log", options.steps)
    rows = table(options.old, options.new, run)
    for name, right, text in rows:
        print(f"{'' if right else 'WRONG':<6}{name:<30}{text}")
    raise SystemExit(not all(right for _, right, _ in rows))


if __name__ == "__main__":
    main()

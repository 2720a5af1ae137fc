"""The demonstration of the control loop: its link, its robot, and short real runs of both. No test asks for a speed."""

import argparse
import importlib.util
import json
import math
import select
import socket
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.paths import ROOT

FOLDER = ROOT / "examples" / "robot_loop"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"robot_loop_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


run, robot = load("run"), load("robot")
Fault = robot.Fault
OBS = np.array([1.0, -2.0])


@pytest.fixture
def sockets():
    """A link and the socket of the robot that it talks to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        link = run.Link(server.getsockname()[1], max_delay=math.inf)
        server.connect(link.socket.getsockname())
        yield link, server
        link.socket.close()


def datagram(number: int, *values: float) -> bytes:
    return number.to_bytes(8, "little") + np.array(values, "<f8").tobytes()


# The link


def test_the_newest_observation_counts_and_older_ones_never_again(sockets):
    link, server = sockets
    assert link.read() is None
    for number in (4, 6, 5):
        server.send(datagram(number, number / 2))
    assert link.read().tolist() == [3.0]
    server.send(datagram(5, 9.0))
    assert link.read() is None
    server.send(datagram(7, 8.0))
    assert link.read().tolist() == [8.0]


def test_an_observation_that_was_long_under_way_counts_as_lost(sockets):
    link, server = sockets
    link.max_delay, now = 0.25, 50.0
    link.clock = lambda: now
    server.send(datagram(100_000_000, 1.0))  # sent at 0.1 on the robot's clock: the offset is 49.9
    assert link.read().tolist() == [1.0]
    now = 50.35
    server.send(datagram(200_000_000, 2.0))  # sent at 0.2, so it should have come at 50.1
    assert link.read().tolist() == [2.0]
    now = 50.5
    server.send(datagram(300_000_000, 3.0))  # due at 50.2, 0.3 ago
    assert link.read() is None
    server.send(datagram(400_000_000, 4.0))
    assert link.read().tolist() == [4.0]


def test_actions_arrive_in_the_robot_newest_first(sockets):
    link, server = sockets
    assert robot.newest(server) is None
    link.write(np.array([0.5]))
    link.write(np.array([0.25]))
    assert robot.newest(server).tolist() == [0.25]
    assert robot.newest(server) is None


def test_taking_leave_is_an_action_without_values(sockets):
    link, server = sockets
    link.take_leave()
    assert robot.newest(server).size == 0


def test_a_robot_that_says_nothing_is_a_timeout(sockets):
    link, _ = sockets
    with pytest.raises(TimeoutError, match="no observation from the robot within 0 s"):
        link.greet(timeout=0.0)


# The faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [("nan@3x5", Fault("nan", 3, 5)), ("die@12", Fault("die", 12, 1)), ("drop@0x2", Fault("drop", 0, 2))],
)
def test_a_fault_is_read_from_text(text, fault):
    assert Fault.parse(text) == fault


@pytest.mark.parametrize("text", ["nan", "nan@", "melt@3", "nan@3x", "nan@-1"])
def test_another_text_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="a fault is KIND@STEPxCOUNT, KIND one of drop, late, nan"):
        Fault.parse(text)


def test_faults_do_what_they_are_called():
    def sent(step, *faults, delayed=None):
        contents = robot.datagrams(step, 10 * step, OBS, list(faults), {} if delayed is None else delayed)
        return [(int.from_bytes(c[:8], "little"), np.frombuffer(c[8:], "<f8").tolist()) for c in contents]

    assert sent(5) == [(50, [1.0, -2.0])]
    assert sent(5, Fault("drop", 5, 1)) == []
    assert sent(6, Fault("drop", 5, 1)) == [(60, [1.0, -2.0])]
    assert sent(5, Fault("shape", 4, 2)) == [(50, [1.0, -2.0, 0.0])]
    ((number, values),) = sent(5, Fault("nan", 5, 1))
    assert number == 50
    assert np.isnan(values).all()
    delayed: dict = {}
    assert sent(5, Fault("late", 5, 1), delayed=delayed) == []
    assert [number for number, _ in sent(15, delayed=delayed)] == [50, 150]
    assert delayed == {}


# Real runs


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """A policy for Hopper made by hand: a little of the first three observations each."""
    folder = tmp_path_factory.mktemp("deploy")
    inputs = [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["batch", 11])]
    outputs = [helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["batch", 3])]
    weight = numpy_helper.from_array(0.1 * np.eye(11, 3, dtype=np.float32), "weight")
    nodes = [helper.make_node("MatMul", ["obs", "weight"], ["actions"])]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    metadata = {
        "format": 1,
        "graph": "policy",
        "observation_size": 11,
        "action_size": 3,
        "action_low": [-1.0] * 3,
        "action_high": [1.0] * 3,
        "evaluation_samples": 1,
        "dataset": {"name": "by hand", "env_id": "Hopper-v5"},
    }
    helper.set_model_props(model, {"zoo": json.dumps(metadata)})
    onnx.save(model, folder / "policy.onnx")
    return folder


def test_a_run_without_faults_ends_as_planned_on_both_sides(directory, tmp_path):
    report, result = run.drive(directory, 200.0, 200.0, 40, [], "hold", tmp_path / "log.jsonl")
    assert report.reason == "done"
    assert report.deadlines >= 40
    assert report.outcomes["policy"] > 0
    assert result["steps"] > 0
    first, *ticks = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert first["outcomes"] == report.outcomes
    assert len(ticks) == sum(report.outcomes.values())


def test_nan_and_wrong_shapes_are_refused_and_the_robot_is_made_safe(directory):
    report, result = run.drive(directory, 200.0, 200.0, 60, ["nan@10x20", "shape@30x1000"], "hold", None)
    assert report.reason == "done"
    assert report.causes["faulty"] > 0
    assert report.outcomes["safe"] > 0
    assert report.last_fault == "the observation has shape (12,), expected (11,)"
    assert result is not None


def test_a_robot_that_dies_ends_the_run(directory):
    report, result = run.drive(directory, 200.0, 200.0, 10_000, ["die@20"], "hold", None)
    assert report.reason.startswith("lost the robot: ConnectionRefusedError")
    assert result is None


def test_a_robot_without_actions_comes_to_rest():
    with run.robot(["--rate", "500"]) as (process, port):
        link = run.Link(port, max_delay=1.0)
        link.greet()
        for _ in range(20):
            assert select.select([link.socket], [], [], 30.0)[0]
            link.socket.recv(4096)
        link.take_leave()
        result = json.loads(process.stdout.readline())
        link.socket.close()
    assert result["steps"] >= 19
    assert result["without_new_action"] >= 19
    assert result["at_rest"] == result["without_new_action"] - robot.PATIENCE


def test_a_robot_that_cannot_start_is_told():
    with (
        pytest.raises(RuntimeError, match=r"the robot did not start: robot\.py exited with 2"),
        run.robot(["--faults", "x"]),
    ):
        pass


# The circle


def test_the_circle_closes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    circle = load("circle")
    checkpoint = circle.first_checkpoint(tmp_path, 20)
    tuned, findings = circle.circle(checkpoint, tmp_path / "round", steps=60, updates=5, rate=50.0)
    assert tuned.is_file()
    assert any("the same bits in all of" in finding.text for finding in findings)
    assert (tmp_path / "round" / "run-new.log").is_file()

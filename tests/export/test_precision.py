"""Policies in fp16 and int8, on networks made here by hand."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.cli.precision import Precision
from zoo.export import precision
from zoo.export.precision import action_errors, figures, table, write_variants
from zoo_robot.runtime import OnnxPolicy

OBS, ACT, WIDTH = 11, 3, 64
MEAN, STD = np.full(OBS, 1e5, np.float32), np.full(OBS, 10.0, np.float32)  # fp16 ends at 65,504
LOW, HIGH = [-1.0, -1.0, 0.0], [1.0, 1.0, 4.0]


def write(path: Path, width: int = WIDTH, offset: float = 0.0) -> Path:
    """tanh of a random network of two hidden layers, on normalised observations, scaled to the box; plus an offset."""
    rng = np.random.default_rng(0)
    sizes = (OBS, width, width, ACT)
    arrays = {"mean": MEAN, "std": STD, "half": np.array([1.0, 1.0, 2.0]), "center": np.array([0.0, 0.0, 2.0 + offset])}
    nodes = [helper.make_node("Sub", ["obs", "mean"], ["sub"]), helper.make_node("Div", ["sub", "std"], ["h0"])]
    for i in range(3):
        arrays[f"w{i}"] = rng.normal(0.0, 1.0 / np.sqrt(sizes[i]), (sizes[i], sizes[i + 1]))
        arrays[f"b{i}"] = rng.normal(0.0, 0.1, sizes[i + 1])
        nodes.append(helper.make_node("Gemm", [f"h{i}", f"w{i}", f"b{i}"], [f"g{i}"]))
        nodes.append(helper.make_node("Relu" if i < 2 else "Tanh", [f"g{i}"], [f"h{i + 1}"]))
    nodes += [
        helper.make_node("Mul", ["h3", "half"], ["scaled"]),
        helper.make_node("Add", ["scaled", "center"], ["actions"]),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["batch", OBS])],
        [helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["batch", ACT])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    metadata = {
        "format": 1,
        "graph": "policy",
        "observation_size": OBS,
        "action_size": ACT,
        "action_low": LOW,
        "action_high": HIGH,
        "evaluation_samples": 1,
    }
    helper.set_model_props(model, {"zoo": json.dumps(metadata)})
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def directory(tmp_path) -> Path:
    return write(tmp_path / "deploy" / "policy.onnx").parent


@pytest.fixture
def observations() -> np.ndarray:
    return (MEAN + STD * np.random.default_rng(1).standard_normal((300, OBS))).astype(np.float32)


def weights(path: Path) -> dict[str, np.ndarray]:
    return {w.name: numpy_helper.to_array(w) for w in onnx.load(path).graph.initializer}


def test_half_precision_rounds_the_layers_and_nothing_else(directory, observations):
    write_variants(directory, observations)
    before, after = weights(directory / "policy.onnx"), weights(directory / "fp16" / "policy.onnx")
    layers = {"w0", "b0", "w1", "b1", "w2", "b2"}
    assert {name for name in after if after[name].dtype == np.float16} == {f"{name}.fp16" for name in layers}
    for name in layers:
        np.testing.assert_array_equal(after[f"{name}.fp16"], before[name].astype(np.float16))
    for name in before.keys() - layers:
        np.testing.assert_array_equal(after[name], before[name])


def test_half_precision_survives_observations_beyond_its_range(directory, observations):
    policies = write_variants(directory, observations)
    obs = observations[0]
    with np.errstate(over="ignore"):
        assert np.isinf(obs.astype(np.float16)).all()
    # Three layers, each rounded to 11 bits: some 2^-11 of values around 1.
    np.testing.assert_allclose(policies["fp16"].predict(obs), policies["fp32"].predict(obs), atol=4e-3)


def test_integers_replace_the_wide_layer_and_leave_the_narrow_ones(directory, observations):
    policies = write_variants(directory, observations)
    before, after = weights(directory / "policy.onnx"), weights(directory / "int8" / "policy.onnx")
    whole = [a for a in after.values() if a.dtype == np.int8 and a.size == WIDTH * WIDTH]
    assert len(whole) == 1
    assert np.abs(whole[0].astype(int)).max() <= 64  # seven bits with their sign
    scale = np.abs(before["w1"]).max() / 64
    assert np.abs(whole[0].reshape(WIDTH, WIDTH) * scale - before["w1"]).max() <= 0.51 * scale
    for name in ("w0", "w2"):
        np.testing.assert_array_equal(after[name], before[name])
    errors = action_errors(policies["int8"], policies["fp32"], observations)
    assert 0.0 < errors.mean() < 0.05


def test_variants_are_policies_that_say_what_they_are(directory, observations):
    write_variants(directory, observations)
    for name in ("fp16", "int8"):
        policy = OnnxPolicy(directory / name)
        assert (policy.metadata["precision"], policy.low.tolist(), policy.high.tolist()) == (name, LOW, HIGH)


def test_a_policy_with_candidates_is_calibrated_with_noise(tmp_path, observations):
    """candidates = obs @ W, moved by the first noise; W is 64 x 64, so that it is quantised."""
    weight = np.random.default_rng(0).normal(0.0, 0.1, (64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["obs", "weight"], ["mean"]),
            helper.make_node("Gather", ["noise", "first"], ["moved"], axis=1),
            helper.make_node("Add", ["mean", "moved"], ["actions"]),
        ],
        "policy",
        [
            helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["batch", 64]),
            helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 4, 64]),
        ],
        [helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["batch", 64])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array(0), "first")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    metadata = {"format": 1, "graph": "policy", "observation_size": 64, "action_size": 64, "evaluation_samples": 4}
    metadata |= {"action_low": [-9.0] * 64, "action_high": [9.0] * 64}
    helper.set_model_props(model, {"zoo": json.dumps(metadata)})
    onnx.save(model, tmp_path / "policy.onnx")
    obs = np.random.default_rng(1).uniform(-1.0, 1.0, (100, 64)).astype(np.float32)
    policies = write_variants(tmp_path, obs)
    noise = np.random.default_rng(2).standard_normal((1, 4, 64)).astype(np.float32)
    expected = obs[0] @ weight + noise[0, 0]
    np.testing.assert_allclose(policies["int8"].predict(obs[0], noise), np.clip(expected, -9, 9), atol=0.1)
    np.testing.assert_allclose(policies["fp16"].predict(obs[0], noise), np.clip(expected, -9, 9), atol=0.01)


def test_action_errors_are_in_half_boxes(directory, tmp_path, observations):
    moved = OnnxPolicy(write(tmp_path / "moved" / "policy.onnx", offset=-0.5))  # of a half box of 2; the others agree
    errors = action_errors(moved, OnnxPolicy(directory), observations)
    inside = OnnxPolicy(directory).predict(observations)[:, 2] > 0.5  # where the box does not cut it off
    np.testing.assert_allclose(errors[inside], 0.25, rtol=1e-4)
    assert inside.sum() > 100


def test_the_figures_are_those_of_each_policy(directory, observations, monkeypatch):
    monkeypatch.setattr(precision, "LATENCY_CALLS", {1: 3, 64: 2})
    asked = []

    def evaluation(policy):
        asked.append(policy.metadata.get("precision", "fp32"))
        return np.array([100.0, 200.0]) * len(asked)

    rows = figures(directory, observations, evaluation)
    assert asked == [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]
    assert rows[0]["action_error"] == {"mean": 0.0, "p99": 0.0}
    assert rows[2]["return"] == {"mean": 450.0, "std": 150.0, "episodes": 2}
    assert rows[1]["kilobytes"] == pytest.approx((directory / "fp16" / "policy.onnx").stat().st_size / 1e3, abs=0.05)
    assert rows[0]["kilobytes"] > rows[1]["kilobytes"]
    assert "| int8 |" in table(rows).splitlines()[4]
    assert "450.0 ± 150.0" in table(rows).splitlines()[4]


def test_observations_of_another_robot_are_refused(directory):
    with pytest.raises(ValueError, match=r"takes observations \(N, 11\), got \(4, 5\)"):
        write_variants(directory, np.zeros((4, 5), np.float32))


def test_networks_without_a_wide_layer_are_refused_and_nothing_is_written(tmp_path, observations):
    directory = write(tmp_path / "deploy" / "policy.onnx", width=32).parent
    with pytest.raises(ValueError, match="no layer of 64 x 64 or more: 8 bits have nothing to gain there"):
        write_variants(directory, observations)
    assert [p.name for p in directory.iterdir()] == ["policy.onnx"]


def test_the_command_writes_its_figures(directory, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(precision, "LATENCY_CALLS", {1: 3, 64: 2})
    Precision(directory, "hopper-medium-replay", episodes=0, json=tmp_path / "p.json").run()
    written = json.loads((tmp_path / "p.json").read_text())
    assert (written["dataset"], [row["precision"] for row in written["rows"]]) == (
        "hopper-medium-replay",
        ["fp32", "fp16", "int8"],
    )
    assert "| fp16 |" in capsys.readouterr().out

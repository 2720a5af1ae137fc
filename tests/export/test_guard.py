"""The critics' disagreement as a file: written by export/guard.py, read without torch by export/disagreement.py."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.support.data import tiny, toy_dataset
from zoo.agents import AGENTS, TD3BC
from zoo_robot import disagreement
from zoo_robot.disagreement import Disagreement, GuardFileError
from zoo_robot.runtime import OnnxPolicy

SOURCE = Path(disagreement.__file__)
METADATA = {
    "format": 1,
    "graph": "disagreement",
    "observation_size": 2,
    "action_size": 1,
    "calibration": {"threshold": 0.5},
    "agent": "TD3BC",
    "seed": 3,
    "config_sha256": "ab",
    "counters": {"updates": 5, "env_steps": 0},
}


def write(path: Path, metadata: dict | None = METADATA) -> Path:
    """A file made by hand, without the exporter: disagreement = |sum of obs + sum of actions|."""
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in (("obs", 2), ("actions", 1))
    ]
    output = helper.make_tensor_value_info("disagreement", TensorProto.FLOAT, ["batch"])
    nodes = [
        helper.make_node("Concat", ["obs", "actions"], ["all"], axis=1),
        helper.make_node("ReduceSum", ["all", "axes"], ["sum"], keepdims=0),
        helper.make_node("Abs", ["sum"], ["disagreement"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "disagreement", inputs, [output], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {"zoo": json.dumps(metadata)})
    onnx.save(model, path)
    return path


def by_hand(agent, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """numpy's standard deviation over the critics' own answers."""
    policy = agent.policy
    with torch.no_grad():
        states = policy.normalize_observations(torch.tensor(obs))
        qs = policy.critic(states, policy.normalize_actions(torch.tensor(actions)))
    return np.std(qs.numpy().astype(np.float64), axis=0)


# Writing


@pytest.mark.parametrize("name", ["TD3BC", "PARS", "IQL", "CQL"])  # one of each kind of critic; an export takes seconds
def test_the_file_holds_the_deviation_of_the_critics(name, tmp_path):
    data = toy_dataset()
    agent = tiny(AGENTS[name], data)
    guard = Disagreement(agent.write_guard(data, tmp_path, quantile=0.9))
    expected = by_hand(agent, data.observations, data.actions)
    found = [guard(obs, action) for obs, action in zip(data.observations[:20], data.actions[:20], strict=True)]
    np.testing.assert_allclose(found, expected[:20], rtol=1e-3, atol=1e-5)
    assert guard.threshold == pytest.approx(np.sort(expected)[-21], rel=1e-3)  # a tenth of the 210 rows, it included


def test_the_calibration_says_what_the_threshold_means(tmp_path):
    data = toy_dataset()
    agent = tiny(TD3BC, data)
    calibration = Disagreement(agent.write_guard(data, tmp_path, quantile=0.5)).metadata["calibration"]
    on_data = by_hand(agent, data.observations, data.actions)
    pi, _ = agent.predict(data.observations)
    assert (calibration["dataset"], calibration["rows"], calibration["quantile"]) == ("toy", 210, 0.5)
    assert calibration["median"] == pytest.approx(np.median(on_data), rel=1e-3)
    alarms = (by_hand(agent, data.observations, pi) > calibration["threshold"]).mean()
    assert calibration["policy_alarms"] == pytest.approx(alarms, abs=1.5 / 210)  # one row may lie on the edge


def test_a_guard_knows_the_policy_of_its_agent_from_others(tmp_path):
    data = toy_dataset()
    agent = tiny(TD3BC, data, seed=1)
    agent.export_onnx(tmp_path / "mine")
    agent.write_guard(data, tmp_path / "mine")
    mine, path = OnnxPolicy(tmp_path / "mine"), tmp_path / "mine"
    assert Disagreement(path, policy=mine.metadata).threshold > 0.0
    other = OnnxPolicy(tiny(TD3BC, data, seed=2).export_onnx(tmp_path / "other"))
    with pytest.raises(GuardFileError, match=r"guards another agent: its seed is 1, the policy's is 2"):
        Disagreement(path, policy=other.metadata)


def test_one_critic_is_no_ensemble(tmp_path):
    data = toy_dataset()
    with pytest.raises(
        ValueError, match="TD3BC has 1 critic, and one cannot disagree with itself; train it with n_crit"
    ):
        tiny(TD3BC, data, n_critics=1).write_guard(data, tmp_path / "deploy")
    assert not (tmp_path / "deploy").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantile": 0.0}, "quantile must be between 0 and 1, got 0.0"),
        ({"quantile": 1.0}, "quantile must be between 0 and 1, got 1.0"),
        ({"rows": 0}, "rows must be at least 1, got 0"),
    ],
)
def test_a_calibration_on_nothing_is_refused(settings, message, tmp_path):
    data = toy_dataset()
    with pytest.raises(ValueError, match=message):
        tiny(TD3BC, data).write_guard(data, tmp_path, **settings)


def test_a_population_and_the_data_of_another_robot_are_refused(tmp_path):
    data = toy_dataset()
    with pytest.raises(ValueError, match=r"population of 2 .* agent.member\(i\)"):
        tiny(TD3BC, data, population=2).write_guard(data, tmp_path)

    class Wider:
        name = "wider"

        def column(self, name):
            return np.zeros((4, 9), np.float32)

    with pytest.raises(ValueError, match=r"wider has sizes {'observations': 9, .* trained with {'observations': 3"):
        tiny(TD3BC, data).write_guard(Wider(), tmp_path)


def test_critics_that_agree_everywhere_make_no_guard(tmp_path):
    data = toy_dataset()
    agent = tiny(TD3BC, data)
    for parameter in agent.policy.critic.parameters():
        parameter.data.zero_()
    with pytest.raises(ValueError, match=r"the critics agree on 99\.9% of toy"):
        agent.write_guard(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


# Reading


def test_the_answer_is_the_graphs(tmp_path):
    guard = Disagreement(write(tmp_path / "disagreement.onnx"))
    assert guard(np.array([0.5, -2.0]), np.array([0.25])) == 1.25
    assert guard.threshold == 0.5
    assert Disagreement(tmp_path, threshold=3.0).threshold == 3.0


def test_a_nan_stays_one(tmp_path):
    assert np.isnan(Disagreement(write(tmp_path / "disagreement.onnx"))(np.array([np.nan, 0.0]), np.zeros(1)))


@pytest.mark.parametrize(
    ("obs", "action", "message"),
    [
        (np.zeros(3), np.zeros(1), r"obs must have shape \(2,\), got \(3,\)"),
        (np.zeros(2), np.zeros((1, 1)), r"actions must have shape \(1,\), got \(1, 1\)"),
    ],
)
def test_other_shapes_are_refused(obs, action, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Disagreement(write(tmp_path / "disagreement.onnx"))(obs, action)


@pytest.mark.parametrize("threshold", [0.0, -1.0, np.nan, np.inf])
def test_a_threshold_that_lets_all_or_nothing_pass_is_refused(threshold, tmp_path):
    with pytest.raises(ValueError, match="threshold must be a positive number"):
        Disagreement(write(tmp_path / "disagreement.onnx"), threshold=threshold)


def test_a_missing_file_names_what_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no guard at .*disagreement\.onnx; agent\.write_guard"):
        Disagreement(tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"no model" * 50])
def test_a_damaged_file_is_refused_by_its_name(damage, tmp_path):
    path = write(tmp_path / "disagreement.onnx")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GuardFileError, match=r"disagreement\.onnx (cannot be loaded .*use another|lacks the metadata)"):
        Disagreement(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "lacks the metadata 'zoo'"),
        ({}, "lacks the metadata 'zoo'"),
        (METADATA | {"format": 3}, "has format 3, this reader up to 2"),
        (METADATA | {"graph": "policy"}, "is a policy and knows no disagreement; open the disagreement.onnx"),
    ],
)
def test_a_file_of_another_kind_is_told_apart(metadata, message, tmp_path):
    with pytest.raises(GuardFileError, match=message):
        Disagreement(write(tmp_path / "other.onnx", metadata))


ALONE = """
import sys
for name in ("torch", "gymnasium", "onnx", "zoo", "zoo_robot"):
    sys.modules[name] = None                       # an import of it fails from here on
import numpy as np
from disagreement import Disagreement
print(Disagreement(sys.argv[1])(np.array([0.5, -2.0]), np.array([0.25])))
"""


def test_it_runs_as_a_lone_file_with_numpy_and_onnxruntime_only(tmp_path):
    shutil.copy(SOURCE, tmp_path / "disagreement.py")
    command = [sys.executable, "-c", ALONE, str(write(tmp_path / "disagreement.onnx"))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "1.25"), done.stderr


def test_its_syntax_is_that_of_python_3_9():
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))

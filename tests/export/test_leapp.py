"""policy.yaml: LEAPP's own inference manager runs it on the golden vectors, and its words are the contract's."""

import importlib.util
import json

import numpy as np
import onnx
import pytest
import torch

from tests.support.data import toy_dataset
from zoo import TD3BC
from zoo_robot.inspection import verify

ROBOT = {
    "control_rate_hz": 50.0,
    "observations": [{"name": name, "unit": "rad"} for name in ("hip", "knee", "foot")],
    "actions": [{"name": "hip", "unit": "N m"}, {"name": "knee", "unit": "N m"}],
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    agent = TD3BC(toy_dataset(), seed=0, device="cpu", actor_hidden=(8,), critic_hidden=(8,))
    folder = agent.export_onnx(tmp_path_factory.mktemp("leapp") / "deploy", contract=ROBOT)
    return agent, agent.write_leapp(folder)


@pytest.mark.skipif(importlib.util.find_spec("leapp") is None, reason="leapp is not installed")
def test_leapps_own_manager_gives_the_golden_actions(bundle):
    from leapp.inference_manager import InferenceManager

    path = bundle[1]
    manager = InferenceManager(str(path))
    assert (manager.inputs, manager.outputs) == (["policy/obs"], ["policy/actions"])
    with np.load(path.with_name("golden.npz")) as golden:
        for obs, expected in zip(golden["obs"], golden["actor_actions"], strict=True):
            found = manager.run_policy({"policy/obs": torch.from_numpy(obs[None])})["policy/actions"]
            np.testing.assert_allclose(np.asarray(found)[0], expected, atol=1e-5)


def test_kinds_names_and_rate_are_the_contracts(bundle):
    graph = json.loads(bundle[1].read_text())
    (given,), (made,) = graph["models"]["policy"]["inputs"], graph["models"]["policy"]["outputs"]
    assert (given["kind"], given["element_names"]) == ("state/joint/position", [None, ["hip", "knee", "foot"]])
    assert (made["kind"], made["low"]) == ("target/joint/torques", [-2.0, 0.0])
    assert graph["pipeline"]["configs"]["frequency"] == 50.0


def test_the_bundle_verifies_and_its_files_speak_the_dialect(bundle):
    assert not [finding.text for finding in verify(bundle[1].parent) if finding.bad]
    properties = {p.key: p.value for p in onnx.load(bundle[1].with_name("policy.onnx")).metadata_props}
    assert properties["joint_names"] == "hip,knee"
    assert properties["observation_names"] == "hip,knee,foot"


def test_without_names_there_is_no_dialect(tmp_path):
    agent = TD3BC(toy_dataset(), seed=0, device="cpu", actor_hidden=(8,), critic_hidden=(8,))
    folder = agent.export_onnx(tmp_path / "deploy")
    assert {p.key for p in onnx.load(folder / "policy.onnx").metadata_props} == {"zoo"}


def test_a_policy_that_remembers_is_refused(tmp_path):
    agent = TD3BC(toy_dataset(), seed=0, device="cpu", actor_hidden=(8,), critic_hidden=(8,), delay=1)
    folder = agent.export_onnx(tmp_path / "deploy")
    with pytest.raises(ValueError, match="describes a graph without memory"):
        agent.write_leapp(folder)

"""What the networks see stays near the data: constant dimensions are held, far ones clipped, in torch and in ONNX."""

import json
import zipfile

import numpy as np
import pytest
import torch

from tests.support.data import OBS, tiny, toy_dataset
from zoo import TD3BC
from zoo.agents import load
from zoo.agents.files.checkpoint import read_checkpoint, write_checkpoint
from zoo.datasets.dataset import OfflineDataset
from zoo.policies.policy import UNBOUNDED
from zoo_robot import OnnxPolicy


def with_constant(value: float = 4.0) -> OfflineDataset:
    """The toy set with its second observation standing still."""
    data = toy_dataset()
    still = {name: np.array(data.column(name)) for name in ("observations", "next_observations")}
    for array in still.values():
        array[:, 1] = value
    return OfflineDataset.from_arrays(
        **still,
        actions=data.actions,
        rewards=data.rewards,
        terminations=data.terminations,
        truncations=data.truncations,
        action_space=data.action_space,
        name="still",
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_a_constant_dimension_changes_nothing_whatever_it_reads(tmp_path, normalize):
    data = with_constant()
    with pytest.warns(UserWarning, match="still: observations 1 never change"):
        agent = tiny(TD3BC, data, normalize_observations=normalize)
    agent.learn_offline(data, 5)
    agent.export_onnx(tmp_path / "deploy")
    onnx = OnnxPolicy(tmp_path / "deploy" / "policy.onnx")
    seen = data.observations[:20]
    moved = seen.copy()
    moved[:, 1] = np.linspace(-1000, 1000, 20)
    for predict in (lambda rows: agent.predict(rows)[0], onnx.predict):
        np.testing.assert_array_equal(predict(moved), predict(seen))
    contract = json.loads((tmp_path / "deploy" / "contract.json").read_text())
    assert contract["observed"]["constant"] == [1]
    assert "never moved in the training data: observations 1." in (tmp_path / "deploy" / "CARD.md").read_text()


def test_observations_far_outside_are_clipped_to_three_ranges(tmp_path):
    data = toy_dataset()
    agent = tiny(TD3BC, data, normalize_observations=False)
    rows = np.concatenate([data.observations, data.next_observations])
    low, high = rows.min(0), rows.max(0)
    edge = (high + (high - low)).astype(np.float32)
    far = np.full(OBS, 1e6, np.float32)
    np.testing.assert_allclose(agent.policy.observation_high.numpy(), edge, rtol=1e-6)
    np.testing.assert_array_equal(agent.predict(far)[0], agent.predict(edge * 2)[0])
    inside = torch.tensor(data.observations)
    assert torch.equal(agent.policy.normalize_observations(inside), inside)  # bit for bit: mean 0, deviation 1


def test_older_checkpoints_have_no_limits_and_act_as_they_did(tmp_path):
    agent = tiny(TD3BC)
    config, tensors = read_checkpoint(agent.save(tmp_path / "agent.zip"))
    for name in ("observation_low", "observation_high"):
        del tensors["state"][f"policy.{name}"]
    del config["format"], config["sha256"]
    old = load(write_checkpoint(tmp_path / "old.zip", config, tensors), device="cpu")
    assert not old.policy.limited
    assert old.policy.observation_high.tolist() == pytest.approx([UNBOUNDED] * OBS)
    assert zipfile.is_zipfile(old.save(tmp_path / "again.zip"))

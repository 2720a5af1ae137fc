"""Files written by version 0.1 of before the packages were one: they load, and go on as they did."""

import shutil

import numpy as np
import pytest

import zoo
from tests.support.data import toy_dataset
from tests.support.paths import VECTORS
from zoo_robot import Disagreement, OnnxPolicy
from zoo_robot.inspection import verify

CHECKPOINT = VECTORS / "checkpoint-format-1.zip"
BUNDLE = VECTORS / "bundle-format-2"


@pytest.fixture
def known() -> dict[str, np.ndarray]:
    return dict(np.load(VECTORS / "checkpoint-format-1.npz"))


def test_an_older_checkpoint_acts_and_learns_on_as_it_did(known):
    agent = zoo.load(CHECKPOINT, device="cpu")
    assert (type(agent), agent.env_steps, agent.replay.size) == (zoo.PARS, 12, 12)
    np.testing.assert_allclose(agent.predict(known["obs"])[0], known["actions"], atol=1e-6)
    agent.learn_offline(toy_dataset(), 3)
    np.testing.assert_allclose(agent.predict(known["obs"])[0], known["actions_after"], atol=1e-5)


def test_an_older_bundle_is_verified_guards_and_acts_as_its_checkpoint(known, tmp_path):
    shutil.copytree(BUNDLE, tmp_path / "deploy")
    assert [finding.text for finding in verify(tmp_path / "deploy") if finding.bad] == []
    actor = OnnxPolicy(tmp_path / "deploy" / "actor.onnx")
    np.testing.assert_allclose(actor.predict(known["obs"]), known["actions"], atol=1e-5)
    policy = OnnxPolicy(tmp_path / "deploy")
    assert (policy.evaluation_samples, policy.metadata["control_rate_hz"]) == (5, 50.0)
    doubt = Disagreement(tmp_path / "deploy", policy=policy.metadata)(known["obs"][0], known["actions"][0])
    assert doubt >= 0.0

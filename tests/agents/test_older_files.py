"""Files written by version 0.1 of before the packages were one: they load, and go on as they did."""

import json
import shutil
import zipfile

import numpy as np
import pytest

import zoo
from tests.support.data import tiny, toy_dataset
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


@pytest.mark.parametrize(("population", "stored", "today"), [(None, 2e-4, 2e-3), (2, [2e-4, 0.0], (2e-3, 0.0))])
def test_aspcs_rate_of_before_format_2_is_read_in_the_papers_unit(tmp_path, population, stored, today):
    """It was the rate for each actor step: 2e-4 of the paper's 2e-3, ten actor steps apart."""
    path = tiny(zoo.ASPC, population=population).save(tmp_path / "aspc")
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    config = json.loads(entries["config.json"])
    config["format"], config["config"]["alpha_lr"] = 1, stored
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (entries | {"config.json": json.dumps(config)}).items():
            file.writestr(name, content)
    assert zoo.load(path).config.alpha_lr == pytest.approx(today)
    assert zoo.load(zoo.load(path).save(path)).config.alpha_lr == pytest.approx(today)  # once, and not again


def test_an_older_bundle_is_verified_guards_and_acts_as_its_checkpoint(known, tmp_path):
    shutil.copytree(BUNDLE, tmp_path / "deploy")
    assert [finding.text for finding in verify(tmp_path / "deploy") if finding.bad] == []
    actor = OnnxPolicy(tmp_path / "deploy" / "actor.onnx")
    np.testing.assert_allclose(actor.predict(known["obs"]), known["actions"], atol=1e-5)
    policy = OnnxPolicy(tmp_path / "deploy")
    assert (policy.evaluation_samples, policy.metadata["control_rate_hz"]) == (5, 50.0)
    doubt = Disagreement(tmp_path / "deploy", policy=policy.metadata)(known["obs"][0], known["actions"][0])
    assert doubt >= 0.0

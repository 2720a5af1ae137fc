"""Agents with residual networks: schedules, exact resume, populations and export."""

import numpy as np
import pytest
import torch

from tests.support.data import assert_same_state, prepared, tiny, toy_dataset
from zoo.agents import AWAC, CAR, CQL, CQLSA, IQL, SPOT, TD3BC, ReBRAC
from zoo.policies import SpectralLinear

RESIDUAL = {"actor_network": "residual", "critic_network": "residual"}
NORMS = {"actor_norm": "none", "critic_norm": "none"}
CLASSES = [TD3BC, ReBRAC, SPOT, CAR, AWAC, IQL, CQL, CQLSA]
EVERY = pytest.mark.parametrize("cls", CLASSES)


@pytest.fixture(scope="module")
def data():
    return toy_dataset()


def settings(cls) -> dict:
    given = RESIDUAL | NORMS | {"dropout": 0.0}
    return {name: value for name, value in given.items() if name in cls.Config.names()}


def spectral(agent) -> list[SpectralLinear]:
    return [module for module in agent.modules() if isinstance(module, SpectralLinear)]


@EVERY
@pytest.mark.parametrize("population", [None, 2])
def test_learning_resumes_bit_for_bit(cls, population, data, tmp_path):
    own = settings(cls) | {"population": population}
    straight = tiny(cls, data, **own).learn_offline(data, 3).learn_offline(data, 3)
    resumed = cls.load(tiny(cls, data, **own).learn_offline(data, 3).save(tmp_path / "half")).learn_offline(data, 3)
    assert_same_state(straight, resumed)


@EVERY
def test_every_update_iterates_every_network_once_and_acting_does_not(cls, data):
    agent = prepared(cls, data, **settings(cls))
    before = [module.u.clone() for module in spectral(agent)]
    agent.predict(np.zeros(3, np.float32), evaluation_samples=3)
    assert all(torch.equal(module.u, u) for module, u in zip(spectral(agent), before, strict=True))
    expected = []
    for module in spectral(agent):
        copied = SpectralLinear(*module.weight.shape[-2:], module.weight.shape[:-2])
        copied.load_state_dict(module.state_dict())
        copied.power_iteration_()
        expected.append(copied.u)
    agent.update(agent.normalize(agent.layout.unpack(torch.rand(16, agent.layout.width))))
    for module, u in zip(spectral(agent), expected, strict=True):
        torch.testing.assert_close(module.u, u)


def test_a_residual_network_with_unequal_widths_or_another_norm_is_refused(data):
    with pytest.raises(ValueError, match=r"blocks of one width .* got hidden widths \(16, 8\)"):
        tiny(TD3BC, data, actor_network="residual", actor_hidden=(16, 8))
    with pytest.raises(ValueError, match="norm='none'"):
        tiny(ReBRAC, data, critic_network="residual")
    with pytest.raises(ValueError, match="dropout is for actor_network='mlp'"):
        tiny(SPOT, data, actor_network="residual")


@pytest.mark.parametrize("cls", [TD3BC, IQL])
def test_an_export_acts_as_the_agent_without_spectral_vectors(cls, data, tmp_path):
    onnx = pytest.importorskip("onnx")
    agent = tiny(cls, data, **settings(cls)).learn_offline(data, 3)
    folder = agent.export_onnx(tmp_path / "bundle")  # compares with the agent to 1e-5, or raises
    names = [tensor.name for tensor in onnx.load(folder / "actor.onnx").graph.initializer]
    assert names
    assert not [name for name in names if name.endswith((".u", ".v"))]

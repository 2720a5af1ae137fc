"""Actors that see some of the observations: what they see, what critics see, what is exported, what a robot sends."""

import dataclasses

import numpy as np
import pytest
import torch

import zoo
from tests.support.data import LOW, SMALL, toy_dataset
from zoo import AWAC, BC, IQL, PARS, TD3BC, DiffusionQL
from zoo_robot.inspection import verify
from zoo_robot.runtime import OnnxPolicy

STATED = {
    "observations": [
        {"name": "hip", "unit": "rad", "group": "joints"},
        {"name": "mass", "unit": "kg", "group": "simulator"},
        {"name": "knee", "unit": "rad", "group": "joints"},
    ]
}


@pytest.fixture(scope="module")
def dataset():
    return dataclasses.replace(toy_dataset(), stated=STATED)


def make(cls, dataset, **settings):
    small = {name: value for name, value in SMALL.items() if name in cls.Config.names()}
    return cls(dataset, seed=0, device="cpu", **(small | settings))


@pytest.mark.parametrize("cls", [TD3BC, AWAC, IQL, PARS, BC])
@pytest.mark.parametrize("wanted", [("joints",), ("knee", "hip")])
def test_the_actor_sees_its_group_alone_and_the_critics_see_all(cls, wanted, dataset):
    agent = make(cls, dataset, actor_observations=wanted)
    agent.learn_offline(dataset, 4)
    obs = np.random.default_rng(0).normal(2.0, 3.0, (20, 3)).astype(np.float32)
    other = obs.copy()
    other[:, 1] += 100.0
    assert (agent.predict(obs)[0] == agent.predict(other)[0]).all()
    assert (agent.predict(obs)[0] == agent.predict(obs[:, [0, 2]])[0]).all()
    seen = obs.copy()
    seen[:, 2] += 1.0
    assert (agent.predict(obs)[0] != agent.predict(seen)[0]).any()
    if agent.policy.has_critics:
        actions = torch.tensor([LOW] * 20)
        q, q_other = (agent.policy.evaluate(torch.from_numpy(o), actions) for o in (obs, other))
        assert (q != q_other).all()


def test_the_unseen_column_gets_no_gradient(dataset):
    agent = make(TD3BC, dataset, actor_observations=("joints",), normalize_observations=True)
    before = agent.actor.trunk.linears[0].weight.detach().clone()
    agent.learn_offline(dataset, 6)
    moved = (agent.actor.trunk.linears[0].weight.detach() != before).any(-1)
    assert moved.tolist() == [True, False, True]


def test_an_agent_that_sees_all_of_it_learns_the_same_bits_as_one_without_the_setting(dataset):
    one, other = make(TD3BC, dataset), make(TD3BC, dataset, actor_observations=("joints", "simulator"))
    for agent in (one, other):
        agent.learn_offline(dataset, 4)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_checkpoints_keep_it(dataset, tmp_path):
    agent = make(TD3BC, dataset, actor_observations=("joints",))
    agent.learn_offline(dataset, 3)
    loaded = zoo.load(agent.save(tmp_path / "agent.zip"), device="cpu")
    assert loaded.sight == (0, 2)
    for each in (agent, loaded):
        each.learn_offline(dataset, 3)
    for a, b in zip(agent.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_population_has_it_too(dataset):
    agent = TD3BC(dataset, seed=0, device="cpu", population=2, actor_observations=("joints",), actor_hidden=(8,))
    agent.learn_offline(dataset, 3)
    obs = np.random.default_rng(0).normal(2.0, 3.0, (2, 20, 3)).astype(np.float32)
    other = obs + np.array([0, 50, 0], np.float32)
    assert (agent.predict(obs)[0] == agent.predict(other)[0]).all()
    np.testing.assert_allclose(agent.member(1).predict(obs[1])[0], agent.predict(obs)[0][1], atol=1e-6)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [(("lidar",), "has lidar, which toy does not state; its groups are joints, simulator, its names hip, mass, knee")],
)
def test_what_the_data_do_not_state_is_refused(dataset, wanted, message):
    with pytest.raises(ValueError, match=message):
        make(TD3BC, dataset, actor_observations=wanted)


def test_an_actor_that_takes_noise_is_refused(dataset):
    with pytest.raises(ValueError, match="its network takes noise beside observations"):
        make(DiffusionQL, dataset, actor_observations=("joints",))


# Exported


@pytest.fixture(scope="module")
def bundle(dataset, tmp_path_factory):
    agent = make(TD3BC, dataset, actor_observations=("joints",), normalize_observations=True)
    agent.learn_offline(dataset, 10)
    return agent, agent.export_onnx(tmp_path_factory.mktemp("private") / "deploy")


def test_the_exported_actor_takes_its_own_group_only(bundle, dataset):
    agent, folder = bundle
    policy = OnnxPolicy(folder)
    assert policy.observation_size == 2
    assert not (folder / "critic.onnx").exists()
    assert [entry["name"] for entry in policy.metadata["observations"]] == ["hip", "knee"]
    obs = dataset.observations[:50]
    np.testing.assert_allclose(policy.predict(obs[:, [0, 2]]), agent.predict(obs)[0], atol=1e-5)
    assert not [finding.text for finding in verify(folder) if finding.bad]


def test_candidates_need_critics_which_are_not_exported(bundle, tmp_path):
    agent, _ = bundle
    with pytest.raises(ValueError, match="no critics to choose of 5 candidates"):
        agent.export_onnx(tmp_path / "deploy", evaluation_samples=5)


# By name


def test_a_mapping_is_the_vector_whatever_its_order(bundle):
    policy = OnnxPolicy(bundle[1])
    expected = policy.predict(np.array([0.5, -1.0]))
    assert (policy.predict({"knee": -1.0, "hip": 0.5}) == expected).all()
    assert (policy.predict({"joints": [0.5, -1.0]}) == expected).all()
    many = policy.predict({"hip": np.array([0.5, 0.5]), "knee": np.array([-1.0, 2.0])})
    assert many.shape == (2, 2)
    np.testing.assert_allclose(many[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hip": 1.0}, "observations are missing: knee"),
        ({"hip": 1.0, "knee": 1.0, "mass": 1.0}, "no observation 'mass'; it has hip, joints, knee"),
        ({"hip": 1.0, "joints": [1.0, 2.0]}, "'hip' is given twice"),
        ({"joints": [1.0, 2.0, 3.0]}, "the group 'joints' has 2 observations"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(bundle, values, message):
    with pytest.raises(ValueError, match=message):
        OnnxPolicy(bundle[1]).predict(values)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["knee", "hip"], "in another order than the contract's: 0 is hip, sent is knee; 1 is knee, sent is hip"),
        (["hip"], "observations are missing: knee"),
        (["hip", "knee", "mass"], "has no observation mass"),
        (["hip", "knee", "knee"], "a name is given twice"),
    ],
)
def test_a_vector_of_other_names_is_refused(bundle, names, message):
    policy = OnnxPolicy(bundle[1])
    policy.check_names(["hip", "knee"])
    with pytest.raises(ValueError, match=message):
        policy.check_names(names)


def test_a_contract_without_names_takes_vectors_only(tmp_path):
    agent = make(TD3BC, toy_dataset())
    policy = OnnxPolicy(agent.export_onnx(tmp_path / "deploy"))
    with pytest.raises(ValueError, match="no names for the observations"):
        policy.predict({"hip": 1.0})

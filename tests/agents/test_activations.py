"""Other activations than ReLU: in every network of every agent, in populations, checkpoints and exported graphs."""

from typing import get_args

import pytest
import torch
from torch import tensor

from tests.support.data import tiny, toy_dataset
from zoo.agents import AGENTS, PARS, TD3BC
from zoo.policies import MLP, ResidualMLP
from zoo.policies.mlp import ACTIVATIONS, Activation

# f(-1) and f(1), from tables of the functions; GELU is the one with tanh.
VALUES = {
    "relu": (0.0, 1.0),
    "gelu": (-0.158808, 0.841192),
    "silu": (-0.268941, 0.731059),
    "mish": (-0.303401, 0.865098),
    "elu": (-0.632121, 1.0),
    "tanh": (-0.761594, 0.761594),
    "sigmoid": (0.268941, 0.731059),
    "none": (-1.0, 1.0),
}
OTHERS = [name for name in ACTIVATIONS if name != "relu"]


def test_every_activation_has_known_values():
    assert set(VALUES) == set(ACTIVATIONS) == set(get_args(Activation))


@pytest.mark.parametrize("name", VALUES)
def test_a_hidden_unit_computes_the_function(name):
    mlp = MLP((1, 1, 1), activation=name)
    for linear in mlp.linears:
        torch.nn.init.ones_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    assert mlp(tensor([[-1.0], [1.0]])).squeeze(-1).tolist() == pytest.approx(VALUES[name], abs=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "residual"])
@pytest.mark.parametrize("name", OTHERS)
def test_members_of_a_population_compute_what_single_networks_do(name, kind):
    def network(lead):
        return MLP((3, 8, 8, 2), lead, "before", name) if kind == "mlp" else ResidualMLP((3, 8, 2), 1, lead, name)

    torch.manual_seed(0)
    both, one = network((2,)), network(())
    x = torch.randn(5, 3)
    for i in range(2):
        one.load_state_dict({key: value[i] for key, value in both.state_dict().items()})
        torch.testing.assert_close(both(x)[i], one(x))


@pytest.mark.parametrize("cls", AGENTS.values(), ids=AGENTS)
def test_one_field_is_for_the_actor_the_critics_and_what_stands_beside_them(cls):
    agent = tiny(cls, activation="silu")
    networks = {
        name: getattr(agent, name, None) for name in ("policy", "target_actor", "target_critic", "value", "flow")
    }
    for name, network in networks.items():
        if network is not None:
            kinds = {module.activation for module in network.modules() if isinstance(module, MLP)}
            assert kinds == {"silu"}, name


@pytest.mark.parametrize("name", OTHERS)
def test_an_agent_learns_saves_and_loads_with_it(name, tmp_path):
    data = toy_dataset()
    agent = tiny(PARS, data, activation=name, population=2).learn_offline(data, 3)
    again = PARS.load(agent.save(tmp_path / "pars"))
    rows = torch.randn(2, 4, data.observations.shape[1])
    assert torch.equal(again.policy(rows), agent.policy(rows))
    assert again.member(1).config.activation == name
    plain = tiny(PARS, data, population=2).learn_offline(data, 3)
    assert not torch.allclose(plain.policy(rows), agent.policy(rows))


@pytest.mark.parametrize(
    ("actor", "critic", "network"), [("silu", "elu", "mlp"), ("tanh", "sigmoid", "residual"), ("gelu", "none", "mlp")]
)
def test_it_is_in_the_exported_graphs(actor, critic, network, tmp_path):
    """export_onnx refuses graphs that do not give the agent's own numbers. Two activations at once, to be quick."""
    agent = tiny(TD3BC, activation=actor, actor_network=network, critic_network=network)
    agent.critic.trunk.activation = critic
    agent.export_onnx(tmp_path / "deploy", evaluation_samples=3)


def test_an_unknown_one_is_refused():
    with pytest.raises(ValueError, match=r"activation must be one of 'relu', .* got 'swish'"):
        tiny(TD3BC, activation="swish")

"""The form that Cetin et al. 2024 (arXiv 2403.13097) give to five agents."""

import math

import pytest
import torch

from tests.support.data import tiny, toy_dataset
from zoo.agents import ASAC, AWAC, IQL, TD3, TD3BC
from zoo.policies import MLP

SIMPLE = {TD3: "simple-ingredients", TD3BC: "simple-ingredients", AWAC: "simple-ingredients"}
SIMPLE |= {IQL: "simple-ingredients", ASAC: None}  # None: the agent is that paper's own


def assert_orthogonal(mlp: MLP, gain: float) -> None:
    """Every layer of every member: singular values that are all the gain, and biases of 0."""
    for linear in mlp.linears:
        values = torch.linalg.svdvals(linear.weight.detach())
        torch.testing.assert_close(values, torch.full_like(values, gain), rtol=1e-5, atol=1e-5)
        assert not linear.bias.any()


@pytest.mark.parametrize("population", [None, 2])
@pytest.mark.parametrize(("agent", "preset"), SIMPLE.items())
def test_actor_and_critics_begin_orthogonal_and_the_targets_as_their_copies(agent, preset, population):
    one = tiny(agent, toy_dataset(), preset=preset, population=population)
    assert_orthogonal(one.actor.trunk, 1.0)
    assert_orthogonal(one.critic.trunk, math.sqrt(2.0))
    for target, source in zip(one.target_critic.parameters(), one.critic.parameters(), strict=True):
        assert torch.equal(target, source)
    if agent is IQL:  # made after the reference's initial pass
        assert all(linear.bias.any() for linear in one.value.trunk.linears)


@pytest.mark.parametrize("agent", [TD3, TD3BC, AWAC])
def test_without_the_preset_the_weights_are_pytorchs(agent):
    assert all(linear.bias.any() for linear in tiny(agent).actor.trunk.linears)

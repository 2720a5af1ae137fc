"""The form that Cetin et al. 2024 (arXiv 2403.13097) give to five agents."""

import math

import pytest
import torch

from tests.support.data import tiny, toy_dataset
from zoo.agents import ASAC, AWAC, IQL, TD3, TD3BC, DataSpec
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


# Networks. The counts are of 17 observations and 6 actions, MuJoCo's cheetah: weights and biases, without the spectral
# norms' vectors. actor, one critic and the number of critics.
SIZES = {
    "small": (71_942, 72_193, 2),
    "large": (4_222_982, 137_985, 5),
    "modern": (4_227_078, 138_497, 5),
}


def count(mlp: MLP) -> int:
    return sum(parameter.numel() for parameter in mlp.parameters())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("agent", SIMPLE)
def test_the_presets_have_the_papers_networks(agent, size):
    actor, critic, critics = SIZES[size]
    cheetah = DataSpec("cheetah", None, 17, (-1.0,) * 6, (1.0,) * 6, 0, 0.0, 0.0, {})
    preset = SIMPLE[agent] if size == "small" else size
    one = agent(cheetah, preset=preset, device="cpu", actor_gain=None, critic_gain=None)  # to be quick
    assert count(one.actor.trunk) == actor
    assert count(one.critic.trunk) == critics * critic
    if agent is IQL:
        assert count(one.value.trunk) == (70_657 if size == "small" else 1_069_057)

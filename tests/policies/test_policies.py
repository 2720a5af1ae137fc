"""Networks against torch.nn with the same weights, and the policy's path from observation to action."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo.policies import MLP, Critic, DeterministicActor, GaussianActor, Policy, TanhNormal, Value, final_uniform_
from zoo.policies.mlp import Linear, mish

P, E, B, O, A = 3, 4, 5, 3, 2  # noqa: E741
HIDDEN = (6, 7)
EXACT = {"rtol": 0.0, "atol": 1e-12}
NORMS = ("none", "before", "after")


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def as_torch(mlp: MLP, index: tuple[int, ...]) -> nn.Sequential:
    """One member of an MLP, built of torch's own layers."""
    layers = []
    for k, linear in enumerate(mlp.linears):
        copy = nn.Linear(*linear.weight.shape[-2:])
        copy.load_state_dict({"weight": linear.weight[index].mT, "bias": linear.bias[index]})
        layers.append(copy)
        if k == len(mlp.linears) - 1:
            continue
        layers.append(nn.ReLU())
        if mlp.norm != "none":
            norm = nn.LayerNorm(linear.bias.shape[-1])
            norm.load_state_dict({"weight": mlp.norms[k].weight[index], "bias": mlp.norms[k].bias[index]})
            layers.insert(-1 if mlp.norm == "before" else len(layers), norm)
    return nn.Sequential(*layers)


def stir(module: nn.Module) -> nn.Module:
    """Random gains and shifts too: LayerNorm's own start, 1 and 0, would hide a mix-up."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def data(*lead: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(*lead, B, O), torch.randn(*lead, B, A)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lead", [(), (P,)])
def test_every_member_of_a_critic_is_the_torch_network_with_its_weights(lead, norm):
    critic = stir(Critic(O, A, HIDDEN, E, lead, norm))
    observations, actions = data(*lead)
    qs = critic(observations, actions)
    assert qs.shape == (*lead, E, B)
    for index in np.ndindex(*lead, E):
        rows = index[:-1]
        expected = as_torch(critic.trunk, index)(torch.cat([observations[rows], actions[rows]], -1)).squeeze(-1)
        torch.testing.assert_close(qs[index], expected, **EXACT)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lead", [(), (P,)])
def test_every_gradient_of_a_critic_is_that_of_the_torch_network(lead, norm):
    critic = stir(Critic(O, A, HIDDEN, E, lead, norm))
    observations, actions = data(*lead)
    critic(observations, actions).square().sum().backward()
    index = (*[1] * len(lead), 2)
    alone = as_torch(critic.trunk, index)
    alone(torch.cat([observations[index[:-1]], actions[index[:-1]]], -1)).square().sum().backward()
    torch.testing.assert_close(
        critic.trunk.linears[0].weight.grad[index], alone[0].weight.grad.mT, rtol=1e-10, atol=1e-9
    )


@pytest.mark.parametrize("lead", [(), (P,)])
def test_actors_and_values_of_a_population_are_the_torch_networks(lead):
    observations, _ = data(*lead)
    actor, gaussian, value = (
        DeterministicActor(O, A, HIDDEN, lead),
        GaussianActor(O, A, HIDDEN, lead),
        Value(O, HIDDEN, lead),
    )
    for index in np.ndindex(*lead):
        rows = observations[index]
        torch.testing.assert_close(actor(observations)[index], as_torch(actor.trunk, index)(rows).tanh(), **EXACT)
        torch.testing.assert_close(value(observations)[index], as_torch(value.trunk, index)(rows).squeeze(-1), **EXACT)
        mean = as_torch(gaussian.trunk, index)(rows)[..., :A]
        torch.testing.assert_close(gaussian(observations)[index], mean.tanh(), **EXACT)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("lead", "members"),
    [((), [2, 0]), ((P,), [3, 1]), ((P,), [[0, 1], [3, 0], [2, 3]])],
    ids=["single", "one set for all", "one set for each member of the population"],
)  # fmt: skip
def test_members_gives_the_chosen_rows_of_the_full_output(lead, members, norm):
    critic = stir(Critic(O, A, HIDDEN, E, lead, norm))
    members = torch.tensor(members)
    full = critic(*(batch := data(*lead)))
    index = members.expand(*lead, -1).unsqueeze(-1).expand(*lead, -1, B)
    torch.testing.assert_close(critic(*batch, members), full.gather(-2, index), **EXACT)


@pytest.mark.parametrize("lead", [(), (P,)])
def test_first_is_member_zero(lead):
    critic = Critic(O, A, HIDDEN, E, lead)
    batch = data(*lead)
    torch.testing.assert_close(critic.first(*batch), critic(*batch)[..., 0, :], **EXACT)


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match=r"'none', 'before' or 'after'.*'batch'"):
        MLP((O, 4, 1), norm="batch")


def test_initial_weights_fill_one_over_root_fan_in_in_every_member():
    linear = Linear(16, 500, (3,))  # 1 / sqrt(16) = 0.25; of 8000 uniform numbers the largest is beyond 0.2
    for parameter in (linear.weight, linear.bias):
        for member in parameter:
            assert 0.2 < member.abs().max() <= 0.25
            assert abs(member.mean()) < 0.03
    assert not torch.equal(linear.weight[0], linear.weight[1])


def test_final_uniform_bounds_the_output_layer_only():
    mlp = MLP((O, 50, 40), (2,))
    hidden = mlp.linears[0].weight.clone()
    final_uniform_(mlp, 3e-3)
    assert 2.5e-3 < mlp.linears[1].weight.abs().max() <= 3e-3
    assert mlp.linears[1].bias.abs().max() <= 3e-3
    assert torch.equal(mlp.linears[0].weight, hidden)


# TanhNormal


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.8, -1.0), (-0.5, -2.0)])
def test_density_of_tanh_normal_integrates_to_one(mean, log_std):
    grid = torch.linspace(-0.99999, 0.99999, 400_001).unsqueeze(-1)
    distribution = TanhNormal(torch.tensor([mean]), torch.tensor([log_std]))
    assert torch.trapezoid(distribution.log_prob(grid).exp(), grid[:, 0]).item() == pytest.approx(1.0, abs=1e-4)


def test_density_at_the_mode_of_a_centred_gaussian():
    # tanh has slope 1 at 0, so the density is the Gaussian's, 0.398942 = 1 / sqrt(2 pi); two dimensions square it.
    distribution = TanhNormal(torch.zeros(2), torch.zeros(2))
    assert distribution.log_prob(torch.zeros(2)).exp().item() == pytest.approx(0.398942**2, rel=1e-5)


def test_log_prob_of_a_sample_is_the_one_that_sampling_returned():
    distribution = TanhNormal(torch.randn(B, A), torch.randn(B, A) * 0.3 - 1.0)
    actions, log_prob = distribution.sample(torch.randn(B, A))
    torch.testing.assert_close(distribution.log_prob(actions), log_prob, rtol=0.0, atol=1e-9)


def test_log_prob_of_the_box_edge_is_finite():
    edge = TanhNormal(torch.zeros(1), torch.zeros(1)).log_prob(torch.tensor([[1.0], [-1.0]]))
    assert edge.isfinite().all()


# Policy: the stand-ins below make actions and opinions that can be worked out by hand.


class Echo(nn.Module):
    """The normalised observation is the action, and the noise is the candidates."""

    def forward(self, observations):
        return observations[..., :A]

    def candidates(self, observations, noise):
        return noise.clamp(-1.0, 1.0)


class Likes(nn.Module):
    """Two critics: each dislikes the distance to an action of its own, in [-1, 1]."""

    several = Critic.several

    def __init__(self, *favourites):
        super().__init__()
        self.favourites = torch.tensor(favourites)  # (E, A)

    def forward(self, observations, actions):
        return -(actions.unsqueeze(-3) - self.favourites.unsqueeze(-2)).abs().sum(-1)


def policy(*favourites, low=(-2.0, 0.0), high=(1.0, 0.5)) -> Policy:
    return Policy(Echo(), Likes(*favourites or ((0.0, 0.0),)), O, torch.tensor(low), torch.tensor(high))


def test_observations_are_normalised_and_actions_scaled_to_the_box():
    ours = policy()
    ours.observation_mean.copy_(torch.tensor([1.0, 2.0, 0.0]))
    ours.observation_std.copy_(torch.tensor([2.0, 4.0, 1.0]))
    # (3 - 1) / 2 = 1 and (0 - 2) / 4 = -0.5; box centre (-0.5, 0.25), half range (1.5, 0.25).
    assert ours(torch.tensor([[3.0, 0.0, 9.0]])).tolist() == [[1.0, 0.125]]
    assert ours.normalize_actions(torch.tensor([1.0, 0.125])).tolist() == [1.0, -0.5]


def test_actions_beyond_one_stop_at_the_box():
    assert policy()(torch.tensor([[7.0, -7.0, 0.0]])).tolist() == [[1.0, 0.0]]


EDGE = st.floats(-100.0, 100.0, width=32)


@given(edges=st.tuples(EDGE, EDGE).filter(lambda e: e[1] - e[0] > 1e-3), action=st.floats(-1.0, 1.0, width=32))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_scaled_actions_lie_inside_the_box_to_the_last_bit(edges, action):
    low, high = (torch.tensor([edge], dtype=torch.float32) for edge in edges)
    ours = Policy(Echo(), Likes((0.0,)), 1, low, high)
    for normalized in (action, -1.0, 1.0):
        scaled = ours.scale_actions(torch.tensor([normalized], dtype=torch.float32))
        assert low <= scaled <= high


def test_search_takes_the_candidate_that_the_critic_likes_best():
    # Favourite (0.5, -0.5); candidates at distances 2, 0.2 and 1. The best, (0.4, -0.4), is (0.1, 0.15) in the box.
    noise = torch.tensor([[[-0.5, 0.5], [0.4, -0.4], [0.5, 0.5]]])
    chosen = policy((0.5, -0.5)).search(torch.zeros(1, O), noise)
    torch.testing.assert_close(chosen, torch.tensor([[0.1, 0.15]]), **EXACT)


def test_search_listens_to_the_more_pessimistic_critic():
    # Favourites (1, 0) and (-1, 0). Candidate (1, 0): opinions 0 and -2, minimum -2; (0, 0): -1 and -1, minimum -1.
    chosen = policy((1.0, 0.0), (-1.0, 0.0)).search(torch.zeros(1, O), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    torch.testing.assert_close(chosen, torch.tensor([[-0.5, 0.25]]), **EXACT)


def test_search_decides_for_each_observation_alone():
    noise = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])
    chosen = policy((1.0, 1.0)).search(torch.zeros(2, O), noise)
    assert chosen.tolist() == [[1.0, 0.5], [1.0, 0.5]]


def test_ties_of_a_search_go_to_the_first_candidate():
    noise = torch.tensor([[[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5]]])  # all at distance 0.5 from the favourite
    assert policy((0.0, 0.0)).search(torch.zeros(1, O), noise).tolist() == [[0.25, 0.25]]  # -0.5 + 1.5 * 0.5


def test_search_of_real_actors_never_leaves_the_box():
    for actor in (DeterministicActor(O, A, HIDDEN), GaussianActor(O, A, HIDDEN)):
        ours = Policy(actor, Critic(O, A, HIDDEN), O, torch.tensor([-2.0, 0.0]), torch.tensor([1.0, 0.5]))
        chosen = ours.search(torch.randn(50, O), 10.0 * torch.randn(50, 8, A))
        assert (chosen >= torch.tensor([-2.0, 0.0])).all()
        assert (chosen <= torch.tensor([1.0, 0.5])).all()


def test_candidates_of_a_deterministic_actor_stand_around_its_action():
    actor = DeterministicActor(O, A, HIDDEN, search_noise=0.1)
    nn.init.zeros_(actor.trunk.linears[-1].weight)
    nn.init.zeros_(actor.trunk.linears[-1].bias)  # the action is tanh(0) = 0
    candidates = actor.candidates(torch.zeros(1, O), torch.tensor([[[3.0, -1.0], [20.0, -20.0]]]))
    torch.testing.assert_close(candidates, torch.tensor([[[0.3, -0.1], [1.0, -1.0]]]), **EXACT)


def test_search_of_a_population_is_that_of_its_members():
    lead = (P,)
    box = torch.tensor([-2.0, 0.0]), torch.tensor([1.0, 0.5])
    ours = Policy(DeterministicActor(O, A, HIDDEN, lead), Critic(O, A, HIDDEN, E, lead), O, *box)
    observations, noise = torch.randn(P, B, O), torch.randn(P, B, 8, A)
    together = ours.search(observations, noise)
    for p in range(P):
        alone = Policy(DeterministicActor(O, A, HIDDEN), Critic(O, A, HIDDEN, E), O, *box)
        own = alone.state_dict()
        alone.load_state_dict({k: v if v.shape == own[k].shape else v[p] for k, v in ours.state_dict().items()})
        torch.testing.assert_close(together[p], alone.search(observations[p], noise[p]), **EXACT)


def test_evaluate_takes_actions_in_the_units_of_the_environment():
    # (1, 0.125) is (1, -0.5) in [-1, 1]: distance 1 + 0.5 to the favourite (0, 0).
    assert policy((0.0, 0.0)).evaluate(torch.zeros(1, O), torch.tensor([[1.0, 0.125]])).tolist() == [-1.5]


def test_the_exported_form_of_mish_is_mish(monkeypatch):
    x = torch.linspace(-200.0, 200.0, 4001)
    expected = torch.nn.functional.mish(x.double())
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(mish(x).double(), expected, rtol=0.0, atol=1e-6)

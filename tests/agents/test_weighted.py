"""AWAC, ASAC and IQL: weights, advantages, pessimism, the fixed-deviation policy, and what each paper adds."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import tensor

from tests.support.data import ACT, LENGTH, OBS, ToyEnv, constant_, tiny, toy_batch, toy_dataset
from zoo.agents import ASAC, AWAC, IQL
from zoo.agents.core.presets import load_preset
from zoo.agents.core.replay import Table
from zoo.agents.shared.weighted import ExponentialWeights, SoftmaxWeights
from zoo.datasets.dataset import OfflineDataset
from zoo.policies import NormalActor, Pessimistic, minimum

ENSEMBLES = [([1.0, 2.0, 4.0], 4.0 / 3.0), ([1.0, 2.0, 4.0, 7.0, 11.0], 2.5), ([3.0, 1.0], 1.0), ([5.0], 5.0)]


def agent(cls, **settings):
    return tiny(cls, dtype=torch.float64, **settings)


# Pessimism


@pytest.mark.parametrize(("qs", "expected"), ENSEMBLES)
def test_pessimism_takes_half_the_mean_distance_of_two_members(qs, expected):
    assert Pessimistic(0.5)(tensor(qs).unsqueeze(-1)).item() == pytest.approx(expected)


def test_with_two_members_and_a_half_it_is_their_minimum_and_without_weight_their_mean():
    qs = torch.rand(3, 2, 7)
    torch.testing.assert_close(Pessimistic(0.5)(qs), minimum(qs))
    torch.testing.assert_close(Pessimistic(0.0)(qs), qs.mean(-2))


# The policy


def test_the_fixed_policy_has_the_gaussians_density_and_samples_clipped_to_the_box():
    actor = NormalActor(OBS, ACT, (4,), std=0.2)
    distribution = actor.distribution(torch.zeros(1, OBS))
    at_mean = distribution.log_probs(distribution.mean)
    assert at_mean.tolist() == [pytest.approx([0.690499] * ACT, abs=1e-5)]  # -ln 0.2 - ln(2 pi) / 2
    away = distribution.log_probs(distribution.mean + 0.1)
    torch.testing.assert_close(at_mean - away, torch.full((1, ACT), 0.125), rtol=0.0, atol=1e-5)  # 12.5 * 0.1^2
    far = distribution.sample(torch.full((1, ACT), 100.0))
    assert far.tolist() == [[1.0] * ACT]
    near = distribution.sample(torch.full((1, ACT), 100.0), clip=0.3)
    torch.testing.assert_close(near, distribution.mean + 0.3)
    assert "log_std" not in dict(actor.named_parameters())
    assert "log_std" in dict(NormalActor(OBS, ACT, (4,)).named_parameters())


def test_a_linear_mean_leaves_the_box_and_its_mode_does_not():
    actor = NormalActor(OBS, ACT, (4,), mean="linear")
    constant_(actor.trunk, 3.0)
    assert actor.distribution(torch.zeros(1, OBS)).mean.tolist() == [[3.0] * ACT]
    assert actor(torch.zeros(1, OBS)).tolist() == [[1.0] * ACT]


# Weights


def test_exponential_weights_by_hand_their_cap_and_no_overflow():
    weights = ExponentialWeights(temperature=0.5, largest=100.0)
    advantage = tensor([0.0, 1.0, -1.0, 2.0, 3.0, 1e30])
    expected = [1.0, math.e**2, math.e**-2, math.e**4, 100.0, 100.0]
    assert weights(advantage).tolist() == pytest.approx(expected, rel=1e-5)


def test_softmax_weights_sum_to_one_and_a_constant_changes_nothing():
    weights = SoftmaxWeights(temperature=2.0)
    advantage = tensor([0.0, 2.0 * math.log(3.0)])
    assert weights(advantage).tolist() == pytest.approx([0.25, 0.75])
    assert weights(advantage + 1e4).tolist() == pytest.approx([0.25, 0.75], rel=1e-2)


def test_members_of_a_population_have_their_own_temperature():
    advantage = tensor([[1.0, 2.0], [1.0, 2.0]])
    weights = ExponentialWeights(tensor([1.0, 0.5]), tensor([100.0, 10.0]))(advantage)
    assert weights.tolist() == [pytest.approx([math.e, math.e**2]), pytest.approx([math.e**2, 10.0])]


def test_a_huge_temperature_is_behaviour_cloning():
    awac = agent(AWAC, temperature=1e12)
    batch = toy_batch(4)
    loss, metrics = awac.cloning_loss(batch, tensor([5.0, -3.0, 0.0, 9.0]).double())
    assert loss.item() == pytest.approx(awac.actor.cloning_errors(batch.observations, batch.actions).mean().item())
    assert metrics["actor/weight"].item() == pytest.approx(1.0)


def test_the_advantage_is_bounded_before_the_temperature_divides_it():
    awac = agent(AWAC, temperature=0.5, max_advantage=1.0)
    metrics = awac.cloning_loss(toy_batch(2), tensor([1.0, 50.0]).double())[1]
    assert metrics["actor/weight"].item() == pytest.approx(math.e**2)


def test_the_sampled_advantage_is_data_less_policy_with_their_own_opinions():
    """Critics that say 1, 2 and 4 everywhere: mean 7/3 for the data, 4/3 for the policy's actions."""
    awac = agent(AWAC, pessimism=0.5, data_value="mean", value_samples=3)
    constant_(awac.critic.trunk, [1.0, 2.0, 4.0])
    assert awac.sampled_advantage(toy_batch(5)).tolist() == pytest.approx([1.0] * 5)
    awac = agent(AWAC)
    constant_(awac.critic.trunk, [1.0, 2.0, 4.0])
    assert awac.sampled_advantage(toy_batch(5)).tolist() == pytest.approx([0.0] * 5)


# IQL


def test_iql_values_by_hand():
    """Critics 1, 2, 4 and V = 3: u = -2 and 0.3 * 4; the target of Q is r + gamma * 3; the advantage -2."""
    iql = agent(IQL, gamma=0.5, return_range=None)
    constant_(iql.target_critic.trunk, [1.0, 2.0, 4.0])
    constant_(iql.critic.trunk, 0.0)
    constant_(iql.value.trunk, 3.0)
    batch = toy_batch(2)  # rewards 1 and 2; the second row is terminated
    q = iql.data_q(batch)
    assert q.tolist() == [1.0, 1.0]
    assert iql.value_loss(batch, q)[0].item() == pytest.approx(0.3 * 4.0)
    assert iql.critic_loss(batch)[0].item() == pytest.approx(3 * (2.5**2 + 2.0**2) / 2)
    assert iql.advantage(batch, q).tolist() == [-2.0, -2.0]


def test_iql_never_asks_the_critics_about_the_policys_actions():
    iql = agent(IQL)
    asked = []
    for critic in (iql.critic, iql.target_critic):
        critic.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1]))
    batch = toy_batch(4)
    iql.update(batch)
    assert asked
    assert all(torch.equal(actions, batch.actions) for actions in asked)


def test_iqls_later_steps_see_the_new_value():
    slow, fast = agent(IQL, value_lr=1e-9), agent(IQL, value_lr=0.1)
    batch = toy_batch(4)
    slow_metrics, fast_metrics = slow.update(batch), fast.update(batch)
    assert slow_metrics["value/loss"] == pytest.approx(fast_metrics["value/loss"].item(), rel=1e-6)
    for name in ("critic/loss", "actor/loss"):
        assert slow_metrics[name].item() != pytest.approx(fast_metrics[name].item(), rel=1e-4)


def test_rewards_are_scaled_to_the_range_of_the_datas_returns():
    rewards = np.zeros(2 * LENGTH)
    rewards[0], rewards[LENGTH] = 1.0, 5.0  # two episodes, which return 1 and 5
    iql = IQL(toy_dataset(rows=2 * LENGTH, rewards=rewards), actor_hidden=(4,), critic_hidden=(4,), return_range=1000.0)
    assert iql.scaled_rewards(toy_batch(2)).tolist() == [250.0, 500.0]


@pytest.mark.parametrize(("settings", "deviation"), [({}, 0.03), ({"exploration_noise": 0.2}, 0.2)])
def test_a_deterministic_iql_explores_with_noise_and_acts_without(settings, deviation):
    iql = agent(IQL, policy="deterministic", **settings)
    constant_(iql.actor.trunk, 0.0)
    rows = torch.zeros(20_000, OBS, dtype=torch.float64)
    explored = iql.policy.normalize_actions(iql.explore(rows))
    torch.testing.assert_close(explored.std(0), torch.full((ACT,), deviation).double(), rtol=0.03, atol=0.0)
    torch.testing.assert_close(explored.mean(0), torch.zeros(ACT).double(), rtol=0.0, atol=5e-3)
    assert torch.equal(iql.policy(rows).unique(dim=0), tensor([[-0.5, 0.25]]).double())


def test_a_deterministic_iqls_exploration_stays_in_the_box():
    iql = agent(IQL, policy="deterministic", exploration_noise=50.0)
    explored = iql.explore(torch.zeros(50, OBS, dtype=torch.float64))
    assert explored.amin(0).tolist() == list(iql.spec.action_low)
    assert explored.amax(0).tolist() == list(iql.spec.action_high)


def test_the_penalty_of_infeasible_actions_pulls_to_its_floor():
    batch = toy_batch(2)
    plain, penalised = (agent(IQL, infeasible_weight=w, q_min=-7.0) for w in (0.0, 0.5))
    for iql in (plain, penalised):
        constant_(iql.critic.trunk, 1.0)
        constant_(iql.value.trunk, 0.0)
    surplus = penalised.critic_loss(batch)[0] - plain.critic_loss(batch)[0]
    assert surplus.item() == pytest.approx(0.5 * 3 * 64.0)  # three critics, (1 + 7)^2


def test_a_floor_above_the_least_value_is_warned_about():
    """Rewards -1 and 0: the least value is -1 / (1 - 0.5). Times 10, and 10 more: 0."""
    data = toy_dataset(rewards=np.arange(210) % 2 - 1.0)
    settings = {"infeasible_weight": 0.1, "gamma": 0.5}
    with pytest.warns(UserWarning, match=r"q_min=0.0 is above the least value .* of toy allow, -1.0 / \(1 - gamma\)"):
        tiny(IQL, data, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(IQL, data, q_min=-2.0, **settings)
        tiny(IQL, data, reward_scale=10.0, reward_shift=10.0, **settings)
        tiny(IQL, data, population=2, reward_shift=(1.0, 2.0), **settings)
        tiny(IQL, data)  # without the penalty


def test_iql_presets_are_the_papers():
    assert load_preset("IQL", "hopper-medium-replay-v2") == {"return_range": 1000.0}
    maze = IQL.Config.build(load_preset("IQL", "antmaze-large-play-v2"))
    assert (maze.expectile, maze.temperature, maze.reward_shift) == (0.9, 0.1, -1.0)
    hand = IQL.Config.build(load_preset("IQL", "pen-human-v1"))
    assert (hand.expectile, hand.temperature, hand.dropout) == (0.7, 2.0, 0.1)
    scaled = IQL.Config.build(load_preset("IQL", "", "rs-ln"))
    assert (scaled.reward_scale, scaled.critic_norm, scaled.gamma) == (1000.0, "before", 0.995)
    assert scaled.reward_scale / scaled.temperature == 20.0
    assert IQL.Config.build(load_preset("IQL", "", "rs-ln-pa")).infeasible_weight == 0.001


def test_dropout_acts_in_the_loss_and_not_in_predict():
    iql = agent(IQL, dropout=0.5)
    batch = toy_batch(4)
    advantage = torch.zeros(4, dtype=torch.float64)
    assert iql.cloning_loss(batch, advantage)[0] != iql.cloning_loss(batch, advantage)[0]
    rows = np.zeros((4, OBS), np.float32)
    assert np.array_equal(iql.predict(rows)[0], iql.predict(rows)[0])


# ASAC


def test_asac_draws_rows_in_proportion_to_the_exponential_of_their_advantage():
    data = toy_dataset(rows=2 * LENGTH)
    asac = tiny(ASAC, data, batch_size=2000)
    weights = torch.full((2 * LENGTH,), -torch.inf, dtype=torch.float64)
    weights[3], weights[5] = 0.0, math.log(3.0)
    asac.tree.restore({"log_weights": weights})
    batch = asac.sample(Table.of(data, asac.layout, asac.device, asac.dtype))
    uniform, drawn = batch.leaves.split(2000)
    assert (drawn == 3).sum().item() == pytest.approx(500, abs=2)  # stratified
    assert (drawn == 5).sum().item() == pytest.approx(1500, abs=2)
    assert uniform.unique().tolist() == list(range(2 * LENGTH))
    assert torch.equal(batch.rewards, torch.from_numpy(data.rewards.copy())[batch.leaves])


def test_asac_writes_the_advantages_of_what_it_saw_and_leaves_the_rest():
    data = toy_dataset(rows=100 * LENGTH)
    asac = tiny(ASAC, data, temperature=0.25, n_critics=3)
    constant_(asac.critic.trunk, [1.0, 2.0, 4.0])
    asac.optimizers["critic"].scale_lr(0.0)
    batch = asac.sample(Table.of(data, asac.layout, asac.device, asac.dtype))
    asac.update(batch)
    seen = torch.zeros(100 * LENGTH, dtype=torch.bool)
    seen[batch.leaves] = True
    weights = asac.tree.log_weights
    assert weights[~seen].unique().tolist() == [0.0]
    # Critics alike for every action: their mean 7/3 of the data's, their pessimistic 4/3 of the policy's, over 0.25.
    assert weights[seen].tolist() == pytest.approx([4.0] * int(seen.sum()), abs=1e-5)


def test_asacs_tree_takes_new_online_rows_in_at_advantage_zero():
    data = toy_dataset()
    asac = tiny(ASAC, data, updates_per_step=1).learn_offline(data, 3)
    known = asac.tree.log_weights.clone()
    asac.finetune_online(ToyEnv(), 4, dataset=data)
    online = asac.tree.log_weights[len(data) :]
    assert len(online) == asac.config.buffer_size
    assert torch.isfinite(online[:4]).all()
    assert (online[4:] == -torch.inf).all()
    assert (asac.tree.log_weights[: len(data)] != known).any()


def test_asac_refuses_other_data_than_it_was_built_for():
    with pytest.raises(ValueError, match=r"each of the 210 transitions .* this dataset has 70"):
        tiny(ASAC).learn_offline(toy_dataset(rows=70), 1)


def test_the_rewards_of_arrays_stay_raw():
    data = OfflineDataset.from_arrays(
        observations=np.zeros((2, OBS)),
        actions=np.zeros((2, ACT)),
        rewards=[1.0, 2.0],
        next_observations=np.zeros((2, OBS)),
        terminations=[0, 0],
        truncations=[0, 1],
    )
    iql = IQL(data, actor_hidden=(4,), critic_hidden=(4,), return_range=30.0, reward_shift=-1.0)
    assert data.rewards.tolist() == [1.0, 2.0]
    # One episode: its returns span nothing, so there is no range to scale to.
    assert iql.scaled_rewards(toy_batch(2)).tolist() == [0.0, 1.0]

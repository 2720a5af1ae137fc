"""PARS (arXiv 2507.08761): what must hold of its losses, its infeasible actions and its schedule."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import tensor

from tests.support.data import (
    LENGTH,
    FixedDraws,
    ToyEnv,
    assert_same_state,
    changed,
    constant_,
    state,
    tiny,
    toy_batch,
    toy_dataset,
    whole,
)
from zoo.agents import PARS, TD3BC
from zoo.agents.core.optim import minimize
from zoo.agents.shared.actor_critic import cosine

DISTANCE = 100.0
MANY = 20_000


def agent(**settings) -> PARS:
    return tiny(PARS, dtype=torch.float64, **settings)


def draws(subset=(0, 1), **more) -> FixedDraws:
    return FixedDraws(target_noise=0.0, target_subset=list(subset), infeasible_uniform=0.5, **more)


def gradients(pars: PARS | TD3BC, net: str) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in getattr(pars, net).parameters()]


# Infeasible actions


def test_infeasible_actions_are_between_once_and_twice_the_distance_in_every_dimension():
    actions = agent(infeasible_distance=DISTANCE).infeasible_actions(torch.zeros(MANY, 3))
    assert actions.shape == (MANY, 3)
    size = actions.abs()
    assert size.min() >= DISTANCE
    assert size.max() <= 2.0 * DISTANCE
    assert size.mean().item() == pytest.approx(1.5 * DISTANCE, rel=0.01)
    assert size.var().item() == pytest.approx(DISTANCE**2 / 12.0, rel=0.03)


def test_infeasible_actions_take_either_side_equally_often_in_every_dimension_alone():
    actions = agent().infeasible_actions(torch.zeros(MANY, 3))
    orthant = ((actions > 0.0) * tensor([1, 2, 4])).sum(-1)
    share = torch.bincount(orthant, minlength=8) / MANY
    torch.testing.assert_close(share, torch.full((8,), 0.125), rtol=0.0, atol=0.015)  # deviation 0.0023


def test_the_uniform_draw_becomes_the_lower_or_the_upper_band():
    pars = agent(infeasible_distance=DISTANCE)
    pars.draws = FixedDraws(infeasible_uniform=tensor([[0.0, 0.25], [0.5, 0.75]]))
    # 2u - 1 = -1, -0.5, 0, 0.5; away from 0 by 1: -2, -1.5, 1, 1.5.
    assert pars.infeasible_actions(torch.zeros(2, 2)).tolist() == [[-200.0, -150.0], [100.0, 150.0]]


def test_any_dim_leaves_a_non_empty_set_outside_and_the_rest_uniform_in_the_box():
    actions = agent(infeasible="any_dim", infeasible_distance=DISTANCE).infeasible_actions(torch.zeros(MANY, 3))
    size = actions.abs()
    outside = size >= DISTANCE
    assert (outside | (size <= 1.0)).all()
    assert outside.any(-1).all()
    share = torch.bincount((outside * tensor([1, 2, 4])).sum(-1), minlength=8) / MANY
    expected = tensor([0.0, *[1 / 7] * 7])
    torch.testing.assert_close(share, expected, rtol=0.0, atol=0.015)
    inside = actions[~outside]
    assert inside.mean().abs() < 0.02
    assert inside.var().item() == pytest.approx(1.0 / 3.0, rel=0.03)  # of a uniform number in [-1, 1]


def test_infeasible_actions_repeat_with_the_seed_and_leave_the_batches_alone():
    one, other, third = agent(seed=1), agent(seed=1), agent(seed=2)
    before = one.batches.generator.get_state()
    first = one.infeasible_actions(torch.zeros(5, 2))
    assert torch.equal(first, other.infeasible_actions(torch.zeros(5, 2)))
    assert not torch.equal(first, third.infeasible_actions(torch.zeros(5, 2)))
    assert torch.equal(one.batches.generator.get_state(), before)


# Critic


def test_critic_loss_by_hand():
    pars = agent(gamma=0.5, reward_scale=10.0, alpha=0.3, q_min=-0.2, target_subset=2)
    constant_(pars.critic.trunk, [1.0, 2.0, 3.0])
    constant_(pars.target_critic.trunk, [4.0, 6.0, 5.0])
    pars.draws = draws(subset=[1, 2])
    loss, metrics = pars.critic_loss(toy_batch())
    # min(6, 5) = 5. Targets 10 * 1 + 0.5 * 5 = 12.5 and 10 * 2 = 20. Errors of the critics:
    # (11.5^2 + 19^2) / 2 = 246.625, (10.5^2 + 18^2) / 2 = 217.125, (9.5^2 + 17^2) / 2 = 189.625; their mean 217.791667.
    # Q_min = 10 * -0.2 = -2; (3^2 + 4^2 + 5^2) / 3 = 16.666667; 217.791667 + 0.3 * 16.666667 = 222.791667.
    assert metrics["critic/td"].item() == pytest.approx(217.791667, abs=1e-5)
    assert metrics["critic/penalty"].item() == pytest.approx(16.666667, abs=1e-5)
    assert loss.item() == pytest.approx(222.791667, abs=1e-5)


@pytest.mark.parametrize(("subset", "least"), [([0, 1, 2], 4.0), ([2, 1], 5.0), ([1], 6.0)])
def test_target_is_the_minimum_of_the_drawn_target_critics(subset, least):
    pars = agent(gamma=0.5, reward_scale=1.0, alpha=0.0, target_subset=len(subset))
    constant_(pars.critic.trunk, [0.0, 0.0, 0.0])
    constant_(pars.target_critic.trunk, [4.0, 6.0, 5.0])
    pars.draws = draws(subset)
    target = 1.0 + 0.5 * least  # of the first row; that of the second, terminated, is 2
    assert pars.critic_loss(toy_batch())[0].item() == pytest.approx((target**2 + 4.0) / 2.0)


def test_target_subset_is_drawn_anew_for_every_update_and_member():
    pars = agent(target_subset=2, population=4)
    drawn = []
    original = pars.draws.subset
    pars.draws.subset = lambda *args, **kwargs: drawn.append(original(*args, **kwargs)) or drawn[-1]
    pars.learn_offline(toy_dataset(), 6)
    assert [tuple(subset.shape) for subset in drawn] == [(4, 2)] * 6
    assert len({tuple(sorted(row.tolist())) for subset in drawn for row in subset}) == 3  # all pairs of three occur


def test_alpha_zero_draws_no_infeasible_action_and_is_the_td_loss_with_its_gradients():
    penalised, plain = agent(alpha=1e-30), agent(alpha=0.0)  # equal seeds, so equal weights
    for pars, numbers in ((penalised, draws()), (plain, FixedDraws(target_noise=0.0, target_subset=[0, 1]))):
        pars.draws = numbers
        loss, metrics = pars.critic_loss(toy_batch())
        loss.backward()
    assert "critic/penalty" not in metrics
    for one, other in zip(gradients(plain, "critic"), gradients(penalised, "critic"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_without_its_additions_the_critic_loss_is_half_of_td3s():
    plain = {"n_critics": 2, "critic_norm": "none", "gamma": 0.9}
    pars = agent(alpha=0.0, reward_scale=1.0, target_subset=2, **plain)
    td3 = tiny(TD3BC, dtype=torch.float64, **plain)
    td3.load_state_dict(pars.state_dict())
    pars.draws, td3.draws = draws(), FixedDraws(target_noise=0.0)
    assert pars.critic_loss(toy_batch())[0].item() == pytest.approx(
        td3.critic_loss(toy_batch())[0].item() / 2.0, rel=1e-12
    )


def test_reward_scale_inside_equals_scaled_rewards_outside():
    data = toy_dataset()
    larger = toy_dataset(rewards=8.0 * data.rewards)
    inside = tiny(PARS, data, dtype=torch.float64, reward_scale=8.0).learn_offline(data, 6)
    outside = tiny(PARS, larger, dtype=torch.float64, reward_scale=1.0).learn_offline(larger, 6)
    assert_same_state(inside, outside, rtol=0.0, atol=1e-12)


def test_critics_on_the_band_come_to_q_min_while_those_on_the_data_stay_with_the_rewards():
    data = toy_dataset(rewards=[1.0] * 210)
    pars = tiny(PARS, data, gamma=0.0, reward_scale=1.0, alpha=0.1, q_min=-3.0, critic_lr=3e-3).learn_offline(data, 500)
    rows = whole(data, pars)
    far = pars.critic(rows.observations, pars.infeasible_actions(rows.actions))
    near = pars.critic(rows.observations, rows.actions)
    assert (far + 3.0).abs().mean(-1).max() < 0.5
    assert (near - 1.0).abs().mean(-1).max() < 0.2


# Q_min


def test_q_min_is_the_least_reward_for_ever_times_the_reward_scale():
    data = toy_dataset(rewards=[-0.5, *[1.0] * 209])
    assert tiny(PARS, data, gamma=0.75, reward_scale=10.0).q_min == pytest.approx(-20.0)  # 10 * -0.5 / 0.25


def test_q_min_of_the_papers_table_is_for_raw_rewards():
    assert tiny(PARS, preset="pen-cloned-v1").q_min == -7150.0  # reward scale 10
    assert tiny(PARS, preset="pen-cloned-v1", q_min_scaled=False).q_min == -715.0
    assert tiny(PARS, preset="antmaze-large-play-v2").q_min == 0.0


def test_q_min_of_a_sweep_is_each_members_own():
    pars = agent(population=2, q_min=(-1.0, -2.0), reward_scale=(10.0, 100.0))
    assert pars.q_min.tolist() == [-10.0, -200.0]
    assert pars.member(1).q_min == -200.0


def test_gamma_of_one_needs_a_q_min():
    assert agent(gamma=1.0, q_min=-1.0, reward_scale=2.0).q_min == -2.0
    with pytest.raises(ValueError, match="q_min"):
        agent(gamma=1.0)


@pytest.mark.parametrize(
    ("q_min", "shift", "expected"), [(None, 10.0, 0.0), (-100.0, 10.0, 0.0), (-100.0, 5.0, -500.0)]
)
def test_q_min_follows_a_shift_of_the_rewards(q_min, shift, expected):
    """Rewards -1 and 0, times 10: the least one for ever is (10 * -1 + shift) / 0.01."""
    data = toy_dataset(rewards=np.arange(210) % 2 - 1.0)
    settings = {"reward_scale": 10.0, "reward_shift": shift, "q_min": q_min}
    assert tiny(PARS, data, **settings).q_min == pytest.approx(expected, abs=1e-9)
    if q_min is not None:
        assert tiny(PARS, data, q_min_scaled=False, **settings).q_min == q_min


def test_q_min_of_a_sweep_of_shifts_is_each_members_own():
    data = toy_dataset(rewards=np.arange(210) % 2 - 1.0)
    with pytest.warns(UserWarning, match="positive rewards"):
        pars = tiny(PARS, data, population=2, gamma=0.5, reward_scale=10.0, reward_shift=(0.0, 10.0))
    assert pars.q_min.tolist() == pytest.approx([-20.0, 0.0])
    assert pars.member(1).q_min == pytest.approx(0.0)


def test_a_shift_leaves_no_q_min_at_gamma_of_one():
    with pytest.raises(ValueError, match="q_min_scaled=False"):
        agent(gamma=1.0, q_min=-1.0, reward_shift=1.0)
    assert agent(gamma=1.0, q_min=-1.0, reward_shift=1.0, q_min_scaled=False).q_min == -1.0


def test_rewards_that_a_shift_makes_positive_are_not_warned_about():
    data = toy_dataset(rewards=[-1.0, *[0.0] * 209])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(PARS, data, reward_scale=10.0, reward_shift=10.0)
    with pytest.warns(UserWarning, match="positive rewards"):
        tiny(PARS, data, population=2, reward_shift=(10.0, 0.0))


def test_mostly_negative_rewards_are_warned_about():
    with pytest.warns(UserWarning, match="positive rewards.* those of toy average -1"):
        tiny(PARS, toy_dataset(rewards=[-1.0] * 210))


# Actor


@pytest.mark.parametrize(
    ("online", "subset", "q"), [(False, None, 1.0), (True, [0, 2], 3.5), (True, [0, 1, 2], 3.0), (True, [1], 2.0)]
)  # fmt: skip
def test_actor_takes_the_minimum_offline_and_the_mean_of_a_subset_online(online, subset, q):
    pars = agent(online_actor_subset=len(subset or [0]))
    constant_(pars.critic.trunk, [1.0, 2.0, 6.0])
    pars.online = online
    pars.draws = FixedDraws(actor_subset=subset) if subset else FixedDraws()
    assert pars.actor_loss(toy_batch())[1]["actor/q"].item() == pytest.approx(q)


def test_offline_minimum_is_taken_row_by_row():
    pars = agent(beta=0.0)
    rows = toy_batch(50)
    torch.nn.init.normal_(pars.critic.trunk.linears[-1].weight, generator=torch.Generator().manual_seed(0))
    qs = pars.critic(rows.observations, pars.actor(rows.observations))
    assert len(set(qs.argmin(-2).tolist())) > 1  # not one critic everywhere
    assert pars.actor_loss(rows)[1]["actor/q"].item() == pytest.approx(
        sum(map(min, zip(*qs.tolist(), strict=True))) / 50
    )


@pytest.mark.parametrize(("value", "expected"), [(300.0, -1.0), (-0.2, 1.0)])
def test_actor_loss_of_a_constant_critic_is_its_sign_plus_beta_times_cloning(value, expected):
    rows = toy_batch()._replace(actions=tensor([[1.0, 0.0], [0.5, -0.5]]).double())
    for beta, cloning in ((0.0, 0.0), (0.4, 0.15)):  # mean square 0.375 with pi = 0; 0.4 * 0.375
        pars = agent(beta=beta)
        constant_(pars.critic.trunk, [value] * 3)
        constant_(pars.actor.trunk, 0.0)
        assert pars.actor_loss(rows)[0].item() == pytest.approx(expected + cloning)


def test_actor_loss_ignores_the_scale_of_the_critics():
    pars = agent(beta=0.01)
    before = pars.actor_loss(toy_batch())[0].item()
    with torch.no_grad():
        for parameter in pars.critic.trunk.linears[-1].parameters():
            parameter.mul_(1000.0)
    assert pars.actor_loss(toy_batch())[0].item() == pytest.approx(before, rel=1e-9)


def test_beta_zero_still_has_a_gradient():
    pars = agent(beta=0.0)
    pars.actor_loss(toy_batch())[0].backward()
    assert all(gradient.abs().sum() > 0.0 for gradient in gradients(pars, "actor"))


def test_with_one_critic_the_actors_gradient_is_beta_times_that_of_td3bc_with_alpha_one_over_beta():
    beta, plain = 0.05, {"n_critics": 1, "critic_norm": "none"}
    pars = agent(beta=beta, target_subset=1, **plain)
    td3bc = tiny(TD3BC, dtype=torch.float64, alpha=1.0 / beta, **plain)
    td3bc.load_state_dict(pars.state_dict())
    for one in (pars, td3bc):
        one.actor_loss(toy_batch())[0].backward()
    for mine, theirs in zip(gradients(pars, "actor"), gradients(td3bc, "actor"), strict=True):
        torch.testing.assert_close(mine, beta * theirs, rtol=1e-9, atol=1e-12)


def test_actor_step_leaves_the_critics_untouched():
    pars = agent()
    before = state(pars)
    minimize(pars.actor_loss(toy_batch())[0], pars.optimizers["actor"])
    assert {name.split(".")[1] for name in changed(before, pars)} == {"actor"}
    assert all(parameter.grad is None for parameter in pars.critic.parameters())


def test_online_weights_take_over_online_and_default_to_the_offline_ones():
    pars = agent(alpha=0.1, beta=0.2, online_alpha=0.3, online_beta=0.0)
    same = agent(alpha=0.1, beta=0.2)
    assert (pars.penalty_weight, pars.cloning_weight) == (0.1, 0.2)
    pars.online = same.online = True
    assert (pars.penalty_weight, pars.cloning_weight) == (0.3, 0.0)
    assert (same.penalty_weight, same.cloning_weight) == (0.1, 0.2)


# Networks


def test_critics_have_layernorm_before_each_relu_and_small_last_layers_and_the_actor_has_none():
    pars = PARS(toy_dataset(), n_critics=4, device="cpu")
    assert pars.critic.trunk.norm == "before"
    assert [norm.weight.shape for norm in pars.critic.trunk.norms] == [(4, 256)] * 3
    assert len(pars.actor.trunk.norms) == 0
    for critic in (pars.critic, pars.target_critic):
        last = critic.trunk.linears[-1]
        assert max(last.weight.abs().max(), last.bias.abs().max()) <= 3e-3
    assert torch.equal(pars.critic.trunk.linears[-1].weight, pars.target_critic.trunk.linears[-1].weight)


# Loop


def count_updates(pars: PARS) -> dict[str, int]:
    """Counts the calls of both losses from here on."""
    counts = {"critic_loss": 0, "actor_loss": 0}
    for name in counts:
        original = getattr(pars, name)

        def counted(rows, name=name, original=original):
            counts[name] += 1
            return original(rows)

        object.__setattr__(pars, name, counted)
    return counts


def test_offline_the_actor_steps_once_for_two_updates():
    pars = agent()
    counts = count_updates(pars)
    pars.learn_offline(toy_dataset(), 7)
    assert counts == {"critic_loss": 7, "actor_loss": 3}


@pytest.mark.parametrize(("delay", "actor_steps"), [(2, 10), (20, 1)])
def test_an_environment_step_brings_twenty_updates(delay, actor_steps):
    pars = agent(online_policy_delay=delay)
    counts = count_updates(pars)
    pars.finetune_online(ToyEnv(), 3, dataset=toy_dataset())
    assert counts == {"critic_loss": 60, "actor_loss": 3 * actor_steps}


@pytest.mark.parametrize(("ratio", "offline_rows"), [(0.5, 128), (0.05, 13)])
def test_a_mixed_batch_holds_exactly_its_share_of_offline_rows(ratio, offline_rows):
    data = toy_dataset(rewards=[100.0] * 210)  # the environment's rewards are at most 1
    pars = tiny(PARS, data, batch_size=256, offline_ratio=ratio, updates_per_step=2)
    shares = []
    pars.gradient_step = lambda rows: shares.append((len(rows.rewards), int((rows.rewards == 100.0).sum()))) or {}
    pars.finetune_online(ToyEnv(), 3, dataset=data)
    assert shares == [(256, offline_rows)] * 6


def test_learning_starts_after_so_many_environment_steps():
    pars = agent(learning_starts=LENGTH, updates_per_step=1)
    pars.finetune_online(ToyEnv(), LENGTH + 2, dataset=toy_dataset())
    assert pars.updates == 2


def test_cosine_is_one_at_the_start_half_in_the_middle_and_zero_from_the_end_on():
    assert [cosine(step, 1000) for step in (0, 500, 1000, 2000)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert cosine(250, 1000) == pytest.approx((1.0 + math.sqrt(0.5)) / 2.0)


def test_adroit_presets_have_the_cosine_and_others_a_constant_rate():
    assert tiny(PARS, preset="door-expert-v1").config.cosine_steps == 1_000_000
    assert tiny(PARS, preset="hopper-medium-v2", n_critics=10).config.cosine_steps == 0


@pytest.mark.parametrize("field", ["target_subset", "online_actor_subset"])
def test_a_subset_larger_than_the_ensemble_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be between 1 and n_critics=3, got 4"):
        agent(**{field: 4})

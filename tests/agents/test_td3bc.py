"""TD3 and TD3+BC (arXiv 1802.09477, 2106.06860): what must hold of losses, targets and schedules."""

import pytest
import torch
from torch import tensor

from tests.support.data import OBS, FixedDraws, changed, constant_, state, tiny, toy_batch, toy_dataset, whole
from zoo.agents import TD3BC, Batch
from zoo.agents.core.optim import minimize
from zoo.agents.shared.losses import cloning_error


def agent(**settings) -> TD3BC:
    return tiny(TD3BC, dtype=torch.float64, n_critics=2, **settings)


def no_noise() -> FixedDraws:
    return FixedDraws(target_noise=0.0)


# Critic


def test_critic_loss_is_the_sum_of_both_errors_to_the_least_target():
    td3 = agent(gamma=0.9)
    constant_(td3.critic.trunk, [1.0, 2.0])
    constant_(td3.target_critic.trunk, [3.0, 5.0])
    # Targets 1 + 0.9 * 3 = 3.7 and 2. Critic 1: (2.7^2 + 1^2) / 2 = 4.145; critic 2: (1.7^2 + 0) / 2 = 1.445.
    assert td3.critic_loss(toy_batch())[0].item() == pytest.approx(5.59)


def test_reward_scale_and_shift_act_in_the_target():
    td3 = agent(gamma=0.5, reward_scale=10.0, reward_shift=-1.0)
    constant_(td3.critic.trunk, [0.0, 0.0])
    constant_(td3.target_critic.trunk, [4.0, 4.0])
    # Targets 10 * 1 - 1 + 0.5 * 4 = 11 and 10 * 2 - 1 = 19; both critics: (121 + 361) / 2 = 241.
    assert td3.critic_loss(toy_batch())[0].item() == pytest.approx(482.0)


def test_critic_loss_refuses_rewards_with_a_stray_axis():
    wrong = toy_batch()._replace(rewards=torch.ones(2, 1))
    with pytest.raises(ValueError, match="must have one shape"):
        agent().critic_loss(wrong)


def test_losses_do_not_depend_on_the_order_of_the_toy_batch():
    td3, order = agent(), tensor([3, 0, 2, 1])
    rows, shuffled = toy_batch(4), Batch(*(column[order] for column in toy_batch(4)[:5]))
    for loss in (td3.critic_loss, td3.actor_loss):
        td3.draws = no_noise()
        assert loss(rows)[0].item() == pytest.approx(loss(shuffled)[0].item(), rel=1e-12)


def test_critic_loss_leaves_the_actor_and_the_targets_without_gradient():
    td3 = agent()
    td3.critic_loss(toy_batch())[0].backward()
    others = [*td3.actor.parameters(), *td3.target_actor.parameters(), *td3.target_critic.parameters()]
    assert all(parameter.grad is None for parameter in others)
    assert not any(p.requires_grad for p in [*td3.target_actor.parameters(), *td3.target_critic.parameters()])


def test_targets_start_as_copies():
    td3 = agent()
    for network, target in ((td3.actor, td3.target_actor), (td3.critic, td3.target_critic)):
        for name, value in network.state_dict().items():
            assert torch.equal(value, target.state_dict()[name])


# Target actions


def test_target_action_noise_is_scaled_then_clipped_then_kept_in_the_box():
    td3 = agent(target_noise=0.2, target_noise_clip=0.5)
    constant_(td3.target_actor.trunk, 0.0)  # pi(s') = 0
    td3.draws = FixedDraws(target_noise=tensor([[1.0, -1.0], [4.0, -4.0]]))
    torch.testing.assert_close(
        td3.target_actions(toy_batch().next_observations), tensor([[0.2, -0.2], [0.5, -0.5]]).double()
    )
    constant_(td3.target_actor.trunk, 0.8)  # tanh(0.8) = 0.6640368
    expected = tensor([[0.8640368, 0.4640368], [1.0, 0.1640368]]).double()
    torch.testing.assert_close(td3.target_actions(toy_batch().next_observations), expected, rtol=0.0, atol=1e-7)


def test_without_target_noise_the_target_action_is_the_target_actors():
    td3 = agent(target_noise=0.0)
    rows = toy_batch().next_observations
    assert torch.equal(td3.target_actions(rows), td3.target_actor(rows))


# Actor


def test_actor_loss_of_a_constant_critic_is_cloning_minus_alpha_times_its_sign():
    td3 = agent(alpha=2.5)
    constant_(td3.actor.trunk, 0.0)  # pi = 0
    rows = toy_batch()._replace(actions=tensor([[1.0, 0.0], [0.5, -0.5]]).double())
    for value, expected in ((7.0, 0.375 - 2.5), (-0.01, 0.375 + 2.5)):  # (1 + 0 + 0.25 + 0.25) / 4 = 0.375
        constant_(td3.critic.trunk, [value, value])
        assert td3.actor_loss(rows)[0].item() == pytest.approx(expected)


def test_actor_loss_ignores_the_scale_of_the_critic():
    td3 = agent()
    before = td3.actor_loss(toy_batch())[0].item()
    with torch.no_grad():
        for parameter in td3.critic.trunk.linears[-1].parameters():
            parameter.mul_(7.0)
    assert td3.actor_loss(toy_batch())[0].item() == pytest.approx(before, rel=1e-12)


def test_actor_loss_listens_to_the_first_critic_alone():
    td3 = agent(alpha=2.5)
    losses = {}
    for values in ((1.0, 1.0), (1.0, -9.0), (-9.0, 1.0)):
        constant_(td3.critic.trunk, list(values))
        losses[values] = td3.actor_loss(toy_batch())[0].item()
    assert losses[1.0, -9.0] == losses[1.0, 1.0]
    assert losses[-9.0, 1.0] == pytest.approx(losses[1.0, 1.0] + 5.0)  # from -alpha to +alpha


def test_with_alpha_zero_the_actor_clones():
    td3, rows = agent(alpha=0.0), toy_batch()
    assert td3.actor_loss(rows)[0].item() == cloning_error(td3.actor(rows.observations), rows.actions).item()


def test_actor_step_leaves_the_critic_untouched():
    td3 = agent()
    before = state(td3)
    minimize(td3.actor_loss(toy_batch())[0], td3.optimizers["actor"])
    moved = changed(before, td3)
    assert {name.split(".")[1] for name in moved} == {"actor"}
    assert len(moved) == len(list(td3.actor.parameters()))
    assert all(parameter.grad is None for parameter in td3.critic.parameters())


# Schedule


@pytest.mark.parametrize(("policy_delay", "target_delay"), [(2, 2), (3, 1)])
def test_actor_and_targets_move_only_when_they_are_due(policy_delay, target_delay):
    td3 = agent(policy_delay=policy_delay, target_delay=target_delay)
    for update in range(1, 7):
        before = state(td3)
        td3.update(toy_batch())
        moved = {name.removeprefix("state/").removeprefix("policy.").split(".")[0] for name in changed(before, td3)}
        expected = {"critic"}
        expected |= {"actor"} if update % policy_delay == 0 else set()
        targets = {"target_critic", "target_actor"} if update >= policy_delay else {"target_critic"}
        expected |= targets if update % target_delay == 0 else set()
        assert moved == expected


def test_cosine_halves_the_actors_rate_half_way_and_ends_at_zero_and_returns_online():
    td3 = agent(cosine_steps=4, actor_lr=0.1)
    rates = []
    for _ in range(3):
        td3.update(toy_batch())
        td3.update(toy_batch())
        rates.append(td3.optimizers["actor"].rate.item())
    assert rates == pytest.approx([0.05, 0.0, 0.0], abs=1e-15)
    assert td3.optimizers["critic"].rate.item() == 3e-4
    td3.online = True
    td3.update(toy_batch())
    td3.update(toy_batch())
    assert td3.optimizers["actor"].rate.item() == 0.1


def test_exploration_noise_is_in_half_boxes_and_stays_in_the_box():
    td3 = agent(exploration_noise=0.1)
    constant_(td3.actor.trunk, 0.0)  # the box's centre, (-0.5, 0.25); half range (1.5, 0.25)
    td3.acting = FixedDraws(exploration=tensor([[1.0, -1.0], [99.0, -99.0]]))
    explored = td3.explore(torch.zeros(2, OBS, dtype=torch.float64))
    torch.testing.assert_close(explored, tensor([[-0.35, 0.225], [1.0, 0.0]]).double(), rtol=0.0, atol=1e-7)


def test_observations_are_normalised_with_the_statistics_of_the_data():
    data = toy_dataset()
    td3 = tiny(TD3BC, data)
    rows = whole(data, td3)
    torch.testing.assert_close(rows.observations.mean(0), torch.zeros(OBS), rtol=0.0, atol=1e-5)
    std = rows.observations.std(0, unbiased=False)  # std / (std + 1e-3), and the data's is about 3
    torch.testing.assert_close(std, torch.full((OBS,), 1.0 - 1e-3 / 3.0), rtol=0.0, atol=5e-5)
    assert rows.actions.abs().max() <= 1.0 + 1e-6
    assert rows.actions.abs().max() > 0.97


def test_antmaze_rewards_are_shifted_by_the_preset_and_a_setting_wins():
    assert tiny(TD3BC, preset="antmaze-umaze-v2").config.reward_shift == -1.0
    assert tiny(TD3BC, preset="antmaze-umaze-v2", reward_shift=0.5).config.reward_shift == 0.5
    assert tiny(TD3BC).config.reward_shift == 0.0

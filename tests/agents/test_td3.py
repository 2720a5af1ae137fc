"""TD3: its own actor loss, and what changes when it goes online. The critic it shares is tested in test_td3bc.py."""

import numpy as np
import pytest
import torch
from torch import tensor

from tests.support.data import HIGH, LENGTH, LOW, FixedDraws, ToyEnv, constant_, tiny, toy_batch, toy_dataset, whole
from zoo.agents import TD3, TD3BC
from zoo.agents.shared.losses import cloning_error


def agent(**settings) -> TD3:
    return tiny(TD3, dtype=torch.float64, **({"n_critics": 2} | settings))


def gradients(one: TD3 | TD3BC) -> list[torch.Tensor]:
    return list(torch.autograd.grad(one.actor_loss(toy_batch())[0], list(one.actor.parameters())))


# Losses


def test_critic_loss_by_hand():
    td3 = agent(gamma=0.5)
    constant_(td3.critic.trunk, [1.0, 2.0])
    constant_(td3.target_critic.trunk, [8.0, 4.0])
    # Targets 1 + 0.5 * 4 = 3 and, terminated, 2. Critic 1: (2^2 + 1^2) / 2 = 2.5; critic 2: (1^2 + 0) / 2 = 0.5.
    assert td3.critic_loss(toy_batch())[0].item() == pytest.approx(3.0)


@pytest.mark.parametrize("value", [300.0, 0.5, -7.0])
def test_actor_loss_is_minus_q_in_its_own_units(value):
    td3 = agent()
    constant_(td3.critic.trunk, [value, 0.0])
    loss, metrics = td3.actor_loss(toy_batch())
    assert loss.item() == pytest.approx(-value)
    assert metrics["actor/q"].item() == pytest.approx(value)


def test_actor_loss_listens_to_the_first_critic_alone():
    td3 = agent()
    constant_(td3.critic.trunk, [5.0, 1.0])  # not the minimum, not the mean
    assert td3.actor_loss(toy_batch())[0].item() == pytest.approx(-5.0)


def test_the_actions_of_the_data_are_nothing_to_the_actor():
    td3, rows = agent(), toy_batch()
    moved = rows._replace(actions=-rows.actions)
    assert td3.actor_loss(moved)[0].item() == td3.actor_loss(rows)[0].item()


def test_actors_gradient_is_that_of_td3bc_less_cloning_times_its_normaliser():
    td3, td3bc, rows = agent(), tiny(TD3BC, dtype=torch.float64, n_critics=2, alpha=2.5), toy_batch()
    td3bc.load_state_dict(td3.state_dict())
    cloning = cloning_error(td3.actor(rows.observations), rows.actions)
    cloning_gradients = torch.autograd.grad(cloning, list(td3.actor.parameters()))
    magnitude = td3.critic(rows.observations, td3.actor(rows.observations))[0].abs().mean().item()
    for mine, theirs, bc in zip(gradients(td3), gradients(td3bc), cloning_gradients, strict=True):
        torch.testing.assert_close(mine, (theirs - bc) * magnitude / 2.5, rtol=1e-9, atol=1e-12)


def test_actor_climbs_q_where_the_data_say_nothing():
    td3 = agent(actor_lr=1e-2, critic_lr=1e-9)
    rows = toy_batch(8)
    values = []
    for _ in range(20):
        td3.update(rows)
        values.append(td3.critic(rows.observations, td3.actor(rows.observations))[0].mean().item())
    assert values[-1] > values[0] + 0.01


def test_observations_are_left_in_the_units_of_the_data():
    data = toy_dataset()
    np.testing.assert_array_equal(whole(data, tiny(TD3, data)).observations.numpy(), data.observations)


# Online


def test_online_gamma_is_in_force_online_and_only_there():
    td3 = agent(gamma=0.5, online_gamma=0.75)
    constant_(td3.critic.trunk, [0.0, 0.0])
    constant_(td3.target_critic.trunk, [4.0, 4.0])
    losses = []
    for online in (False, True, False):
        td3.online = online
        losses.append(td3.critic_loss(toy_batch())[0].item())
    # Both critics: offline targets 1 + 0.5 * 4 = 3 and 2, 9 + 4; online 1 + 0.75 * 4 = 4 and 2, 16 + 4.
    assert losses == pytest.approx([13.0, 20.0, 13.0])


def test_both_loops_choose_their_own_gamma():
    data = toy_dataset()
    td3 = agent(gamma=0.5, online_gamma=0.75, online_buffer="none")
    gammas = [td3.finetune_online(ToyEnv(), 2).gamma, td3.learn_offline(data, 1).gamma]
    gammas.append(td3.finetune_online(None, 2).gamma)
    assert gammas == [0.75, 0.5, 0.75]
    plain = agent(gamma=0.5, online_buffer="none")
    assert plain.finetune_online(ToyEnv(), 2).gamma == 0.5  # by default as offline


def test_online_policy_delay_is_in_force_online_and_only_there():
    td3 = agent(policy_delay=2, online_policy_delay=3)
    rows, moved = toy_batch(), []
    for update in range(1, 13):
        td3.online = update > 6
        before = td3.actor.trunk.linears[-1].weight.clone()
        td3.update(rows)
        if not torch.equal(before, td3.actor.trunk.linears[-1].weight):
            moved.append(update)
    assert moved == [2, 4, 6, 9, 12]


@pytest.mark.parametrize(("noise", "least_at_the_edges"), [(0.0, 0.0), (5.0, 0.7)])
def test_actions_of_exploration_stay_in_the_box_however_large_the_noise(noise, least_at_the_edges):
    td3 = agent(exploration_noise=noise, online_buffer="none", learning_starts=10 * LENGTH)  # no update on the way
    td3.finetune_online(ToyEnv(), 4 * LENGTH)  # which refuses what is outside
    rows = td3.layout.unpack(td3.replay.rows[: td3.replay.size])
    low, high = tensor(LOW), tensor(HIGH)
    assert len(rows.actions) == 4 * LENGTH
    assert (rows.actions >= low).all()
    assert (rows.actions <= high).all()
    share = ((rows.actions == low) | (rows.actions == high)).double().mean().item()
    assert share >= least_at_the_edges  # of noise of 5 half boxes, 84 % falls outside of the box
    own = torch.from_numpy(td3.predict(rows.observations.numpy())[0])
    assert torch.allclose(rows.actions.float(), own, atol=1e-6) == (noise == 0.0)


def test_exploration_noise_has_the_spread_of_the_config():
    td3 = agent(exploration_noise=0.1)
    constant_(td3.actor.trunk, 0.0)
    explored = td3.explore(torch.zeros(20_000, 3, dtype=torch.float64))
    # Half range (1.5, 0.25) and centre (-0.5, 0.25): spreads 0.15 and 0.025.
    torch.testing.assert_close(explored.std(0), tensor([0.15, 0.025]).double(), rtol=0.03, atol=0.0)
    torch.testing.assert_close(explored.mean(0), tensor([-0.5, 0.25]).double(), rtol=0.0, atol=5e-3)


def test_evaluation_does_not_explore():
    td3 = agent(exploration_noise=5.0)
    td3.acting = FixedDraws()  # from which nothing may be drawn
    constant_(td3.actor.trunk, 0.0)
    assert td3.predict(np.zeros(3, np.float32))[0].tolist() == [-0.5, 0.25]

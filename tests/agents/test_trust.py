"""Which transitions are trusted: hand-made returns, and an IQL filter on a bandit."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import tensor

from tests.support.d4rl_files import write_hdf5
from tests.support.data import ACT, LENGTH, OBS, constant_, tiny, toy_batch, toy_dataset
from tests.support.mazes import EPISODES, STEPS, walking_on
from zoo.agents import CQLSA, TD3BCSA
from zoo.agents.shared.trust import AdvantageFilter, by_return, by_success, expectile_loss
from zoo.datasets.readers.d4rl import read_hdf5


def of_rewards(*each: float):
    """A dataset of one episode of 7 equal rewards for each number."""
    return toy_dataset(rows=LENGTH * len(each), rewards=np.repeat(np.array(each, np.float32), LENGTH))


def episodes(trusted: np.ndarray) -> list[bool]:
    """One flag for each episode, which must be that of all of its rows."""
    table = trusted.reshape(-1, LENGTH)
    assert (table == table[:, :1]).all()
    return table[:, 0].tolist()


# Returns and successes


def test_only_episodes_of_more_than_the_threshold_are_trusted():
    data = of_rewards(1.0, 2.0, 3.0)  # returns 7, 14, 21
    assert episodes(by_return(data, 14.0)) == [False, False, True]
    assert episodes(by_return(data, 13.9)) == [False, True, True]
    assert episodes(by_return(data, -1.0)) == [True, True, True]


def test_without_a_threshold_the_average_episode_and_better_ones_are_trusted():
    assert episodes(by_return(of_rewards(1.0, 2.0, 3.0), None)) == [False, True, True]  # the average is 14
    assert episodes(by_return(of_rewards(-4.0, -1.0, -1.0), None)) == [False, True, True]
    assert episodes(by_return(of_rewards(0.1, 0.1, 0.1), None)) == [True, True, True]  # whatever the rounding
    assert episodes(by_return(of_rewards(0.0, 0.0), None)) == [True, True]


def test_the_return_is_the_sum_and_not_the_mean_of_the_rewards():
    rewards = [1.0] * 7 + [1.0] * 3  # returns 7 and 3: the second episode is cut short
    data = toy_dataset(rows=10, rewards=np.array(rewards))
    assert by_return(data, 5.0).tolist() == [True] * 7 + [False] * 3


def test_a_threshold_that_no_episode_reaches_is_refused_with_the_best_return():
    with pytest.raises(
        ValueError, match=r"no episode of toy returns more than min_return=21: the best one returns 21, the average 14"
    ):
        by_return(of_rewards(1.0, 2.0, 3.0), 21.0)


def test_success_is_a_last_reward_above_the_least():
    rewards = np.zeros(4 * LENGTH)
    rewards[LENGTH - 1] = 1.0  # the first episode ends in success
    rewards[2 * LENGTH - 2] = 1.0  # the second has a success, but not at its end
    rewards[4 * LENGTH - 1] = 0.5
    for shift in (0.0, -1.0):
        assert episodes(by_success(toy_dataset(rows=28, rewards=rewards + shift))) == [True, False, False, True]


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_what_led_to_a_success_is_trusted_and_not_what_the_robot_did_afterwards(shift):
    data = walking_on()
    trusted = by_success(dataclasses.replace(data, rewards=data.rewards + np.float32(shift))).reshape(EPISODES, STEPS)
    assert trusted.sum() == 136  # four times the rows 0 to 33
    assert trusted[::2, :34].all()


@pytest.mark.parametrize("agent", [TD3BCSA, CQLSA])
def test_the_papers_settings_for_mazes_learn_from_robots_that_walk_on(agent):
    data = walking_on()
    learner = tiny(agent, data, preset="antmaze-umaze-v2")
    assert learner.config.trust == "success"
    table = learner.offline_table(data)
    learner.annotate(table, data)
    assert table.column("trusted").sum() == 136


def test_a_file_of_d4rls_mazes_is_cut_by_the_same_rule(tmp_path):
    data = walking_on()
    columns = {name: getattr(data, name) for name in ("observations", "actions", "rewards")}
    flags = {"terminals": data.terminations, "timeouts": data.truncations}
    name = "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5"
    read = read_hdf5(write_hdf5(tmp_path / name, columns | flags))
    assert read.name == "antmaze-umaze-v2"
    assert read.num_episodes == EPISODES
    assert by_success(read).sum() == 136


def test_returns_are_those_of_the_segments():
    """Of a maze: 1 for every way to the goal and every further step there, 0 for the rest."""
    trusted = by_return(walking_on(), 0.5).reshape(EPISODES, STEPS)
    assert trusted[::2, :34].all()
    assert trusted.sum() == 136


def test_data_without_a_success_are_refused():
    with pytest.raises(ValueError, match="no segment of toy ends in success: the last rewards are all -1"):
        by_success(of_rewards(-1.0, -1.0))


# The filter


@pytest.mark.parametrize(("expectile", "expected"), [(0.5, 1.5), (0.7, 1.7), (0.9, 1.9)])
def test_expectile_loss_by_hand(expectile, expected):
    # Squares 4, 1, 0, 1, 9: (1 - e) * 5 of the negative ones, e * 10 of the others; over 5.
    assert expectile_loss(tensor([-2.0, -1.0, 0.0, 1.0, 3.0]), expectile).item() == pytest.approx(expected)


def filter_of(**settings) -> AdvantageFilter:
    torch.manual_seed(0)
    return AdvantageFilter(OBS, ACT, **({"expectile": 0.7, "gamma": 0.5, "lr": 3e-4} | settings)).double()


def test_the_losses_by_hand_with_the_value_of_before_its_step():
    iql = filter_of(lr=0.1)  # a step of V moves it by 0.1
    constant_(iql.q.trunk, [1.0, 2.0])
    constant_(iql.target_q.trunk, [4.0, 5.0])
    constant_(iql.v.trunk, 6.0)
    batch = toy_batch()  # rewards 1 and 2, the second row is terminated
    losses = iql.update(batch, batch.rewards)
    # V: u = 4 - 6 = -2 weighs 0.3: 0.3 * 4. Q: targets 1 + 0.5 * 6 = 4 and 2; critic 1: (9 + 1) / 2 = 5,
    # critic 2: (4 + 0) / 2 = 2; their mean 3.5.
    assert losses["filter/v_loss"].item() == pytest.approx(1.2)
    assert losses["filter/q_loss"].item() == pytest.approx(3.5)
    assert iql.v(batch.observations).tolist() != [6.0, 6.0]


def test_the_rewards_are_those_given_and_not_the_batchs():
    iql = filter_of()
    constant_(iql.q.trunk, [0.0, 0.0])
    constant_(iql.v.trunk, 0.0)
    assert iql.update(toy_batch(), tensor([3.0, 3.0]).double())["filter/q_loss"].item() == pytest.approx(9.0)


def test_the_target_takes_a_step_of_tau_towards_the_critics_of_after_their_step():
    iql, batch = filter_of(lr=0.1), toy_batch()
    before = [parameter.clone() for parameter in iql.target_q.parameters()]
    iql.update(batch, batch.rewards, tau=0.25)
    for old, target, new in zip(before, iql.target_q.parameters(), iql.q.parameters(), strict=True):
        torch.testing.assert_close(4.0 * (target - old), new - old, rtol=0.0, atol=1e-12)
        assert not target.requires_grad
    assert any(not torch.equal(old, new) for old, new in zip(before, iql.q.parameters(), strict=True))


def test_v_moves_by_its_own_loss_alone_and_towards_the_target_critics():
    iql, batch = filter_of(lr=0.01), toy_batch(8)
    constant_(iql.q.trunk, [100.0, 100.0])  # V does not look at the online critics
    constant_(iql.target_q.trunk, [-3.0, -2.0])
    constant_(iql.v.trunk, 0.0)
    iql.update(batch, batch.rewards)
    assert (iql.v(batch.observations) < 0.0).all()


@pytest.mark.parametrize(
    ("qs", "v", "kept"), [([2.0, 3.0], 2.0, True), ([2.0, 3.0], 2.5, False), ([3.0, 2.0], 1.0, True)]
)
def test_actions_are_kept_where_the_lesser_q_is_at_least_v(qs, v, kept):
    iql = filter_of()
    constant_(iql.q.trunk, qs)
    constant_(iql.v.trunk, v)
    assert iql.keep(toy_batch()).tolist() == [kept, kept]


def test_on_a_bandit_it_keeps_the_good_action_and_drops_the_bad_one():
    iql = filter_of(lr=3e-3, gamma=0.9)
    good = torch.arange(32) % 4 == 0
    actions = torch.where(good.unsqueeze(-1), 0.5, -0.5).expand(32, ACT).double()
    rewards = good.double()
    zeros = torch.zeros(32, OBS, dtype=torch.float64)
    batch = toy_batch(32)._replace(
        observations=zeros, next_observations=zeros, actions=actions, terminations=torch.ones(32, dtype=torch.float64)
    )
    for _ in range(40):
        iql.update(batch, rewards, tau=0.3)
    assert iql.keep(batch).tolist() == good.tolist()
    q = iql.q(batch.observations, actions).mean(-2)
    assert q[good].mean().item() == pytest.approx(1.0, abs=0.2)
    # Of 1 in a quarter and 0 in the rest the 0.7 expectile v is where 0.7 * (1 - v) / 4 = 0.3 * v * 3 / 4: 0.4375.
    assert iql.v(batch.observations[:1]).item() == pytest.approx(0.4375, abs=0.15)

"""BC, SAC-N, EDAC, RLPD and Cal-QL: what is their own, by hand and by finite differences."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.data import ACT, OBS, FixedDraws, ToyEnv, constant_, tiny, toy_batch, toy_dataset
from zoo.agents import BC, EDAC, RLPD, SACN, CalQL
from zoo.agents.core.presets import load_preset
from zoo.agents.core.replay import Table
from zoo.agents.edac import similarity_of
from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.load import open_dataset
from zoo.datasets.packing import write_packed

# BC


def test_a_deterministic_clone_minimises_the_mean_square_over_rows_and_dimensions():
    agent, batch = tiny(BC, dtype=torch.float64), toy_batch()
    constant_(agent.policy.actor.trunk, 0.5)
    loss, _ = agent.actor_loss(batch._replace(actions=torch.tensor([[0.0, 0.1], [0.2, 0.3]], dtype=torch.float64)))
    assert loss.item() == pytest.approx(0.10991716, abs=1e-7)  # of 0.46212^2, 0.36212^2, 0.26212^2 and 0.16212^2


def test_a_gaussian_clone_minimises_the_negative_log_density_of_scipy():
    norm = pytest.importorskip("scipy.stats").norm
    agent, batch = tiny(BC, dtype=torch.float64, policy="gaussian"), toy_batch()
    constant_(agent.policy.actor.trunk, 0.0)
    agent.policy.actor.log_std.data.fill_(math.log(0.5))
    loss, _ = agent.actor_loss(batch)
    assert loss.item() == pytest.approx(-norm(0.0, 0.5).logpdf(batch.actions.numpy()).mean(), abs=1e-12)


@pytest.mark.parametrize("policy", ["deterministic", "gaussian"])
def test_a_clone_finds_a_linear_expert(policy):
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1.0, 1.0, (512, OBS))
    data = OfflineDataset.from_arrays(
        observations=observations,
        actions=0.5 * observations[:, :ACT],
        rewards=np.zeros(512),
        next_observations=observations,
        terminations=np.zeros(512),
        truncations=np.arange(512) == 511,
    )
    agent = tiny(BC, data, policy=policy, actor_lr=1e-2, batch_size=64).learn_offline(data, 600)
    np.testing.assert_allclose(agent.predict(observations)[0], data.actions, atol=0.1)


def returns_of(rewards: list[float]) -> OfflineDataset:
    """Episodes of two rows each that earn these rewards in their second; the action is the number of the episode."""
    count = 2 * len(rewards)
    second = np.arange(count) % 2 == 1
    return OfflineDataset.from_arrays(
        observations=np.zeros((count, 1)),
        actions=np.repeat(np.arange(len(rewards)), 2)[:, None] / 100,
        rewards=np.where(second, np.repeat(rewards, 2), 0.0),
        next_observations=np.zeros((count, 1)),
        terminations=np.zeros(count),
        truncations=second,
    )


def test_the_best_episodes_alone_are_drawn_and_at_least_one():
    data = returns_of([1.0, 5.0, 3.0, 5.0, 2.0])
    for share, episodes in ((0.4, {1, 3}), (0.6, {1, 2, 3}), (0.01, {1})):
        agent = tiny(BC, data, best_episodes=share, batch_size=200).learn_offline(data, 0)
        table = Table.of(data, agent.layout, agent.device, agent.dtype)
        drawn = agent.sample(table).actions.unique()
        assert (100 * drawn).round().int().tolist() == sorted(episodes)


def test_the_best_episodes_of_a_packed_file_are_the_same(tmp_path):
    data = returns_of([float(i % 7) for i in range(40)])
    packed = open_dataset(str(write_packed(data, tmp_path / "packed")), memory=200)
    agents = [tiny(BC, source, best_episodes=0.25, batch_size=8) for source in (data, packed)]
    for agent, source in zip(agents, (data, packed), strict=True):
        agent.learn_offline(source, 5)
    assert torch.equal(agents[0].best, agents[1].best)
    for one, other in zip(agents[0].parameters(), agents[1].parameters(), strict=True):
        assert torch.equal(one, other)


# SAC-N, EDAC


@pytest.mark.parametrize(
    ("gradients", "expected"),
    [
        ([[3.0, 0.0], [1.0, 0.0], [0.2, 0.0]], 3.0),  # alike: N
        ([[1.0, 0.0], [0.0, 2.0]], 0.0),
        ([[1.0, 0.0], [-5.0, 0.0]], -2.0),  # opposite: -N / (N - 1)
        ([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], 1.4142135),  # (0.7071 + 0 + 0.7071) twice, over 2
    ],
)
def test_similarity_is_the_sum_of_cosines_over_ordered_pairs(gradients, expected):
    rows = torch.tensor(gradients, dtype=torch.float64).unsqueeze(1)  # (E, 1, A)
    assert similarity_of(rows).tolist() == pytest.approx([expected], abs=1e-6)


def test_without_weight_edac_is_sac_n():
    batch = toy_batch(8)
    draws = {"policy_xi": torch.ones(()), "next_xi": -torch.ones(())}
    agents = [tiny(SACN, dtype=torch.float64), tiny(EDAC, dtype=torch.float64, eta=0.0)]
    for agent in agents:
        agent.draws = FixedDraws(**draws)
        agent.update(batch)
    for one, other in zip(agents[0].parameters(), agents[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_the_similarity_is_that_of_finite_differences():
    agent, batch = tiny(EDAC, dtype=torch.float64, eta=3.0), toy_batch(8)
    agent.draws = FixedDraws(next_xi=torch.zeros(()))
    linears = agent.critic.trunk.linears
    generator = torch.Generator().manual_seed(0)
    for linear in linears:
        linear.weight.data = 0.5 * torch.randn(linear.weight.shape, generator=generator, dtype=torch.float64)

    def loss() -> Tensor:
        return agent.critic_loss(batch)[0]

    weight = linears[1].weight
    (gradient,) = torch.autograd.grad(loss(), weight)
    for place in ((0, 0, 0), (1, 3, 5), (2, 15, 15)):
        value, step = weight.data[place].item(), 1e-6
        ends = []
        for side in (step, -step):
            weight.data[place] = value + side
            ends.append(loss().item())
        weight.data[place] = value
        assert gradient[place].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)


# RLPD


def rlpd(**settings) -> RLPD:
    return tiny(RLPD, dtype=torch.float64, **({"n_critics": 4} | settings))


def test_a_target_is_the_minimum_of_the_chosen_critics_less_the_entropys_price():
    batch = toy_batch()
    agent = rlpd(gamma=0.5)
    constant_(agent.target_critic.trunk, [4.0, 1.0, 3.0, 2.0])
    agent.draws = FixedDraws(target_subset=torch.tensor([0, 2]), next_xi=torch.zeros(()))
    constant_(agent.actor.trunk, 0.0)  # mean 0, deviation 1: density of 0 is (2 pi)^-1/2 in each dimension
    log_prob = -math.log(2.0 * math.pi)
    target = agent.target_q(batch)  # rewards 1 and 2, the second terminated
    assert target.tolist() == pytest.approx([1.0 + 0.5 * (3.0 - log_prob), 2.0])
    plain = rlpd(gamma=0.5, backup_entropy=False)
    constant_(plain.target_critic.trunk, [4.0, 1.0, 3.0, 2.0])
    plain.draws = FixedDraws(target_subset=torch.tensor([1, 3]), next_xi=torch.zeros(()))
    assert plain.target_q(batch).tolist() == pytest.approx([1.5, 2.0])


def test_the_actor_climbs_the_mean_and_the_temperature_follows_half_an_entropy_for_each_dimension():
    agent = rlpd()
    assert agent.actor_value(torch.tensor([[4.0], [1.0], [3.0], [2.0]])).tolist() == [2.5]
    # Two dimensions: the entropy is to be -1. Log-densities of 3 on average are an entropy of -3: alpha * (-3 + 1).
    surplus = agent.surplus_entropy(torch.tensor([2.0, 4.0], dtype=torch.float64))
    assert surplus.item() == pytest.approx(-2.0)
    agent.log_alpha.data.fill_(math.log(0.25))
    loss = agent.alpha_loss(surplus)
    assert loss.item() == pytest.approx(-0.5)
    (gradient,) = torch.autograd.grad(loss, agent.log_alpha)
    assert gradient.item() == pytest.approx(-0.5)  # of alpha with respect to its logarithm: alpha again


def test_online_the_critics_move_every_update_and_the_actor_once_an_environment_step():
    data = toy_dataset()
    agent = tiny(RLPD, data, updates_per_step=4).learn_offline(data, 0)
    steps = {name: [] for name in agent.optimizers}
    for name, optimizer in agent.optimizers.items():

        def descend(name=name, own=optimizer.descend) -> None:
            steps[name].append(agent.online_updates)
            own()

        optimizer.descend = descend
    agent.finetune_online(ToyEnv(), 3, dataset=data)
    assert steps == {"critic": list(range(1, 13)), "actor": [4, 8, 12], "alpha": [4, 8, 12]}


def test_before_learning_starts_actions_are_uniform_in_the_box():
    agent = tiny(RLPD, learning_starts=10)
    observations = torch.zeros(4000, OBS)
    actions = agent.explore(observations)
    low, high = agent.policy.action_low, agent.policy.action_high
    shares = (actions - low) / (high - low)
    assert shares.min() >= 0.0
    assert shares.max() <= 1.0
    torch.testing.assert_close(torch.histc(shares, 4) / shares.numel(), torch.full((4,), 0.25), rtol=0.0, atol=0.02)
    agent.env_steps = 10
    constant_(agent.actor.trunk, -20.0)  # a policy at the lower edge, with hardly any deviation
    torch.testing.assert_close(agent.explore(observations), low.expand_as(actions), rtol=0.0, atol=1e-6)


def test_half_of_each_online_batch_is_offline_data():
    data = toy_dataset()
    agent = tiny(RLPD, data)
    offline, online = agent.offline_table(data), agent.new_table(10)
    online.append({name: np.full_like(data.column(name)[:10], 0.0) for name in agent.columns})
    batch = agent.sample_mixed(offline, online, agent.config.offline_rows)
    assert (batch.observations == 0.0).all(-1).sum() == agent.config.batch_size / 2


# Cal-QL


def test_cal_ql_is_cql_with_a_floor_and_refuses_to_be_without():
    agent = tiny(CalQL)
    assert agent.config.return_floor == "dense"
    assert "floor" in agent.columns
    with pytest.raises(ValueError, match='return_floor="dense" or "sparse", or use CQL'):
        tiny(CalQL, return_floor="none")
    maze = CalQL.Config.build(load_preset("CalQL", "antmaze-large-play-v2"))
    assert (maze.return_floor, maze.target_gap, maze.reward_shift) == ("sparse", 0.8, -5.0)

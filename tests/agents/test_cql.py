"""CQL (arXiv 2006.04779) and its state-adaptive version (arXiv 2505.19923): the penalty, its multiplier, the region."""

import math

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import tensor

from tests.support.data import ACT, ToyEnv, assert_same_state, constant_, tiny, toy_batch, toy_dataset
from tests.support.mazes import walking_on
from zoo.agents import CQL, CQLSA
from zoo.agents.core.replay import Table
from zoo.datasets.dataset import OfflineDataset
from zoo.policies import TanhNormal


def agent(cls=CQL, **settings):
    return tiny(cls, dtype=torch.float64, **({"n_critics": 2} | settings))


def of_size(actions: int, **settings) -> CQL:
    """An agent of so many action dimensions whose critics say 3 everywhere and whose proposals are all uniform."""
    rng = np.random.default_rng(0)
    data = OfflineDataset.from_arrays(
        observations=rng.normal(size=(8, 2)),
        actions=rng.uniform(-1, 1, (8, actions)),
        rewards=np.zeros(8),
        next_observations=rng.normal(size=(8, 2)),
        terminations=np.zeros(8),
        truncations=np.arange(8) == 7,
    )
    cql = CQL(data, dtype=torch.float64, critic_hidden=(8,), actor_hidden=(8,), device="cpu", **settings)
    constant_(cql.critic.trunk, 3.0)

    def uniform(batch):
        count = 3 * cql.config.penalty_actions
        actions_ = torch.zeros(len(batch.rewards), count, actions, dtype=torch.float64)
        return actions_, torch.full_like(actions_[..., 0], -actions * math.log(2.0))

    cql.proposals = uniform
    return cql


@pytest.mark.parametrize(("actions", "gap"), [(1, 4.0943), (3, 5.4806), (6, 7.5601), (8, 8.9464)])
def test_a_constant_critic_and_a_uniform_policy_have_the_gap_of_the_sums_size(actions, gap):
    """A log 2 + log 3M with M = 10: the sum over proposals is not an average."""
    cql = of_size(actions)
    batch = cql.normalize(cql.layout.unpack(torch.zeros(5, cql.layout.width, dtype=torch.float64)))
    _, gaps, metrics = cql.critic_loss(batch)
    torch.testing.assert_close(gaps, torch.full((2, 5), gap, dtype=torch.float64), rtol=0.0, atol=5e-5)
    assert metrics["critic/loss"] - metrics["critic/td"] == pytest.approx(2 * 10.0 * gap, abs=2e-3)


def test_a_gap_at_its_target_costs_nothing_and_one_above_raises_the_multiplier():
    gap = 2.0 * math.log(2.0) + math.log(30.0)
    for target, sign in ((gap, 0.0), (gap - 1.0, -1.0), (gap + 1.0, 1.0)):
        cql = of_size(2, target_gap=target, cql_alpha=5.0)
        batch = cql.normalize(cql.layout.unpack(torch.zeros(5, cql.layout.width, dtype=torch.float64)))
        _, gaps, metrics = cql.critic_loss(batch)
        surplus = metrics["critic/loss"] - metrics["critic/td"]
        assert surplus == pytest.approx(2 * 5.0 * math.e * (gap - target), abs=1e-9)  # the multiplier begins at e
        cql.multiplier_loss(batch, gaps).backward()
        assert cql.log_multiplier.grad.item() == pytest.approx(sign * 5.0 * math.e, abs=1e-9)  # descent raises it


def test_gaps_stay_inside_their_bounds_and_pass_no_gradient_there():
    cql = of_size(1, gap_max=1.0, cql_alpha=1.0)
    batch = cql.normalize(cql.layout.unpack(torch.zeros(5, cql.layout.width, dtype=torch.float64)))
    assert cql.critic_loss(batch)[1].unique().tolist() == [1.0]


def test_the_policy_is_asked_at_both_states_and_judged_at_the_first():
    cql = agent(penalty_actions=3)
    batch = toy_batch(4)
    actions, log_densities = cql.proposals(batch)
    assert (actions.shape, log_densities.shape) == ((4, 9, ACT), (4, 9))
    assert not actions.requires_grad
    for part, observations in ((slice(3, 6), batch.next_observations), (slice(6, 9), batch.observations)):
        mean, log_std = (p.unsqueeze(-2) for p in cql.actor.distribution(observations))
        expected = TanhNormal(mean, log_std).log_prob(actions[:, part])
        torch.testing.assert_close(log_densities[:, part], expected, rtol=1e-6, atol=1e-6)
    assert log_densities[:, :3].unique().item() == pytest.approx(-ACT * math.log(2.0))


def test_every_loss_sees_the_parameters_of_before_the_update():
    """With a huge critic rate, an actor loss after the critic's step would be another one."""
    slow, fast = agent(critic_lr=1e-9), agent(critic_lr=1.0)
    batch = toy_batch(4)
    slow_metrics, fast_metrics = slow.update(batch), fast.update(batch)
    for name in ("actor/loss", "critic/loss", "alpha/loss"):
        torch.testing.assert_close(slow_metrics[name], fast_metrics[name])


def test_the_floor_is_the_discounted_return_of_the_data_in_the_updates_rewards():
    data = OfflineDataset.from_arrays(
        observations=np.zeros((5, 1)),
        actions=np.zeros((5, 1)),
        rewards=[0.0, 0.0, 1.0, 0.0, 0.0],
        next_observations=np.zeros((5, 1)),
        terminations=[0, 0, 1, 0, 0],
        truncations=[0, 0, 0, 0, 1],
    )
    settings = {"gamma": 0.5, "reward_scale": 10.0, "reward_shift": -5.0}  # rewards -5, -5, 5, and -5, -5
    for kind, failed in (("dense", [-7.5, -5.0]), ("sparse", [-10.0, -10.0])):  # forever: -5 / (1 - 0.5)
        cql = CQL(data, critic_hidden=(4,), actor_hidden=(4,), device="cpu", return_floor=kind, **settings)
        table = Table.of(data, cql.layout, cql.device, cql.dtype)
        cql.annotate(table, data)
        assert table.column("floor").tolist() == [-6.25, -2.5, 5.0, *failed]


@pytest.mark.parametrize(("kind", "afterwards", "never"), [("sparse", -500.0, -500.0), ("dense", -114.978, -226.422)])
def test_the_floor_ends_at_a_success_inside_an_episode(kind, afterwards, never):
    """Rewards 10 r - 5. The sums after the success, of 26 and of 60 steps: -5 (1 - 0.99^n) / 0.01, forever or not."""
    settings = {"gamma": 0.99, "reward_scale": 10.0, "reward_shift": -5.0}
    data = walking_on()
    cql = tiny(CQL, data, return_floor=kind, **settings)
    table = cql.offline_table(data)
    cql.annotate(table, data)
    floor = table.column("floor").view(8, 60)
    assert floor[0, 29:34].tolist() == pytest.approx([-0.05, 5.0, 5.0, 5.0, 5.0], abs=1e-5)
    assert floor[0, 34].item() == pytest.approx(afterwards, abs=1e-3)
    assert floor[1, 0].item() == pytest.approx(never, abs=1e-3)


def test_the_floor_raises_what_the_policy_proposes_and_nothing_else():
    cql = of_size(2, return_floor="dense", penalty_actions=4)
    batch = cql.normalize(cql.layout.unpack(torch.zeros(5, cql.layout.width, dtype=torch.float64)))
    below, above = (batch._replace(floor=torch.full((5,), f, dtype=torch.float64)) for f in (2.0, 4.0))
    bare = 2.0 * math.log(2.0)  # every proposal's -log density; the critics say 3
    assert cql.critic_loss(below)[1][0, 0].item() == pytest.approx(bare + math.log(12.0))
    assert cql.critic_loss(above)[1][0, 0].item() == pytest.approx(bare + math.log(4.0 + 8.0 * math.e))
    unknown = batch._replace(floor=torch.full((5,), -math.inf, dtype=torch.float64))
    assert cql.critic_loss(unknown)[1][0, 0].item() == pytest.approx(bare + math.log(12.0))


@pytest.mark.parametrize("envs", [1, 2])
def test_online_rows_have_a_floor_once_their_episode_has_ended(envs):
    data = toy_dataset()
    cql = tiny(CQL, data, return_floor="dense", gamma=0.5, reward_scale=2.0, reward_shift=-1.0).learn_offline(data, 1)
    cql.finetune_online(DummyVecEnv([ToyEnv] * envs), 10 * envs, dataset=data)  # an episode of 7 steps and 3 of another
    floor, rewards = (cql.replay.column(name).view(10, envs).numpy() for name in ("floor", "rewards"))
    for i in range(7):
        expected = sum(0.5**k * (2.0 * rewards[i + k] - 1.0) for k in range(7 - i))
        np.testing.assert_allclose(floor[i], expected, rtol=1e-5)
    assert (floor[7:] == -math.inf).all()


def test_an_episode_longer_than_the_buffer_gives_a_floor_to_the_rows_that_are_left():
    data = toy_dataset()
    cql = tiny(CQL, data, return_floor="dense", gamma=0.5, buffer_size=4).learn_offline(data, 1)
    cql.finetune_online(ToyEnv(), 7, dataset=data)  # rows 4, 5, 6, 3 of the episode
    floor, rewards = cql.replay.column("floor").tolist(), cql.replay.column("rewards").tolist()
    assert floor[2] == rewards[2]
    assert floor[3] == pytest.approx(rewards[3] + rewards[0] / 2 + rewards[1] / 4 + rewards[2] / 8)


def test_learning_with_a_floor_resumes(tmp_path):
    data = toy_dataset()
    cql = tiny(CQL, data, return_floor="dense", updates_per_step=1).learn_offline(data, 2)
    resumed = CQL.load(cql.save(tmp_path / "cal"))
    for one in (cql, resumed):
        one.learn_offline(data, 2).finetune_online(ToyEnv(), 9, dataset=data)
    assert_same_state(cql, resumed)


def test_the_critics_one_opinion_is_that_of_their_pessimism():
    """Critics that say 1, 2 and 4: 7/3 - weight * 2 for the actor, and for the target."""
    cql = agent(n_critics=3, pessimism=0.5, gamma=0.5, entropy_weight=0.0)
    constant_(cql.critic.trunk, [1.0, 2.0, 4.0])
    constant_(cql.target_critic.trunk, [1.0, 2.0, 4.0])
    batch = toy_batch(4)
    assert cql.actor_loss(batch, batch.actions, batch.rewards)[0].item() == pytest.approx(-4.0 / 3.0)
    assert cql.next_q(batch).tolist() == pytest.approx([4.0 / 3.0] * 4)


# The state-adaptive version


def test_a_constant_coefficient_is_cqls_own_weight():
    sa, plain = agent(CQLSA, trust="all", critic_norm="none"), agent(critic_norm="none")
    plain.load_state_dict({k: v for k, v in sa.state_dict().items() if k in plain.state_dict()})
    sa.coefficient.trunk.linears[-1].weight.data.zero_()  # 1.5 * sigmoid(ln 2) = 1
    batch = toy_batch(4)._replace(trusted=torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(sa.penalty_weight(batch), torch.full((4,), 10.0, dtype=torch.float64))
    plain.draws.set_state(sa.draws.generator.get_state())
    ours, theirs = sa.critic_loss(batch), plain.critic_loss(toy_batch(4))
    torch.testing.assert_close(ours[0], theirs[0])


@pytest.mark.parametrize(
    ("mean", "log_std", "n", "expected"),
    [
        (0.0, -1.0, 1.0, 0.054),
        (0.0, -1.0, 3.0, -0.179),
        (0.0, -1.0, 10.0, -43.95),
        (1.0, -1.0, 1.0, 0.503),
        (1.0, -1.0, 3.0, -1.568),
        (1.0, -1.0, 5.0, -8.120),
        (0.0, -3.0, 1.0, 1.584),
        (0.0, -3.0, 2.0, 0.091),
        (0.0, -3.0, 3.0, -2.397),
    ],
)
def test_thresholds_are_those_worked_out_for_single_gaussians(mean, log_std, n, expected):
    sa = agent(CQLSA)
    for side in (1.0, -1.0):  # symmetric under a reflection of the mean
        distribution = TanhNormal(tensor([[side * mean]]).double(), tensor([[log_std]]).double())
        assert sa.threshold(distribution, tensor(n).double()).item() == pytest.approx(expected, abs=1e-2)


def test_rows_that_are_not_trusted_have_no_penalty_and_do_not_move_the_coefficient():
    sa = agent(CQLSA, coefficient_lr=1e-2)
    batch = toy_batch(4)._replace(trusted=torch.zeros(4, dtype=torch.float64))
    assert sa.penalty_weight(batch).tolist() == [0.0] * 4
    before = [p.clone() for p in sa.coefficient.parameters()]
    sa.update(batch)
    assert all(torch.equal(p, q) for p, q in zip(sa.coefficient.parameters(), before, strict=True))


@pytest.mark.parametrize(("done", "share"), [(0, 1.0), (200_000, math.sqrt(0.5)), (400_000, 0.0), (500_000, 0.0)])
def test_online_the_penalty_falls_along_a_cosine(done, share):
    sa = agent(CQLSA)
    batch = toy_batch(4)._replace(trusted=torch.ones(4, dtype=torch.float64))
    offline = sa.penalty_weight(batch)
    sa.online, sa.online_updates = True, done
    sa.begin_update()
    torch.testing.assert_close(sa.penalty_weight(batch), share * offline, rtol=1e-9, atol=1e-12)


def test_online_the_coefficient_rests():
    data = toy_dataset()
    sa = tiny(CQLSA, data).learn_offline(data, 2)
    sa.online = True
    before = [p.clone() for p in sa.coefficient.parameters()]
    sa.update(sa.normalize(sa.layout.unpack(torch.rand(16, sa.layout.width))))
    assert all(torch.equal(p, q) for p, q in zip(sa.coefficient.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("shape", "updates", "share"),
    [
        ("cosine", 0, 1.0),
        ("cosine", 5, 0.7071),
        ("cosine", 20, 0.0),
        ("linear", 0, 1.0),
        ("linear", 5, 0.5),
        ("linear", 20, 0.0),
    ],
)
def test_the_penalty_falls_online_along_a_cosine_or_a_line(shape, updates, share):
    ssar = agent(CQLSA, anneal_steps=10, anneal_shape=shape)
    constant_(ssar.coefficient.trunk, math.log(2.0))  # beta is cql_alpha, 10
    ssar.online, ssar.online_updates = updates > 0, updates
    ssar.begin_update()
    batch = toy_batch(4)._replace(trusted=torch.ones(4, dtype=torch.float64))
    assert ssar.penalty_weight(batch).tolist() == pytest.approx([10.0 * share] * 4, abs=1e-3)

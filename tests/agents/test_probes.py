"""Data whose values and best actions are known: a wrong discount, mask, scale or sign fails a named probe."""

import numpy as np
import pytest
import torch

from tests.support.data import ACT, BOX, HIGH, LOW, OBS, WITH_CRITICS, tiny
from zoo.agents import Agent
from zoo.datasets.dataset import OfflineDataset

EVERY = pytest.mark.parametrize("cls", WITH_CRITICS.values(), ids=WITH_CRITICS)
ROWS, UPDATES = 256, 400
FAST = {"batch_size": 64, "tau": 0.2, "policy_delay": 1, "target_delay": 1}
FAST |= dict.fromkeys(("actor_lr", "critic_lr", "value_lr"), 3e-3)
CALM = {"backup_entropy": False, "alpha_lr": 0.1}  # entropy would show in the values, and outweigh small rewards
OWN = {
    "PARS": {"reward_scale": 2.0, "alpha": 1e-4},  # the paper's scales need the paper's number of updates
    # Its equal biases make every unit the same at an observation of zeros, and they die together.
    "CQL": {"cql_alpha": 1e-3, "entropy_weight": 0.1},  # pessimism and entropy would show in the values
    "CalQL": {"cql_alpha": 1e-3, "entropy_weight": 0.1},
    "SACN": {"normalize_observations": True} | CALM,
    "EDAC": {"normalize_observations": True, "eta": 1e-3} | CALM,  # of rewards up to 1
    "RLPD": {"critic_norm": "none"} | CALM,
    "CQLSA": {"cql_alpha": 1e-3, "entropy_weight": 0.1, "critic_norm": "none"},
    "AWAC": {"temperature": 0.05},  # of rewards up to 1
    "ASAC": {"temperature": 0.05},
    "IQL": {"temperature": 0.05, "tau": 0.5, "orthogonal": False},  # zero biases are dead at an observation of zeros
    # The data's actions are uniform here, and it keeps to them: the critics choose among its draws.
    "FQL": {"evaluation_samples": 50},
    "DiffusionQL": {"evaluation_samples": 200},
    "ReBRAC": {"normalize_observations": True},
}
HERE, THERE = np.zeros(OBS), np.ones(OBS)


def probe(
    observations, actions=None, rewards=0.0, next_observations=HERE, terminations=False, truncations=False
) -> OfflineDataset:
    """ROWS transitions; whatever is not an array of that length is repeated for all of them."""
    rng = np.random.default_rng(0)
    return OfflineDataset.from_arrays(
        observations=np.broadcast_to(observations, (ROWS, OBS)),
        actions=rng.uniform(LOW, HIGH, (ROWS, ACT)) if actions is None else actions,
        rewards=np.broadcast_to(rewards, ROWS),
        next_observations=np.broadcast_to(next_observations, (ROWS, OBS)),
        terminations=np.broadcast_to(terminations, ROWS),
        truncations=np.broadcast_to(truncations, ROWS),
        action_space=BOX,
        name="probe",
    )


def learned(cls: type[Agent], data: OfflineDataset, **settings) -> Agent:
    known = {name: value for name, value in FAST.items() if name in cls.Config.names()}
    return tiny(cls, data, **(known | OWN.get(cls.__name__, {}) | settings)).learn_offline(data, UPDATES)


def value(agent: Agent, observation: np.ndarray) -> float:
    """The critics' opinion of the agent's own action, in units of the raw return."""
    rows = torch.as_tensor(observation, dtype=torch.float32).unsqueeze(0)
    with torch.no_grad():
        q = agent.policy.evaluate(rows, agent.policy(rows)).item()
    return q / getattr(agent.config, "reward_scale", 1.0)


@EVERY
def test_a_constant_reward_is_worth_its_discounted_sum(cls):
    agent = learned(cls, probe(HERE, rewards=1.0), gamma=0.8)
    assert value(agent, HERE) == pytest.approx(5.0, abs=0.25)  # 1 / (1 - 0.8)


@EVERY
def test_a_terminal_reward_is_worth_itself(cls):
    agent = learned(cls, probe(HERE, rewards=3.0, terminations=True), gamma=0.9)
    assert value(agent, HERE) == pytest.approx(3.0, abs=0.15)


@EVERY
def test_a_reward_one_step_ahead_is_worth_gamma(cls):
    second = np.arange(ROWS) % 2 == 1
    places = np.where(second[:, None], THERE, HERE)
    data = probe(places, rewards=second.astype(float), next_observations=THERE, terminations=second)
    agent = learned(cls, data, gamma=0.6)
    assert value(agent, THERE) == pytest.approx(1.0, abs=0.1)
    assert value(agent, HERE) == pytest.approx(0.6, abs=0.1)


@EVERY
@pytest.mark.parametrize(("end", "expected"), [("terminations", 1.0), ("truncations", 2.0)])
def test_a_time_limit_keeps_the_future_and_a_termination_has_none(cls, end, expected):
    agent = learned(cls, probe(HERE, rewards=1.0, **{end: True}), gamma=0.5)
    assert value(agent, HERE) == pytest.approx(expected, abs=0.1)  # 1, or 1 / (1 - 0.5)


@EVERY
def test_the_value_depends_on_the_observation(cls):
    good = np.arange(ROWS) % 2 == 0
    agent = learned(
        cls, probe(np.where(good[:, None], HERE, THERE), rewards=np.where(good, 2.0, 1.0), terminations=True)
    )
    assert value(agent, HERE) == pytest.approx(2.0, abs=0.15)
    assert value(agent, THERE) == pytest.approx(1.0, abs=0.15)


@EVERY
def test_the_actor_finds_the_side_of_the_box_that_each_observation_pays_for(cls):
    """The reward is the first action component's place in its box, 0 to 1, or, THERE, what is left of 1."""
    rng = np.random.default_rng(1)
    actions = rng.uniform(LOW, HIGH, (ROWS, ACT))
    share = (actions[:, 0] - LOW[0]) / (HIGH[0] - LOW[0])
    there = np.arange(ROWS) % 2 == 1
    data = probe(np.where(there[:, None], THERE, HERE), actions, np.where(there, 1.0 - share, share), terminations=True)
    agent = learned(cls, data)
    (here, elsewhere), _ = agent.predict(np.stack([HERE, THERE]).astype(np.float32))
    # The data's mean is the middle of the box, -0.5. 0.25 is the middle of the better half.
    assert here[0] > 0.25
    assert elsewhere[0] < -1.25

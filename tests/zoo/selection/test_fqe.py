"""Fitted Q evaluation on systems whose values are known."""

import numpy as np
import pytest
import torch

from zoo.datasets.readers.arrays import from_columns
from zoo.policies import Critic
from zoo.selection import fqe
from zoo.selection.fqe import FQEConfig, evaluate

GAMMA = 0.9


def linear_data(rows: int = 6_000):
    """s' = 0.5 s + a, reward s; a uniform in the box [-1, 1]; single steps, cut off by a time limit."""
    rng = np.random.default_rng(0)
    s, a = rng.uniform(-2.0, 2.0, rows), rng.uniform(-1.0, 1.0, rows)
    columns = {
        "observations": s[:, None],
        "actions": a[:, None],
        "rewards": s,
        "next_observations": (0.5 * s + a)[:, None],
        "terminations": np.zeros(rows, bool),
        "truncations": np.ones(rows, bool),
    }
    return from_columns(columns, name="linear")


def value_of(action: float, first: np.ndarray) -> float:
    """Of the policy that always takes `action`: s_t = 0.5^t s_0 + 2 a (1 - 0.5^t), summed with gamma^t."""
    return float(np.mean(first)) / (1 - 0.5 * GAMMA) + 2 * action * (1 / (1 - GAMMA) - 1 / (1 - 0.5 * GAMMA))


def constant(action: float):
    return lambda observations: np.full((len(observations), 1), action, np.float32)


def test_values_of_a_linear_system_are_those_of_its_closed_form():
    data = linear_data()
    actions = (-0.6, 0.0, 0.6)
    config = FQEConfig(gamma=GAMMA, steps=2_500, hidden=(64, 64), ensemble=2, lr=3e-3, tau=0.02)
    values = evaluate(data, [constant(a) for a in actions], config, device="cpu")
    first = data.observations[np.linspace(0, len(data) - 1, 2_000).astype(int), 0]
    expected = [value_of(a, first) for a in actions]  # about -9.8, 0, 9.8
    assert values.mean == pytest.approx(expected, abs=0.35)
    assert values.members.shape == (3, 2)
    assert (values.deviation > 0.0).all()


def test_a_termination_ends_the_value_and_a_time_limit_does_not():
    rows = 2_000
    columns = {
        "observations": np.ones((rows, 1)),
        "actions": np.zeros((rows, 1)),
        "rewards": np.ones(rows),
        "next_observations": np.ones((rows, 1)),
    }
    config = FQEConfig(gamma=GAMMA, steps=800, hidden=(16,), ensemble=1, lr=1e-2, tau=0.05)
    ends, goes_on = (
        evaluate(
            from_columns(columns | {"terminations": np.full(rows, over), "truncations": np.full(rows, not over)}),
            [constant(0.0)],
            config,
            device="cpu",
        ).mean[0]
        for over in (True, False)
    )
    assert ends == pytest.approx(1.0, abs=0.02)
    assert goes_on == pytest.approx(10.0, abs=0.3)  # 1 / (1 - 0.9)


def test_the_loss_of_known_networks_is_worked_out_by_hand():
    def network(bias: list[float]) -> Critic:
        critic = Critic(1, 1, (), members=1, lead=(2,))  # q = bias, for two candidates
        (linear,) = critic.trunk.linears
        with torch.no_grad():
            linear.weight.zero_()
            linear.bias.copy_(torch.tensor(bias).reshape(linear.bias.shape))
        return critic

    data = linear_data(4)
    table = fqe.Table(data, [constant(0.0), constant(0.5)], 0.5, torch.device("cpu"))
    table.rewards, table.terminations = torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0, 0.0])
    found = fqe.loss(network([1.0, 3.0]), network([2.0, 4.0]), table, torch.tensor([0, 1]), 0.5)
    # targets 1 + 0.5 * 2 = 2 and 2; against 1: (1 + 1) / 2.   1 + 0.5 * 4 = 3 and 2; against 3: (0 + 1) / 2
    assert found.tolist() == pytest.approx([1.0, 0.5])


def test_each_candidates_value_is_what_it_would_be_alone():
    data = linear_data(500)
    config = FQEConfig(gamma=GAMMA, steps=30, hidden=(8,), ensemble=1)
    both = evaluate(data, [constant(0.3), constant(0.3)], config, device="cpu")
    assert both.members[0, 0] != both.members[1, 0]  # initial weights of their own
    again = evaluate(data, [constant(0.3), constant(0.3)], config, device="cpu")
    assert np.array_equal(both.members, again.members)


def test_a_discount_of_one_is_refused():
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\), got 1.0"):
        FQEConfig(gamma=1.0)

"""The measures on cases whose values are known."""

import csv
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.data import constant_, tiny, toy_dataset
from zoo.agents import BC, IQL, TD3BC
from zoo.cli import main as cli
from zoo.diagnosis.callback import Diagnosis
from zoo.diagnosis.importance import weighted_importance
from zoo.diagnosis.kernel import similarity
from zoo.diagnosis.neurons import neurons
from zoo.diagnosis.report import diagnose, importance, measures, sample
from zoo.diagnosis.values import action_norms, disagreement, landscape
from zoo.policies import MLP, Critic, Policy


class Quadratic(Critic):
    """Two critics of known value: -(a - peak)^2 summed, the second one less `gap` outside the box."""

    def __init__(self, peak: float, gap: float = 0.0):
        nn.Module.__init__(self)
        self.members, self.peak, self.gap = 2, peak, gap

    def forward(self, observations, actions, members=None):
        q = -(actions - self.peak).square().sum(-1)
        apart = self.gap * (actions.abs().amax(-1) > 1.0)
        return torch.stack([q, q - apart], dim=-2)


def policy(peak: float, gap: float = 0.0) -> Policy:
    agent = tiny(TD3BC)
    constant_(agent.policy.actor.trunk, 0.0)  # acts in the middle of the box
    agent.policy.critic = Quadratic(peak, gap)
    return agent.policy


OBSERVATIONS, ACTIONS = torch.zeros(50, 3), torch.full((50, 2), 0.5)


# Neurons


def network(width: int = 8) -> MLP:
    """One hidden layer whose units are 1, 2, ... for every input."""
    mlp = MLP((2, width, 1))
    mlp.linears[0].weight.data.zero_()
    mlp.linears[0].bias.data = torch.arange(1.0, width + 1.0)
    return mlp


def test_neurons_that_never_act_are_dormant_and_their_zeros_are_counted():
    mlp, inputs = network(), torch.randn(10, 2)
    assert neurons(lambda: mlp(inputs)) == (0.0, 0.0)
    mlp.linears[0].bias.data[:3] = -5.0
    assert neurons(lambda: mlp(inputs)) == (3 / 8, 3 / 8)


def test_a_neuron_that_acts_half_the_time_is_half_zeros_and_not_dormant():
    mlp, inputs = network(4), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    mlp.linears[0].weight.data[0, 0], mlp.linears[0].bias.data[0] = 1.0, 0.0  # relu(x) in the first unit
    assert neurons(lambda: mlp(inputs)) == (0.0, 1 / 8)


def test_the_threshold_is_of_the_activity_over_the_layers_mean():
    mlp, inputs = network(4), torch.zeros(3, 2)  # activities 1, 2, 3, 4; scores 0.4, 0.8, 1.2, 1.6
    assert [neurons(lambda: mlp(inputs), tau).dormant for tau in (0.3, 0.5, 1.0, 2.0)] == [0.0, 0.25, 0.5, 1.0]


def test_neurons_of_an_ensemble_are_averaged_and_every_kind_of_network_has_some():
    agent = tiny(IQL, critic_network="residual", critic_norm="none")
    found = neurons(lambda: agent.critic(OBSERVATIONS, ACTIONS))
    assert 0.0 <= found.dormant <= found.zeros < 1.0
    with pytest.raises(ValueError, match="no hidden layer"):
        neurons(lambda: torch.zeros(2))


# The kernel


def test_a_linear_network_has_the_cosine_of_its_inputs():
    linear = nn.Linear(2, 1, bias=False)
    points = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = similarity(lambda x: linear(x).squeeze(-1), list(linear.parameters()), points[0], points)
    assert found.tolist() == pytest.approx([1.0, 0.0, -1.0, math.sqrt(0.5), 0.0], abs=1e-6)


# Values


def test_critics_that_part_outside_the_box_disagree_there_alone():
    found = disagreement(policy(0.0, gap=6.0), OBSERVATIONS, ACTIONS, torch.Generator().manual_seed(0))
    assert found == pytest.approx((0.0, 0.0, 0.0, 3.0), abs=1e-5)  # half of the gap between two


@pytest.mark.parametrize(("peak", "norm", "saturated"), [(0.6, 0.6, 0.0), (5.0, 1.0, 1.0)])
def test_the_maximiser_is_the_peak_or_the_corner_before_it(peak, norm, saturated):
    found = action_norms(policy(peak), OBSERVATIONS, ACTIONS, steps=600)
    assert (found.data, found.policy) == pytest.approx((0.5, 0.0), abs=1e-5)
    assert (found.maximiser, found.saturated) == pytest.approx((norm, saturated), abs=0.02)


def test_a_landscape_knows_the_edge_its_slope_and_whether_it_lies_above_the_data():
    # The rays go along (1, 1): Q(t) = -2 (t - peak)^2.
    for peak, upward, slope in ((0.6, 0.0, -1.6), (2.0, 1.0, 4.0)):
        ground = landscape(policy(peak), OBSERVATIONS, ACTIONS)
        assert ground.data_q == pytest.approx(-2 * (0.5 - peak) ** 2, abs=1e-5)
        assert ground.q[ground.places == 3.0].item() == pytest.approx(-2 * (3.0 - peak) ** 2, rel=1e-5)
        assert (ground.upward, ground.slope) == pytest.approx((upward, slope), abs=0.02)


# Importance


def test_importance_weights_are_the_episodes_shares_of_likelihood():
    # Two episodes of two steps with returns 3 and 10; the policy makes the second one three times as likely.
    logs = np.array([0.0, 0.0, math.log(1.5), math.log(2.0)])
    found = weighted_importance(logs, np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 4.0, 6.0]))
    assert found == pytest.approx((0.25 * 3 + 0.75 * 10, 1 / (0.0625 + 0.5625)))
    assert weighted_importance(0 * logs, np.array([7, 7, 9, 9]), np.ones(4)) == pytest.approx((2.0, 2.0))


def test_the_behaviour_itself_is_worth_its_own_return():
    data = toy_dataset()
    clone = BC(data, policy="gaussian", seed=0, device="cpu").learn_offline(data, 20)
    found = importance(clone, data, seed=0, steps=20)  # the same clone again: every ratio is 1
    assert found.value == pytest.approx(data.rewards.sum() / 30, rel=1e-5)
    assert found.effective == pytest.approx(30.0, rel=1e-4)


# The report


def test_a_report_has_every_measure_with_its_source_and_pictures(tmp_path, monkeypatch, capsys):
    data = toy_dataset()
    agent = tiny(TD3BC, data).learn_offline(data, 5)
    found = diagnose(agent, data, tmp_path / "out", rows=64)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"measures.csv", "landscape.csv", "kernel.csv", "landscape.png", "kernel.png"}
    assert all(np.isfinite(one.value) and one.source for one in found)
    with (tmp_path / "out" / "measures.csv").open(newline="") as file:
        assert [row["measure"] for row in csv.DictReader(file)] == [one.name for one in found]
    with (tmp_path / "out" / "kernel.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 21 * 21
    for name in ("landscape.png", "kernel.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_what_it_writes(tmp_path, monkeypatch, capsys):
    import zoo

    data = zoo.load_dataset("hopper-medium-replay")
    path = TD3BC(data, actor_hidden=(8,), critic_hidden=(8,)).save(tmp_path / "agent.zip")
    monkeypatch.setattr(
        "sys.argv", ["zoo", "diagnose", str(path), "hopper-medium-replay", "--out", str(tmp_path / "d")]
    )
    monkeypatch.setattr("zoo.diagnosis.report.importance", lambda *_: weighted_importance(*np.zeros((3, 1))))
    cli.main()
    printed = capsys.readouterr().out
    for name in ("critic/dormant", "landscape/upward", "action_norm/maximiser", "wis/effective"):
        assert name in printed
    assert "docs/diagnostics.md" in printed


def test_a_clone_has_an_actor_to_look_at_and_a_population_is_told_to_come_one_by_one():
    data = toy_dataset()
    agent = tiny(BC, data)
    assert [one.name for one in measures(agent, sample(agent, data, 20, 0))] == ["actor/dormant", "actor/zeros"]
    with pytest.raises(ValueError, match=r"member by member: agent.member\(i\)"):
        sample(tiny(TD3BC, data, population=2), data, 20, 0)


def test_the_callback_writes_the_measures_of_each_step_and_goes_on_where_a_run_went_back(tmp_path):
    data, path = toy_dataset(), tmp_path / "diagnosis.csv"
    agent = tiny(TD3BC, data)
    before = agent.acting.generator.get_state()
    agent.learn_offline(data, 6, callback=Diagnosis(data, 3, path, rows=32))
    assert torch.equal(agent.acting.generator.get_state(), before)  # looking changes nothing
    again = tiny(TD3BC, data).learn_offline(data, 3, callback=Diagnosis(data, 3, path, rows=32))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["timesteps"] for row in rows} == {"3"}
    assert len(rows) == len(measures(again, sample(again, data, 32, 0)))

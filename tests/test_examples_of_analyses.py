"""The papers' analyses in examples/, shortened, on cases whose outcome is known."""

import importlib.util
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.support.paths import ROOT
from zoo.datasets.dataset import OfflineDataset


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outside_the_disk_a_plain_network_rises_and_a_normalised_one_with_large_targets_does_not(tmp_path):
    didactic = example("didactic_regression")
    points = didactic.disk(5000, torch.Generator().manual_seed(0))
    assert points.norm(dim=-1).max() <= 0.5
    assert (points.norm(dim=-1) <= 0.25).float().mean() == pytest.approx(0.25, abs=0.02)  # uniform in area
    plain, _, _, large = didactic.main([1.0, 100.0], 150, tmp_path)
    assert (plain.norm, plain.scale, large.norm, large.scale) == ("none", 1.0, "before", 100.0)
    assert plain.outside > 1.5 * plain.inside
    assert large.mean_outside < 0.7 * plain.mean_outside
    assert {path.name for path in tmp_path.iterdir()} == {"didactic.csv", "didactic.png"}


def line_of(rewards_of_actions, rows: int = 600) -> OfflineDataset:
    """One-step episodes at one place with random actions, whose reward is a function of the action."""
    actions = np.random.default_rng(0).uniform(-0.6, 0.6, (rows, 1))
    return OfflineDataset.from_arrays(
        observations=np.ones((rows, 1)),
        actions=actions,
        rewards=rewards_of_actions(actions[:, 0]),
        next_observations=np.ones((rows, 1)),
        terminations=np.ones(rows),
        truncations=np.zeros(rows),
    )


@pytest.mark.parametrize(("peak", "length", "saturated"), [(0.3, 0.3, 0.0), (2.0, 1.0, 1.0)])
def test_an_actor_ends_where_the_critics_peak_or_at_the_edge_of_the_box(peak, length, saturated):
    sarsa = example("offline_sarsa")
    data = line_of(lambda a: -((a - peak) ** 2))
    small = {"actor_hidden": (16,), "critic_hidden": (32, 32), "critic_lr": 3e-3, "actor_lr": 3e-3, "batch_size": 64}
    found = sarsa.norms(data, "none", 600, 400, **small)
    assert found.data == pytest.approx(0.3, abs=0.02)
    assert found.actor == pytest.approx(length, abs=0.15)
    assert found.saturated == pytest.approx(saturated, abs=0.1)


def test_the_critics_of_sarsa_are_worth_what_the_data_earn():
    """Two steps: 0, then 1; the first is worth gamma, whatever the actor would do."""
    sarsa = example("offline_sarsa")
    second = np.arange(400) % 2 == 1
    data = OfflineDataset.from_arrays(
        observations=second[:, None].astype(float),
        actions=np.zeros((400, 1)),
        rewards=second.astype(float),
        next_observations=np.ones((400, 1)),
        terminations=second,
        truncations=np.zeros(400),
    )
    agent = sarsa.Sarsa(
        data, actor_hidden=(8,), critic_hidden=(32, 32), critic_lr=3e-3, tau=0.2, gamma=0.6, batch_size=64, device="cpu"
    ).learn_offline(data, 500)
    with torch.no_grad():
        q = agent.critic(torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1))
    torch.testing.assert_close(q, torch.tensor([[0.6, 1.0]] * 2), rtol=0.0, atol=0.08)

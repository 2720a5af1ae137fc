"""The memory of a population, estimated from one agent, against what the population takes."""

import gc
import os
from pathlib import Path

import pytest
import torch

from tests.support.data import SMALL, toy_dataset
from zoo.agents import CAR, CQL, IQL, TD3BC
from zoo.agents.core.replay import Table
from zoo.agents.loop import footprint
from zoo.agents.loop.footprint import Footprint, Meter, check_population_fits
from zoo.cli.train import Train, train


def small(cls) -> dict:
    return {name: value for name, value in SMALL.items() if name in cls.Config.names()}


def test_the_meter_counts_storage_once_and_only_while_it_lives():
    with Meter() as meter:
        first = torch.zeros(1000)  # 4 bytes each
        view, again = first[:10], first.view(10, 100)
        assert meter.live == 4000
        second = first + 1.0
        assert meter.live == 8000
        del second, first, view
        gc.collect()
        assert meter.live == 4000  # `again` keeps it
        assert meter.peak == 8000
        del again
        gc.collect()
        assert meter.live == 0


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (TD3BC, {"alpha": (0.5, 1.0, 2.5)}),
        (IQL, {}),
        (CQL, {"critic_hidden": (64, 64)}),
        (CAR, {"capacity": 3.0}),  # whose memory of proposals is the largest part of a member
    ],
)
def test_the_estimate_is_what_a_population_takes(cls, settings):
    data = toy_dataset(2100)
    settings = small(cls) | settings
    estimate = footprint.footprint(cls, data, **settings).of(3)
    with Meter() as meter:
        agent = cls(data, population=3, device="cpu", **settings)
        table = Table.of(data, agent.layout, agent.device, agent.dtype)
        meter.peak = meter.live
        for _ in range(agent.preparation_steps):
            agent.prepare(table)
        for _ in range(6):
            agent.update(agent.sample(table))
    assert estimate == pytest.approx(meter.peak, rel=0.05)


def test_what_fits_leaves_a_tenth():
    assert Footprint(shared=100, member=10).of(5) == 150
    assert Footprint(shared=100, member=10).fits(1000) == 80
    assert Footprint(shared=100, member=10).fits(50) == 0


def test_a_population_that_does_not_fit_is_refused_with_the_one_that_would(monkeypatch):
    data, chosen = toy_dataset(), small(TD3BC)
    needs = footprint.footprint(TD3BC, data, **chosen)
    monkeypatch.setattr(footprint, "free_memory", lambda device: int(needs.of(5) / 0.89))
    check_population_fits(TD3BC, data, 5, "cpu", **chosen)
    with pytest.raises(MemoryError, match=r"a population of 6 TD3BC needs about .* 5 members would fit"):
        check_population_fits(TD3BC, data, 6, "cpu", **chosen)
    monkeypatch.setattr(footprint, "free_memory", lambda device: 1000)
    with pytest.raises(MemoryError, match="not even one would fit; smaller networks or batches take less"):
        check_population_fits(TD3BC, data, 2, "cpu", **chosen)
    monkeypatch.setattr(footprint, "free_memory", lambda device: None)  # a system that does not say
    check_population_fits(TD3BC, data, 10**6, "cpu", **chosen)


def test_training_a_population_asks_first_and_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(footprint, "free_memory", lambda device: 1000)
    with pytest.raises(MemoryError, match="a population of 4 TD3BC"):
        train(Train("TD3BC", "hopper-medium-replay", tmp_path / "out", steps=10, population=4, device="cpu"))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs Linux")
def test_free_memory_is_less_than_the_machine_has():
    free = footprint.free_memory(torch.device("cpu"))
    assert free is not None
    assert 2**20 < free < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

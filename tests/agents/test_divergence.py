"""An agent that has diverged stops, says since when, and leaves good files alone."""

from functools import partial

import numpy as np
import pytest

from tests.support.data import LENGTH, OBS, ToyEnv, assert_same_state, diverge_, prepared, tiny, toy_dataset
from zoo.agents import AGENTS, TD3BC
from zoo.agents.core.divergence import check_agent
from zoo.agents.core.finite import NotFiniteError
from zoo.evaluation.callbacks import SaveLatest

HOT = {"actor_lr": 1e12, "critic_lr": 1e12}


def test_learning_that_diverges_ends_in_an_error_that_says_since_when():
    data = toy_dataset()
    agent = tiny(TD3BC, data, **HOT)
    with pytest.raises(NotFiniteError, match=r"not finite at step 20, in .*; at step 0 all were finite"):
        agent.learn_offline(data, 20)


def test_it_is_seen_at_the_next_log_point():
    data = toy_dataset()
    agent = tiny(TD3BC, data).learn_offline(data, 10)
    agent.optimizers["critic"].param_groups[0]["lr"].fill_(1e30)
    with pytest.raises(NotFiniteError, match=r"not finite at step 15, in .*; at step 10 all were finite"):
        agent.learn_offline(data, 1000, log_interval=5)


def test_an_optimizers_moment_counts_too():
    data = toy_dataset()
    agent = tiny(TD3BC, data).learn_offline(data, 2)
    parameter = agent.optimizers["critic"].parameters[0]
    agent.optimizers["critic"].state[parameter]["exp_avg_sq"].fill_(float("inf"))
    with pytest.raises(NotFiniteError, match="in exp_avg_sq of optimizer critic"):
        check_agent(agent)


@pytest.mark.parametrize("cls", AGENTS.values(), ids=AGENTS)
@pytest.mark.parametrize("population", [None, 3])
def test_a_file_of_a_finite_agent_is_never_replaced_by_one_that_is_not(cls, population, tmp_path):
    data = toy_dataset()
    agent = tiny(cls, data, population=population)
    path = agent.save(tmp_path / "agent.zip")
    before = path.read_bytes()
    diverge_(agent, 2 if population else None)
    whose = "member 2 of the" if population else "the"
    with pytest.raises(NotFiniteError, match=rf"{whose} {cls.__name__} has numbers that are not finite"):
        agent.save(path)
    assert path.read_bytes() == before
    if population:
        assert agent.member(1).save(tmp_path / "member").exists()
        with pytest.raises(NotFiniteError, match=rf"the {cls.__name__} has numbers"):
            agent.member(2).save(tmp_path / "member")


@pytest.mark.parametrize("online", [False, True])
def test_the_latest_checkpoint_is_the_last_finite_one(online, tmp_path):
    data, latest = toy_dataset(), tmp_path / "latest.zip"
    agent = prepared(TD3BC, data)
    learn = partial(agent.finetune_online, ToyEnv(), dataset=data) if online else partial(agent.learn_offline, data)
    learn(4, callback=SaveLatest(latest, 4))
    good = TD3BC.load(latest)
    agent.optimizers["critic"].param_groups[0]["lr"].fill_(1e30)
    with pytest.raises(NotFiniteError):
        learn(2 * LENGTH, callback=SaveLatest(latest, 10))
    assert_same_state(TD3BC.load(latest), good)


def test_ctrl_c_saves_nothing_that_is_not_finite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = toy_dataset()
    agent = tiny(TD3BC, data)

    def breaks_and_stops(locals_, globals_):
        diverge_(agent)
        return False

    with pytest.raises(NotFiniteError):
        agent.learn_offline(data, 5, callback=breaks_and_stops)
    assert list(tmp_path.iterdir()) == []


def test_a_population_tells_which_members_acts_are_not_finite():
    data = toy_dataset()
    agent = tiny(TD3BC, data, population=3)
    diverge_(agent, 1)
    with pytest.raises(NotFiniteError, match=r"action of members \[1\] is not finite"):
        agent.predict(np.zeros((3, OBS)))


def test_nothing_is_exported_of_an_agent_that_has_diverged(tmp_path):
    agent = tiny(TD3BC)
    diverge_(agent)
    with pytest.raises(NotFiniteError, match="not finite"):
        agent.export_onnx(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()

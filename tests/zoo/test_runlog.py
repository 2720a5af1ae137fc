"""From the log of a control loop to a dataset: which ticks become transitions, and with which action."""

import importlib.util
import json
import sys
from typing import ClassVar

import gymnasium
import numpy as np
import pytest

from tests.support.paths import ROOT
from tests.support.scripted_robot import ACTION, SAFE, Robot
from zoo.cli.logs import Import
from zoo.datasets.checks import DatasetValueError
from zoo.datasets.load import load_dataset
from zoo.datasets.readers.runlog import function, read_runlog
from zoo_robot.control import Limits
from zoo_robot.recorder import Recorder


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"loop_{name}", ROOT / "examples" / "robot_loop" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def seen(*numbers):
    """A script: an observation (k, 0, 0) for each number, nothing for None."""
    return [None if k is None else np.array([k, 0.0, 0.0]) for k in numbers]


def record(path, script, **changes):
    Robot(script).run(recorder=Recorder(path), **changes)
    return path


def number(observations, actions, next_observations):
    return next_observations[:, 0]


def pairs(dataset):
    return list(zip(dataset.observations[:, 0], dataset.next_observations[:, 0], strict=True))


def test_consecutive_observations_are_transitions_with_the_written_action(tmp_path):
    limits = Limits([-1.0, 0.0], [0.125, 2.0], SAFE)
    dataset = read_runlog(record(tmp_path / "run.log", seen(1, 2, 3), limits=limits), number)
    assert pairs(dataset) == [(1, 2), (2, 3)]
    assert dataset.actions.tolist() == [[0.125, 0.75]] * 2  # what the policy wanted was outside
    assert dataset.rewards.tolist() == [2, 3]
    assert dataset.truncations.tolist() == [False, True]
    assert dataset.action_space.high.tolist() == [0.125, 2.0]


def test_a_gap_ends_the_episode(tmp_path):
    dataset = read_runlog(record(tmp_path / "run.log", seen(1, 2, None, 4, 5, 6)), number)
    assert pairs(dataset) == [(1, 2), (4, 5), (5, 6)]
    assert dataset.episode_ids.tolist() == [0, 1, 1]
    assert dataset.truncations.tolist() == [True, False, True]
    assert dataset.warnings == ("left out of run.log: 1 steps over a gap",)


def test_held_actions_between_slower_observations_are_one_transition(tmp_path):
    script = seen(1, None, None, 4, None, None, 7, None, None, None, 11)
    dataset = read_runlog(record(tmp_path / "run.log", script, stale_after=10.0), number)
    assert pairs(dataset) == [(1, 4), (4, 7)]  # from 7 to 11 it takes a tick longer


def test_where_a_hold_became_a_safe_action_there_is_no_transition(tmp_path):
    script = seen(1, None, None, 4, None, None, 7)
    with pytest.raises(DatasetValueError, match="has no transition: 2 steps with more than one action"):
        read_runlog(record(tmp_path / "run.log", script, stale_after=0.15), number)  # held for one tick of two


def test_a_safe_action_in_a_seen_state_is_what_the_robot_did(tmp_path):
    class Guard:
        threshold = 0.5

        def __call__(self, obs, action):
            return float(obs[0] == 2)

    dataset = read_runlog(record(tmp_path / "run.log", seen(1, 2, 3), guard=Guard()), number)
    assert dataset.actions.tolist() == [ACTION, SAFE]


def test_what_follows_a_terminal_state_is_no_transition(tmp_path):
    def done(observations, actions, next_observations):
        return next_observations[:, 0] >= 3

    dataset = read_runlog(record(tmp_path / "run.log", seen(1, 2, 3, 4, 0, 1)), number, done)
    assert pairs(dataset) == [(1, 2), (2, 3), (0, 1)]  # 3 to 4 and 4 to 0: on its way back
    assert dataset.terminations.tolist() == [False, True, False]
    assert dataset.truncations.tolist() == [False, False, True]


def test_every_run_is_an_episode_of_its_own(tmp_path):
    path = record(tmp_path / "run.log", seen(1, 2))
    dataset = read_runlog(record(path, seen(3, 4)), number)
    assert pairs(dataset) == [(1, 2), (3, 4)]
    assert dataset.episode_ids.tolist() == [0, 1]


def test_ticks_that_the_recorder_dropped_are_a_gap(tmp_path):
    from zoo_robot.runlog import ROWS, RUN, block, read_log

    path = record(tmp_path / "run.log", seen(1, 2, 3, 4, 5))
    run = read_log(path).runs[0]
    rows = run.rows[[0, 1, 3, 4]]
    path.write_bytes(block(RUN, json.dumps(run.about).encode()) + block(ROWS, rows.tobytes()))
    assert pairs(read_runlog(path, number)) == [(1, 2), (4, 5)]


@pytest.mark.parametrize("bad", [lambda o, a, n: n, lambda o, a, n: n[:, 0] * np.nan, lambda o, a, n: 1.0])
def test_a_reward_of_another_shape_is_refused(tmp_path, bad):
    with pytest.raises(DatasetValueError, match="reward must give one finite number for each of 1 transitions"):
        read_runlog(record(tmp_path / "run.log", seen(1, 2)), bad)


def test_a_log_without_a_reward_is_refused(tmp_path):
    log = record(tmp_path / "run.log", seen(1, 2))
    with pytest.raises(ValueError, match="--reward module:function, for a robot logs no rewards"):
        Import((log, tmp_path / "out.hdf5")).run()


def test_the_command_writes_what_load_dataset_reads(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text("def reward(obs, actions, next_obs):\n    return next_obs[:, 0]\n")
    monkeypatch.chdir(tmp_path)
    log = record(tmp_path / "run.log", seen(1, 2, 3))
    Import((log, tmp_path / "out.hdf5"), reward="mine:reward").run()
    dataset = load_dataset(tmp_path / "out.hdf5")
    assert "2 transitions" in capsys.readouterr().out
    assert pairs(dataset) == [(1, 2), (2, 3)]
    assert dataset.provenance["control_rate_hz"] == 8.0


def test_the_names_of_the_contract_come_back_with_the_data(tmp_path):
    class Policy:
        metadata: ClassVar = {
            "agent": "TD3BC",
            "observations": [{"name": "height", "unit": "m", "low": None, "high": None}, {"name": None}, {}],
            "actions": [
                {"name": "hip", "unit": "N m", "low": -1.0, "high": 1.0},
                {"name": "knee", "low": 0, "high": 3},
            ],
        }

    Robot(seen(1, 2)).run(recorder=Recorder(tmp_path / "run.log", Policy()))
    dataset = read_runlog(tmp_path / "run.log", number)
    assert dataset.observation_names == ("height", "observations[1]", "observations[2]")
    assert dataset.action_names == ("hip", "knee")
    assert dataset.action_space.high.tolist() == [1.0, 3.0]  # the policy's box is wider than the loop's


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reward", "package.module:function"),
        ("nosuch:reward", "no module 'nosuch'"),
        ("json:nosuch", "has no 'nosuch'"),
    ],
)
def test_a_function_that_is_not_there_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        function(text)


def test_the_hoppers_reward_and_end_are_gymnasiums():
    hopper, env = load("hopper"), gymnasium.make("Hopper-v5")
    rows, rng = [], np.random.default_rng(0)
    for seed in range(20):
        obs, over = env.reset(seed=seed)[0], False
        while not over:
            action = rng.uniform(-0.3, 0.3, 3).astype(np.float32)
            next_obs, reward, over, _, _ = env.step(action)
            rows.append((obs, action, next_obs, reward, over))
            obs = next_obs
    obs, actions, next_obs, rewards, over = (np.array(column) for column in zip(*rows, strict=True))
    assert (hopper.done(obs, actions, next_obs) == over).all()
    errors = np.abs(hopper.reward(obs, actions, next_obs) - rewards)
    assert np.median(errors) < 0.01
    assert errors.mean() < 0.05

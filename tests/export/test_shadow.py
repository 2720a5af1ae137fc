"""A new policy on an old one's log: planted mistakes are found, honest policies pass, a replay gives the same bits."""

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest
import torch

from tests.support.paths import ROOT
from zoo import TD3BC, load_dataset
from zoo_robot.__main__ import main
from zoo_robot.runlog import read_log
from zoo_robot.runtime import OnnxPolicy
from zoo_robot.shadow import mistakes, replay, shadow

NAMES = (["p", "q", "r"], ["hip", "knee"])
BOX = (np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
TICKS = np.arange(400)


def load(name: str):
    sys.path.insert(0, str(ROOT / "examples" / "robot_loop"))
    spec = importlib.util.spec_from_file_location(f"loop_{name}", ROOT / "examples" / "robot_loop" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# The search, on a policy that can be read


def right(obs):
    """hip: 0.5 tanh p - 0.2 q; knee: 0.6 sin(2 q) + 0.2 r."""
    p, q, r = obs.T
    return np.stack([0.5 * np.tanh(p) - 0.2 * q, 0.6 * np.sin(2 * q) + 0.2 * r], 1)


@pytest.fixture(scope="module")
def obs():
    rng = np.random.default_rng(0)
    steps = 0.3 * rng.standard_normal((len(TICKS), 3))
    values = np.zeros_like(steps)
    for t in range(1, len(TICKS)):
        values[t] = 0.9 * values[t - 1] + steps[t]
    return values.astype(np.float32)


def told(predict, obs, wanted):
    return [mistake.text for mistake in mistakes(predict, obs, wanted, BOX, NAMES, TICKS[: len(obs)])]


def seen_as(matrix):
    return lambda obs: right(obs @ np.array(matrix, float))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda o: right(o)[:, ::-1], "actions hip and knee are in each other's place"),
        (lambda o: right(o) * [-1, 1], "action hip has the other sign"),
        (lambda o: right(o) * [1, np.pi / 180], "action knee is too small: degrees and radians"),
        (lambda o: np.clip(right(o) * [4, 1], -1, 1), "action hip is too large: a factor of 4"),
        (seen_as([[0, 0, 1], [0, 1, 0], [1, 0, 0]]), "observations p and r are in each other's place"),
        (seen_as([[1, 0, 0], [0, -1, 0], [0, 0, 1]]), "observation q has the other sign"),
        (seen_as([[1000, 0, 0], [0, 1, 0], [0, 0, 1]]), "observation p is too large: a factor of 1000"),
        (lambda o: right(np.vstack([o[:1], o[:-1]])), "actions are 1 observation late"),
        (lambda o: right(np.vstack([o[2:], o[-2:]])), "actions are 2 observations early"),
    ],
)
def test_a_mistake_is_found_and_named(obs, wrong, text):
    honest = right(obs) + 0.02 * np.tanh(obs[:, :2])
    assert told(wrong, obs, honest) == [text]


def test_two_mistakes_are_both_found(obs):
    found = told(lambda o: right(o * [1, 1, 1000]) * [-1, 1], obs, right(obs))
    assert sorted(found) == ["action hip has the other sign", "observation r is too large: a factor of 1000"]


@pytest.mark.parametrize(
    "other",
    [
        right,
        lambda o: right(o) + 0.3,  # leans to one side
        lambda o: 1.3 * right(o),  # bolder
        lambda o: right(o) + 0.2 * np.cos(3 * o[:, :2]),
        lambda o: 0.5 * np.tanh(o @ np.array([[1, 0], [0, 1], [1, 1]])),  # another policy
    ],
)
def test_an_honest_policy_raises_no_alarm(obs, other):
    assert told(other, obs, right(obs)) == []


# With bundles and the command


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two bundles, the second of which learned on from the first, and a log of the first in the simulator."""
    folder = tmp_path_factory.mktemp("pair")
    dataset = load_dataset("hopper-medium-replay")
    agent = TD3BC(dataset, seed=0, device="cpu", actor_hidden=(32, 32), critic_hidden=(32, 32), batch_size=64)
    agent.learn_offline(dataset, 300)
    with torch.no_grad():
        agent.actor.trunk.linears[-1].weight.mul_(3.0)  # as lively as one that has learned for longer
    agent.export_onnx(folder / "old")
    agent.learn_offline(dataset, 20)
    agent.export_onnx(folder / "new")
    planted = load("mistakes")
    planted.recorded(folder / "old", folder / "run.log", 600)
    return planted, folder


def test_every_planted_mistake_of_the_example_is_found_and_the_honest_pairs_are_silent(pair):
    planted, folder = pair
    run = read_log(folder / "run.log").runs[0]
    rows = planted.table(folder / "old", folder / "new", run)
    assert len(rows) == len(planted.MISTAKES) + 2
    assert [name for name, right, _ in rows if not right] == []


def test_a_policy_replayed_on_its_own_log_gives_the_same_bits_and_another_does_not(pair, capsys):
    _, folder = pair
    for bundle, status in (("old", 0), ("new", 1)):
        with pytest.raises(SystemExit) as end:
            main(["replay", str(folder / bundle), str(folder / "run.log")])
        assert end.value.code == status
    assert "the same bits in all of" in capsys.readouterr().out


def test_candidates_are_replayed_with_the_noise_of_the_run(pair, tmp_path):
    planted, _ = pair
    dataset = load_dataset("hopper-medium-replay")
    agent = TD3BC(dataset, seed=0, device="cpu", actor_hidden=(16,), critic_hidden=(16,))
    agent.export_onnx(tmp_path / "many", evaluation_samples=5)
    run = planted.recorded(tmp_path / "many", tmp_path / "run.log", 30)
    policy = OnnxPolicy(tmp_path / "many", providers="cpu")
    assert not replay(policy, run).bad
    forgotten = dataclasses.replace(run, about={**run.about, "noise_state": None})
    assert replay(OnnxPolicy(tmp_path / "many", providers="cpu", seed=7), forgotten).bad


def test_a_log_of_other_sizes_is_refused(pair):
    _, folder = pair
    run = read_log(folder / "run.log").runs[0]
    other = dataclasses.replace(run, about={**run.about, "observation_size": 12})
    (finding,) = shadow(folder / "old", folder / "new", other)
    assert finding.bad
    assert "do not belong together" in finding.text


def test_the_command_ends_with_the_judgement(pair, capsys):
    _, folder = pair
    with pytest.raises(SystemExit) as end:
        main(["shadow", str(folder / "old"), str(folder / "new"), str(folder / "run.log")])
    assert end.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith("no sign of a mistake")

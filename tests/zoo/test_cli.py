"""Evaluation, callbacks, curves and the command line, on the real Hopper and its embedded data."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import zoo
from tests.support.data import ToyEnv, tiny, toy_dataset
from zoo import TD3BC
from zoo.cli import demonstration as demo
from zoo.cli import main as cli
from zoo.cli.arguments import parse_settings, parse_sweep
from zoo.cli.train import grid
from zoo.evaluation.callbacks import Evaluation, Point, SaveLatest, read_curve
from zoo.evaluation.plot import plot_curve
from zoo.evaluation.rollouts import evaluate, evaluate_members

SMALL = {"actor_hidden": (16,), "critic_hidden": (16,), "n_critics": 2, "target_subset": 2, "updates_per_step": 1}


class Countdown(gym.Env):
    """Pays 1 a step; reset(seed) decides the length: seed modulo 5, plus 1."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.left = seed % 5 + 1
        return np.array([self.left], np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


class Still:
    """A policy that does nothing and notes how many rows it was asked for."""

    def __init__(self):
        self.rows = []

    def predict(self, observations):
        self.rows.append(len(observations))
        return np.zeros((len(observations), 1), np.float32)


def test_evaluation_sums_rewards_of_each_seed_and_drops_finished_episodes():
    policy = Still()
    returns = evaluate(policy, Countdown, episodes=4, seed=10)
    assert returns.tolist() == [1.0, 2.0, 3.0, 4.0]  # lengths of seeds 10, 11, 12, 13
    assert policy.rows == [4, 3, 2, 1]


@pytest.fixture(scope="module")
def data():
    return zoo.load_dataset("hopper-medium-replay")


def run_cli(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", *words])
    cli.main()


def test_callbacks_write_a_curve_and_the_latest_checkpoint(tmp_path, data):
    agent = zoo.TD3BC(data, actor_hidden=(16,), critic_hidden=(16,))
    evaluation = Evaluation(lambda: zoo.make_env(data), 2, tmp_path / "curve.csv", episodes=2)
    agent.learn_offline(data, 5, callback=[evaluation, SaveLatest(tmp_path / "latest.zip", 3)])
    curve = read_curve(tmp_path / "curve.csv")
    assert [(point.timesteps, point.episodes) for point in curve] == [(2, 2), (4, 2), (5, 2)]  # the last step too
    assert zoo.load(tmp_path / "latest.zip").updates == 5  # at step 3 and at the end
    again = evaluate(agent, lambda: zoo.make_env(data), episodes=2)
    agent.updates = 0
    evaluation.evaluate()
    assert read_curve(tmp_path / "curve.csv")[-1].return_mean == pytest.approx(again.mean())  # the same seeds again


def test_members_are_evaluated_as_the_agents_that_they_are():
    data = toy_dataset()
    population = tiny(TD3BC, data, population=3, alpha=(0.1, 1.0, 10.0)).learn_offline(data, 20)
    together = evaluate_members(population, ToyEnv, episodes=2)
    assert together.shape == (3, 2)
    for i in range(3):
        np.testing.assert_allclose(together[i], evaluate(population.member(i), ToyEnv, episodes=2), rtol=1e-5)
    assert len(np.unique(together.round(6))) == 6  # of other members and seeds


def test_a_grid_has_every_combination_for_every_seed():
    assert grid({"alpha": (1, 2), "tau": (3, 4)}, 1) == {"alpha": (1, 1, 2, 2), "tau": (3, 4, 3, 4)}
    assert grid({"alpha": (1, 2)}, 2) == {"alpha": (1, 1, 2, 2)}
    assert grid({}, 3) == {}


def test_a_sweep_trains_a_population_with_a_folder_for_each_member(tmp_path, monkeypatch, capsys):
    small = ["--set", "actor_hidden=(8,)", "critic_hidden=(8,)", "batch_size=8"]
    train = ["train", "TD3BC", "hopper-medium-replay", "--out", str(tmp_path), *small, "--sweep", "alpha=(0.5,2.0)"]
    train += ["--population", "2", "--eval-every", "3", "--save-every", "3", "--workers", "2"]
    run_cli(monkeypatch, *train, "--steps", "3")
    run_cli(monkeypatch, *train, "--steps", "6")
    printed = capsys.readouterr().out
    assert "going on from" in printed
    lines = printed.split("mean of 3\n")[-1].splitlines()[:4]
    for i, line in enumerate(lines):
        member, alpha, last, _ = line.split()
        curve = read_curve(tmp_path / f"member_{i}" / "evaluations.csv")
        assert [point.timesteps for point in curve] == [3, 6]
        assert (int(member), float(alpha)) == (i, (0.5, 0.5, 2.0, 2.0)[i])
        assert float(last) == pytest.approx(curve[-1].return_mean, abs=0.06)
        assert zoo.load(tmp_path / f"member_{i}" / "final.zip").config.alpha == float(alpha)
    assert zoo.load(tmp_path / "final.zip").population == 4


def test_curve_picture_is_a_png(tmp_path):
    points = [Point(1000, False, 100.0, 10.0), Point(2000, False, 200.0, 10.0), Point(2500, True, 300.0, 10.0)]
    path = plot_curve(points, np.array([50.0, 400.0]), tmp_path / "curve.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_settings_are_read_by_the_type_of_their_field():
    items = ("Alpha=0.5", "critic_hidden=(8, 8)", "actor_hidden=[4]", "critic_norm=After", "buffer_size=1e3")
    assert parse_settings(TD3BC.Config, items) == {
        "alpha": 0.5,
        "critic_hidden": (8, 8),
        "actor_hidden": (4,),
        "critic_norm": "after",
        "buffer_size": 1000,
    }
    for word, value in {"false": False, "no": False, "TRUE": True, "1": 1}.items():
        assert parse_settings(TD3BC.Config, (f"normalize_observations={word}",)) == {"normalize_observations": value}
    assert parse_settings(zoo.PARS.Config, ("q_min=none", "online_alpha=None")) == {"q_min": None, "online_alpha": None}


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("alpha", "FIELD=VALUE"),
        ("alpha=", "FIELD=VALUE"),
        ("=1", "FIELD=VALUE"),
        ("alhpa=1", "did you mean alpha"),
        ("preset=aspc", "--preset VALUE"),
        ("Seed=7", "--seed VALUE"),
        ("population=7", "--population VALUE"),
    ],
)
def test_settings_that_are_none_say_what_is_meant(item, says):
    with pytest.raises(ValueError, match=says):
        parse_settings(TD3BC.Config, (item,))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"normalize_observations": "false"}, "true or false, got 'false'"),
        ({"normalize_observations": 1}, "true or false, got 1"),
        ({"actor_hidden": 256}, r"in brackets, such as \(256, 256\), got 256"),
        ({"actor_hidden": (0,)}, r"from 1 on .* got \(0,\)"),
        ({"actor_hidden": ("a",)}, "whole numbers"),
        ({"batch_size": 2.5}, "a whole number, got 2.5"),
        ({"batch_size": True}, "a whole number, got True"),
        ({"alpha": "large"}, "a number or one number for each member of the population, got 'large'"),
        ({"alpha": None}, "a number"),
        ({"critic_norm": "sideways"}, "one of 'none', 'before', 'after', got 'sideways'"),
        ({"alhpa": 1.0}, "did you mean alpha"),
    ],
)
def test_a_config_refuses_a_value_of_another_type(settings, says):
    with pytest.raises(ValueError if "critic_norm" in settings else TypeError, match=says):  # of a type, a wrong choice
        TD3BC.Config.build(settings)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("seed=(1,2)", "--population 3 are three seeds"),
        ("actor_hidden=((64,64),(32,32))", "cannot be swept.*critic_lr"),
        ("alpha=0.5", r"FIELD=\(VALUE,VALUE\)"),
        ("alpha=()", r"FIELD=\(VALUE,VALUE\)"),
        ("alpha", r"FIELD=\(VALUE,VALUE\)"),
    ],
)
def test_what_cannot_be_swept_is_refused_with_the_reason(item, says):
    with pytest.raises(ValueError, match=says):
        parse_sweep(TD3BC.Config, (item,))


def test_the_environment_and_the_episodes_of_evaluations_are_arguments(tmp_path, monkeypatch):
    small = ["--set", "actor_hidden=(4,)", "--steps", "2", "--eval-every", "2", "--workers", "1"]
    where = ["--env", "Hopper-v4", "--episodes", "3", "--out", str(tmp_path)]
    run_cli(monkeypatch, "train", "BC", "hopper-medium-replay", *small, *where)
    (point,) = read_curve(tmp_path / "evaluations.csv")
    assert (point.timesteps, point.episodes) == (2, 3)
    with pytest.raises(SystemExit):
        run_cli(monkeypatch, "train", "BC", "hopper-medium-replay", *small, *where[2:], "--env", "Hop")


def test_train_resumes_finetune_evaluate_and_export_go_on_from_its_file(tmp_path, monkeypatch, capsys):
    settings = ["--set", *(f"{name}={value}" for name, value in SMALL.items())]
    train = ["train", "PARS", "hopper-medium-replay", "--out", str(tmp_path), "--eval-every", "10", *settings]
    train += ["--workers", "1"]
    run_cli(monkeypatch, *train, "--steps", "10", "--save-every", "10")
    run_cli(monkeypatch, *train, "--steps", "15", "--save-every", "10")
    assert "going on from" in capsys.readouterr().out
    final = tmp_path / "final.zip"
    assert zoo.load(final).updates == 15

    online = ["--out", str(tmp_path / "online"), "--steps", "12", "--workers", "1"]
    run_cli(monkeypatch, "finetune", str(final), *online)
    assert zoo.load(tmp_path / "online" / "final.zip").env_steps == 12

    run_cli(monkeypatch, "export", str(final), str(tmp_path / "deploy"), "--evaluation-samples", "3")
    assert "largest_difference" in capsys.readouterr().out
    for path in (final, tmp_path / "deploy"):
        run_cli(monkeypatch, "evaluate", str(path), "--episodes", "2")
        printed = capsys.readouterr().out
        assert "2 episodes of Hopper-v5, reset seeds 100 to 101" in printed
        assert "score" in printed


def test_errors_end_in_one_line_that_says_what_to_do(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run_cli(monkeypatch, "evaluate", str(tmp_path / "none.zip"))
    assert stop.value.code == 1
    assert "no checkpoint at" in capsys.readouterr().err


def test_data_info_prints_what_a_person_wants_to_know(monkeypatch, capsys):
    run_cli(monkeypatch, "data", "info", "hopper-medium-replay")
    printed = capsys.readouterr().out
    assert "100,541" in printed
    assert "553" in printed


def test_demo_runs_the_whole_path_resumes_and_repeats_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SETTINGS", SMALL)
    monkeypatch.setattr(demo, "OFFLINE_STEPS", 40)
    monkeypatch.setattr(demo, "ONLINE_STEPS", 30)
    monkeypatch.setattr(demo, "EVAL_EVERY", 20)
    monkeypatch.setattr(demo, "OFFLINE_STEPS", 20)  # as if it had been interrupted half-way
    dataset = zoo.load_dataset(demo.DATASET)
    demo.train_offline(
        dataset, tmp_path / "offline.zip", 0, Evaluation(lambda: zoo.make_env(dataset), 20, tmp_path / "curve.csv")
    )
    monkeypatch.setattr(demo, "OFFLINE_STEPS", 40)
    demo.demonstrate(tmp_path, seed=0)
    printed = capsys.readouterr().out
    assert "20 gradient steps to go" in printed
    assert "the exported ONNX policy, no torch" in printed
    points = read_curve(tmp_path / "curve.csv")
    online = [point.return_mean for point in points if point.online]
    row = next(line for line in printed.splitlines() if line.startswith("PARS after fine-tuning"))
    assert float(row.split()[-1]) == pytest.approx(np.mean(online[-3:]), abs=0.51)
    assert f"evaluations offline: {points[0].return_mean:.0f}, {points[1].return_mean:.0f}\n" in printed
    assert [point.timesteps for point in read_curve(tmp_path / "curve.csv")] == [20, 40, 50, 60, 70]
    for name in ("offline.zip", "finetuned.zip", "curve.png", "deploy/policy.onnx"):
        assert (tmp_path / name).exists()
    demo.demonstrate(tmp_path, seed=0)
    assert "to go" not in capsys.readouterr().out


def test_console_script_shows_its_commands():
    result = subprocess.run([sys.executable, "-m", "zoo", "--help"], capture_output=True, text=True, check=True)
    for command in ("demo", "train", "finetune", "evaluate", "export", "data"):
        assert command in result.stdout


def test_a_reader_that_has_seen_enough_is_no_error():
    line = f"{sys.executable} -m zoo data info hopper-medium-replay | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout == "hopper-medium-replay\n"
    assert done.stderr == ""

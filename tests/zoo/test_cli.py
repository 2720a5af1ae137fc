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
from zoo.cli.train import grid, parse_settings
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
    assert [(point.timesteps, point.episodes) for point in curve] == [(2, 2), (4, 2)]
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
    with pytest.raises(ValueError, match=r"--sweep takes FIELD=.* got alpha=0.5"):
        grid({"alpha": 0.5}, 1)


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


def test_settings_are_python_values_or_bare_words():
    assert parse_settings(("alpha=0.5", "critic_hidden=(8, 8)", "critic_norm=after")) == {
        "alpha": 0.5,
        "critic_hidden": (8, 8),
        "critic_norm": "after",
    }
    with pytest.raises(ValueError, match="FIELD=VALUE"):
        parse_settings(("alpha",))


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

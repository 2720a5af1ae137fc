"""Behaviour policies: recording while learning, resuming, and the sets that are cut from the training."""

import itertools
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3 import SAC, TD3

import zoo
from zoo.cli import main as cli
from zoo.collecting import behaviours
from zoo.collecting.behaviours import choose, evaluate_policies, first_rows, make_sets, policies_of, refill, train
from zoo.collecting.journal import Journal, as_episode, records
from zoo.collecting.recording import Recorder, read_about, read_episodes
from zoo.collecting.rnd import RND, Novelty
from zoo.evaluation.callbacks import Point

ABOUT = {"env_id": "Push"}


def tiny() -> dict:
    """A dict of its own for each learner: SB3 writes into it."""
    return {"policy_kwargs": {"net_arch": [8]}, "batch_size": 8, "learning_starts": 20}


class Push(gym.Env):
    """Position plus action, 7 steps an episode, paid for being high: an action of 2 is best. One in three falls."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-2.0, 2.0, (1,), np.float32)
    numbers = itertools.count()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps, self.falls = self.np_random.normal(), 0, next(self.numbers) % 3 == 0
        return self._observation(), {}

    def step(self, action):
        self.place += float(action[0])
        self.steps += 1
        over = self.steps == 7
        return self._observation(), self.place, over and self.falls, over and not self.falls, {}

    def _observation(self):
        return np.array([self.place, self.steps], np.float32)


def rows_of(path) -> np.ndarray:
    return np.concatenate(list(read_episodes(path)))


class KilledError(Exception):
    pass


def killed_at(step: int):
    """Push that dies at a step of its own."""

    class Dying(Push):
        taken = 0

        def step(self, action):
            Dying.taken += 1
            if Dying.taken == step:
                raise KilledError
            return super().step(action)

    return Dying


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "push.hdf5"
    return train(SAC, Push, path, 100, 30, 0, ABOUT, **tiny())


def test_the_recording_is_what_the_learner_saw(trained):
    rows = rows_of(trained)
    assert len(rows) == 100
    np.testing.assert_allclose(
        rows["next_observations"][:, 0], rows["observations"][:, 0] + rows["actions"][:, 0], atol=1e-5
    )
    np.testing.assert_array_equal(rows["rewards"], rows["next_observations"][:, 0])
    last = rows["next_observations"][:, 1] == 7.0
    assert (rows["terminals"] | rows["timeouts"]).tolist() == (last | (np.arange(100) == 99)).tolist()
    assert rows["terminals"].any()
    assert np.abs(rows["actions"]).max() > 1.0  # in the environment's units


def test_policies_are_saved_at_the_ends_of_episodes_and_at_both_ends(trained):
    steps = [int(path.stem) for path in sorted(policies_of(trained).glob("*.zip"))]
    assert steps == [0, 35, 70, 100]  # the first multiple of 7 after each 30, and the last step
    assert SAC.load(policies_of(trained) / "000000070.zip").num_timesteps == 70


def test_a_learner_says_how_its_last_ten_episodes_did(tmp_path, capsys):
    rows = rows_of(train(SAC, Push, tmp_path / "push.hdf5", 98, 7, 0, ABOUT, **tiny()))
    returns = rows["rewards"].reshape(14, 7).sum(1, dtype=np.float64)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"step 7: the last 1 episodes return {returns[0]:.1f} on average"
    assert said[12] == f"step 91: the last 10 episodes return {returns[3:13].mean():.1f} on average"


def journal_rows(path) -> np.ndarray:
    episodes = [as_episode(content) for _, _, content in records(path.with_name(f"{path.name}.journal"))]
    return np.concatenate([rows for rows in episodes if rows is not None])


def test_a_killed_training_goes_on_from_the_newest_policy(tmp_path):
    path = tmp_path / "push.hdf5"
    with pytest.raises(KilledError):
        train(SAC, killed_at(60), path, 100, 30, 0, ABOUT, **tiny())
    before = journal_rows(path)
    assert len(before) == 56
    rows = rows_of(train(SAC, Push, path, 100, 30, 0, ABOUT, **tiny()))
    assert len(rows) == 100
    for name in before.dtype.names:
        np.testing.assert_array_equal(rows[name][:35], before[name][:35])  # the policy after 35 steps is the newest
    assert not (rows["actions"][35:56] == before["actions"][35:]).any()
    assert rows["infos/episode"].tolist() == [step // 7 for step in range(100)]
    assert train(SAC, killed_at(1), path, 100, 30, 0, ABOUT, **tiny()) == path  # it is there


def test_the_replay_buffer_is_filled_as_the_learner_itself_fills_it(tmp_path):
    journal = Journal(tmp_path / "d.hdf5", ABOUT)
    learner = SAC("MlpPolicy", Recorder(Push(), journal.append), seed=0, buffer_size=70, **tiny())
    learner.learn(70)
    other = SAC("MlpPolicy", Push(), seed=1, buffer_size=70, **tiny())
    refill(other, journal)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        own, filled = getattr(learner.replay_buffer, name), getattr(other.replay_buffer, name)
        np.testing.assert_allclose(filled, own, atol=1e-6, err_msg=name)
    assert (other.replay_buffer.pos, other.replay_buffer.full) == (0, True)


def test_a_training_with_other_settings_does_not_go_on(tmp_path):
    path = tmp_path / "push.hdf5"
    with pytest.raises(KilledError):
        train(SAC, killed_at(60), path, 100, 30, 0, ABOUT, **tiny())
    with pytest.raises(ValueError, match=r"journal was made with {'settings'"):
        train(SAC, Push, path, 100, 30, 0, ABOUT, **tiny() | {"batch_size": 9})


# Sets


def point(steps: int, value: float) -> Point:
    return Point(steps, True, value, 0.0)


def test_medium_is_the_first_policy_a_third_of_the_way_to_the_best():
    curve = [point(0, 10.0), point(1, 30.0), point(2, 41.0), point(3, 100.0), point(4, 60.0)]
    assert choose(curve, 1 / 3) == (curve[2], curve[3])  # 10 + 90 / 3 = 40


def test_a_learner_that_learned_nothing_gives_no_sets():
    with pytest.raises(ValueError, match="no policy is better than the untrained one"):
        choose([point(0, 10.0), point(1, 9.0)], 1 / 3)


def test_medium_is_not_the_expert():
    curve = [point(0, 10.0), point(1, 31.0), point(2, 41.0), point(3, 110.0), point(4, 95.0)]
    with pytest.raises(
        ValueError, match=r"returns 110.0: none before it reached 85.0, only 41.0. Choose a lower --med"
    ):
        choose(curve, 0.75)


def test_every_policy_is_evaluated_once(trained):
    curve = evaluate_policies(SAC, trained, Push)
    assert [p.timesteps for p in curve] == [0, 35, 70, 100]
    file = policies_of(trained) / "evaluations.csv"
    before = file.read_text()
    assert evaluate_policies(SAC, trained, Push) == curve
    assert file.read_text() == before


def test_first_rows_are_whole_episodes(trained):
    assert [len(rows) for rows in first_rows(trained, 35)] == [7] * 5
    assert [len(rows) for rows in first_rows(trained, 20)] == [7] * 2


def test_six_sets_as_d4rl_has_them(tmp_path, monkeypatch):
    gym.register("Push-v0", entry_point=Push)
    monkeypatch.setattr(behaviours, "choose", lambda curve, fraction: (curve[2], curve[3]))  # 70 and 100 steps
    arguments = ("Push-v0", tmp_path / "push", "SAC", 100, 50, 30)
    paths = make_sets(*arguments, envs=3, **tiny())
    sets = {path.stem: zoo.load_dataset(path) for path in paths}
    assert {name: len(dataset) for name, dataset in sets.items()} == {
        "push-random": 50,
        "push-medium": 50,
        "push-expert": 50,
        "push-medium-replay": 70,
        "push-full-replay": 100,
        "push-medium-expert": 100,
    }
    assert {(dataset.env_id, dataset.action_space.high[0]) for dataset in sets.values()} == {("Push-v0", 2.0)}
    both, medium, expert = (sets[f"push-{name}"].rewards for name in ("medium-expert", "medium", "expert"))
    np.testing.assert_array_equal(both, np.concatenate([medium, expert]))
    np.testing.assert_array_equal(sets["push-medium-replay"].rewards, sets["push-full-replay"].rewards[:70])
    assert read_about(tmp_path / "push" / "push-medium.hdf5")["policy"] == "SAC after 70 steps"
    before = [path.stat().st_mtime_ns for path in paths]
    make_sets(*arguments, envs=3, **tiny())
    assert [path.stat().st_mtime_ns for path in paths] == before
    with pytest.raises(ValueError, match=r"push-random.hdf5 was made with {'noise': 0.0}, not {'noise': 0.1}"):
        make_sets(*arguments, envs=3, noise=0.1, **tiny())


def test_the_command_refuses_an_algorithm_that_is_none(tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="no algorithm 'PPO' for behaviours; choose SAC or TD3"):
        make_sets("Hopper-v5", tmp_path, "PPO", 10, 10, 10)


@pytest.mark.slow
def test_the_command_makes_sets_of_hopper(tmp_path, monkeypatch):
    words = ["data", "behaviours", "Hopper-v5", str(tmp_path / "hopper"), "--steps", "6000", "--samples", "1000"]
    monkeypatch.setattr(sys, "argv", ["zoo", *words, "--every", "1000"])
    cli.main()
    returns = {
        name: zoo.load_dataset(tmp_path / "hopper" / f"hopper-{name}.hdf5").episode_returns().mean()
        for name in behaviours.SETS
    }
    assert returns["random"] < returns["medium-replay"] < returns["expert"]
    assert returns["medium"] < returns["medium-expert"] < returns["expert"]


# Exploration


def test_novelty_falls_for_what_was_seen_and_not_for_the_rest():
    torch.manual_seed(0)
    novelty = Novelty(3)
    seen, unseen = torch.randn(64, 3), torch.randn(64, 3) + 4.0
    novelty.normalize(torch.cat([seen, unseen]))
    novelty.eval()  # both are normalised alike
    before = novelty.error(seen).mean().item()
    for _ in range(30):
        novelty.learn(seen)
    after = novelty.error(seen).mean().item()
    assert after < 0.3 * before
    assert novelty.error(unseen).mean().item() > 2.0 * after


def test_rewards_are_errors_over_the_deviation_of_all_errors():
    torch.manual_seed(0)
    novelty = Novelty(2)
    batches = [torch.randn(32, 2) * scale for scale in (1.0, 2.0, 3.0)]
    errors, rewards = [], []
    for batch in batches:
        errors.append(novelty.error(batch).detach())
        rewards.append(novelty.scale(errors[-1]))
    deviation = torch.cat(errors).std(unbiased=False)
    torch.testing.assert_close(rewards[-1], errors[-1] / deviation, rtol=5e-3, atol=1e-6)  # it began at 1


def test_the_explorer_learns_from_novelty_and_keeps_it_in_its_file(tmp_path):
    model = RND("MlpPolicy", Push(), seed=0, buffer_size=100, **tiny()).learn(60)
    batch = model.replay_buffer.sample(16)
    assert (batch.rewards >= 0.0).all()
    assert (model.replay_buffer.rewards[:60] < 0.0).any()  # what the environment paid
    model.save(tmp_path / "rnd.zip")
    again = RND.load(tmp_path / "rnd.zip", env=Push())
    for name, value in model.novelty.state_dict().items():
        torch.testing.assert_close(again.novelty.state_dict()[name], value)
    assert again.novelty.optimizer.state_dict()["state"].keys() == model.novelty.optimizer.state_dict()["state"].keys()
    assert again.replay_buffer.novelty is again.novelty
    assert isinstance(again, TD3)

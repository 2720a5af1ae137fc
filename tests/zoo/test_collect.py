"""Collecting: what is recorded, against the environment itself; kills and resumes; actors; the command line."""

import os
import signal
import subprocess
import sys

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.wrappers import NormalizeObservation

import zoo
from tests.support.data import tiny
from tests.support.paths import ROOT
from zoo.agents.core.finite import NotFiniteError
from zoo.cli import main as cli
from zoo.collecting.collect import Mixture, Noisy, Predictor, collect, load_actor, random_actor
from zoo.collecting.journal import Journal
from zoo.collecting.recording import Recorder, read_episodes, write_hdf5

ABOUT = {"env_id": "Corridor", "policy": "test"}


class Corridor(gym.Env):
    """Walks where it is pushed from a place that the seed decides. Falls beyond 3, time limit after 6 steps."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(np.array([-2.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.normal(size=2), 0
        return self.place.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.place = self.place + action
        self.steps += 1
        fallen = bool(abs(self.place).max() > 3.0)
        info = {"goal": np.array([1.0, self.steps])}
        return self.place.copy(), float(self.place.sum()), fallen, self.steps == 6 and not fallen, info


class DiesInStep(Corridor):
    """Kills its own process, as a scheduler does, in step 57 of the process."""

    taken = 0

    def step(self, action):
        DiesInStep.taken += 1
        if DiesInStep.taken == 57:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def columns(path) -> dict[str, np.ndarray]:
    rows = np.concatenate(list(read_episodes(path)))
    return {name: rows[name] for name in rows.dtype.names}


def by_number(path) -> dict[int, np.ndarray]:
    return {int(rows["infos/episode"][0]): rows for rows in read_episodes(path)}


def record(path, steps=40, make=Corridor, actor=random_actor, about=ABOUT, **settings):
    return collect(make, actor, path, steps, about, **settings)


# What is in the file


def test_rows_are_what_the_environment_gave(tmp_path):
    data = columns(record(tmp_path / "c.hdf5", infos=("goal",)))
    assert len(data["rewards"]) == 40
    np.testing.assert_allclose(data["next_observations"], data["observations"] + data["actions"], atol=1e-6)
    np.testing.assert_allclose(data["rewards"], data["next_observations"].sum(1), atol=1e-6)
    fallen = np.abs(data["next_observations"]).max(1) > 3.0
    assert data["terminals"].tolist() == fallen.tolist()
    sixth = data["infos/goal"][:, 1] == 6.0
    assert data["timeouts"].tolist() == ((sixth & ~fallen) | (np.arange(40) == 39)).tolist()
    assert 0 < fallen.sum() < 10


def test_an_environment_that_writes_into_its_last_observation_changes_no_row(tmp_path):
    class InPlace(Corridor):
        def reset(self, **kwargs):
            super().reset(**kwargs)
            return self.place, {}

        def step(self, action):
            place = self.place
            out = super().step(action)
            place[:] = self.place
            self.place = place
            return place, *out[1:]

    expected, found = columns(record(tmp_path / "c.hdf5")), columns(record(tmp_path / "i.hdf5", make=InPlace))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_load_dataset_reads_the_file_with_its_environment_and_every_row(tmp_path):
    path = record(tmp_path / "c.hdf5")
    dataset = zoo.load_dataset(path)
    assert (len(dataset), dataset.env_id, dataset.warnings) == (40, "Corridor", ())
    assert dataset.action_space == Corridor.action_space
    assert dataset.num_episodes == len(by_number(path))


def test_a_mujoco_row_can_be_run_again_from_its_state(tmp_path):
    data = columns(record(tmp_path / "h.hdf5", 60, lambda: gym.make("Hopper-v5")))
    env = gym.make("Hopper-v5")
    env.reset(seed=0)
    for i in (0, 7, 59):
        env.unwrapped.set_state(data["infos/qpos"][i], data["infos/qvel"][i])
        obs, *_ = env.step(data["actions"][i])
        np.testing.assert_allclose(obs, data["next_observations"][i], atol=1e-4)  # contacts start without a warm start
        np.testing.assert_allclose(env.unwrapped.data.qpos, data["infos/next_qpos"][i], atol=1e-6)
        np.testing.assert_array_equal(data["infos/ctrl"][i], data["actions"][i].astype(np.float64))
    assert data["infos/qpos"].dtype == np.float64


def test_episodes_do_not_depend_on_their_neighbours(tmp_path):
    alone, beside = by_number(record(tmp_path / "1.hdf5", envs=1)), by_number(record(tmp_path / "3.hdf5", envs=3))
    common = [number for number in alone if number in beside][:4]  # the last ones are cut
    assert len(common) == 4
    for number in common:
        assert alone[number].tobytes() == beside[number].tobytes()


def test_another_seed_gives_other_episodes(tmp_path):
    one, other = record(tmp_path / "0.hdf5", seed=0), record(tmp_path / "1.hdf5", seed=1)
    assert not set(columns(one)["rewards"]) & set(columns(other)["rewards"])


# Interruptions


def test_a_killed_run_goes_on_and_loses_only_the_episodes_in_progress(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.zoo.test_collect import *\n"
        "record(Path(sys.argv[1]), 120, DiesInStep, envs=3)"
    )
    path = tmp_path / "c.hdf5"
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False, capture_output=True, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    assert 56 - 3 * 6 < Journal(path, {**ABOUT, "seed": 0}).rows <= 56  # no episode is longer than 6 steps

    resumed, whole = by_number(record(path, 120, envs=3)), by_number(record(tmp_path / "w.hdf5", 120, envs=3))
    assert sum(map(len, resumed.values())) == 120
    assert len(resumed) > 15
    for number in resumed.keys() & whole.keys():
        both = min(len(resumed[number]), len(whole[number])) - 1  # the cut at the end may fall elsewhere
        assert resumed[number][:both].tobytes() == whole[number][:both].tobytes()


def test_with_one_environment_a_resumed_run_equals_an_unbroken_one(tmp_path):
    class Breaks(Corridor):
        taken = 0

        def step(self, action):
            Breaks.taken += 1
            if Breaks.taken == 57:
                raise RuntimeError("the simulator broke")
            return super().step(action)

    path = tmp_path / "c.hdf5"
    with pytest.raises(RuntimeError, match="broke"):
        record(path, 120, Breaks)
    resumed, whole = columns(record(path, 120)), columns(record(tmp_path / "w.hdf5", 120))
    for name in whole:
        np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)


def episode(number: int, rows: int = 3) -> np.ndarray:
    out = np.zeros(rows, [("rewards", "f4"), ("terminals", "?"), ("timeouts", "?"), ("infos/episode", "i8")])
    out["rewards"], out["infos/episode"], out["timeouts"][-1] = number, number, True
    return out


@pytest.mark.parametrize("missing", [1, 40, 100])
def test_a_journal_whose_last_episode_lacks_bytes_forgets_that_episode(tmp_path, missing):
    journal = Journal(tmp_path / "d.hdf5", ABOUT)
    journal.append(episode(0))
    journal.append(episode(1))
    journal.close()
    journal.file.write_bytes(journal.file.read_bytes()[:-missing])
    again = Journal(tmp_path / "d.hdf5", ABOUT)
    assert again.numbers == {0}
    again.append(episode(7))
    assert [int(rows["rewards"][0]) for rows in again.episodes()] == [0, 7]


def test_a_journal_killed_in_its_first_line_begins_anew(tmp_path):
    journal = Journal(tmp_path / "d.hdf5", ABOUT)
    journal.close()
    journal.file.write_bytes(journal.file.read_bytes()[:50])
    again = Journal(tmp_path / "d.hdf5", ABOUT)
    again.append(episode(0))
    again.close()
    assert Journal(tmp_path / "d.hdf5", ABOUT).rows == 3


def test_a_journal_keeps_what_came_before_a_row(tmp_path):
    journal = Journal(tmp_path / "d.hdf5", ABOUT)
    for number in range(3):
        journal.append(episode(number))
    journal.keep(6)
    assert (journal.rows, journal.numbers) == (6, {0, 1})
    with pytest.raises(ValueError, match="no episode that ends after 5 rows, but after 3"):
        journal.keep(5)


def test_a_journal_of_other_settings_is_refused_and_kept(tmp_path):
    with Journal(tmp_path / "d.hdf5", {**ABOUT, "noise": 0.1}) as journal:
        journal.append(episode(0))
    with pytest.raises(ValueError, match=r"was made with {'noise': 0.1}, not {'noise': 0.2}"):
        Journal(tmp_path / "d.hdf5", {**ABOUT, "noise": 0.2})
    assert Journal(tmp_path / "d.hdf5", {**ABOUT, "noise": 0.1}).rows == 3


def test_a_dataset_that_is_there_is_not_recorded_again(tmp_path):
    path = record(tmp_path / "c.hdf5")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="already there; delete it"):
        record(path)
    assert path.read_bytes() == before


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path):
    def broken():
        yield episode(0)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_hdf5(tmp_path / "d.hdf5", broken(), ABOUT)
    with pytest.raises(ValueError, match="nothing was recorded"):
        write_hdf5(tmp_path / "d.hdf5", [], ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_many_chunks_of_episodes_are_one_column(tmp_path):
    path = write_hdf5(tmp_path / "d.hdf5", (episode(k, 4_000) for k in range(6)), ABOUT)
    with h5py.File(path) as file:
        assert file["infos/episode"][()].tolist() == np.repeat(range(6), 4_000).tolist()
        assert {name: value for name, value in file.attrs.items() if name != "content_sha256"} == ABOUT
    assert [(len(rows), rows["rewards"][0]) for rows in read_episodes(path)] == [(4_000, k) for k in range(6)]


def test_episodes_shorter_and_longer_than_a_chunk_come_back_whole(tmp_path):
    lengths = [1, 9_999, 3, 25_000, 10_000, 10_001, 2]
    path = write_hdf5(tmp_path / "d.hdf5", (episode(k, length) for k, length in enumerate(lengths)), ABOUT)
    assert [len(rows) for rows in read_episodes(path)] == lengths
    assert [set(rows["infos/episode"]) for rows in read_episodes(path)] == [{k} for k in range(7)]


# Actors


def test_a_mixture_gives_whole_episodes_to_its_members_by_their_shares(tmp_path):
    low, high = Corridor.action_space.low, Corridor.action_space.high
    mixture = Mixture([lambda obs, _: np.tile(low, (len(obs), 1)), lambda obs, _: np.tile(high, (len(obs), 1))], [1, 3])
    members = []
    for rows in read_episodes(record(tmp_path / "m.hdf5", 400, actor=mixture, envs=3)):
        assert len({action.tobytes() for action in rows["actions"]}) == 1
        members.append(rows["actions"][0, 0] == high[0])
    share = [mixture.member(number) for number in range(1000)]
    assert sum(share) == pytest.approx(750, abs=3)
    assert 0.6 < np.mean(members) < 0.9


def test_noise_is_a_fraction_of_half_the_box_and_stays_inside(tmp_path):
    still = lambda obs, episodes: np.tile(np.array([-0.5, 0.25], np.float32), (len(obs), 1))  # noqa: E731
    actions = columns(record(tmp_path / "n.hdf5", 1500, actor=Noisy(still, 0.2)))["actions"]
    assert actions.std(0) == pytest.approx([0.3, 0.05], rel=0.08)  # 0.2 of 1.5 and of 0.25
    assert actions.mean(0) == pytest.approx([-0.5, 0.25], abs=0.02)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (lambda obs, _: np.full((len(obs), 2), 0.7), r"the action \[0.7 0.7\], outside Box"),
        (lambda obs, _: np.full((len(obs), 2), np.nan), "the policy, for episode 0, gave nan as actions"),
        (lambda obs, _: np.zeros((len(obs), 3)), r"shape \(1, 3\), expected \(1, 2\)"),
    ],
)
def test_an_action_that_the_environment_would_not_run_is_refused(tmp_path, actions, message):
    with pytest.raises(ValueError, match=message):
        record(tmp_path / "c.hdf5", actor=actions)


def test_an_environment_of_other_spaces_is_refused():
    class Wide(Corridor):
        observation_space = Box(0.0, 1.0, (2, 2))

    with pytest.raises(ValueError, match=r"observation_space .* expected a Box of one dimension"):
        Recorder(Wide(), print)
    with pytest.raises(ValueError, match=r"action_space of .* is Discrete"):
        Recorder(gym.make("CartPole-v1"), print)


def hold_still(observations):
    return np.zeros((len(observations), 3), np.float32)


def assert_acts_as(predict, policy: str, path) -> None:
    """Runs the policy of that text in Hopper; its actions must be what predict says of the observations."""
    data = columns(record(path, 20, lambda: gym.make("Hopper-v5"), load_actor(policy), envs=2))
    np.testing.assert_allclose(data["actions"], predict(data["observations"]), atol=1e-5)


def test_an_sb3_checkpoint_acts_as_it_predicts(tmp_path):
    from stable_baselines3 import SAC

    model = SAC("MlpPolicy", "Hopper-v5", policy_kwargs={"net_arch": [8]}, buffer_size=10, seed=0)
    model.save(tmp_path / "sac.zip")
    predict = lambda obs: model.predict(obs, deterministic=True)[0]  # noqa: E731
    assert_acts_as(predict, f"SAC:{tmp_path / 'sac.zip'}", tmp_path / "d.hdf5")


def test_an_agent_acts_as_it_predicts(tmp_path):
    agent = tiny(zoo.TD3BC, zoo.load_dataset("hopper-medium-replay"))
    agent.save(tmp_path / "agent.zip")
    assert_acts_as(lambda obs: agent.predict(obs)[0], str(tmp_path / "agent.zip"), tmp_path / "d.hdf5")


@pytest.mark.slow
def test_an_exported_policy_acts_as_its_agent(tmp_path):
    agent = tiny(zoo.TD3BC, zoo.load_dataset("hopper-medium-replay"))
    agent.export_onnx(tmp_path / "deploy")
    assert_acts_as(lambda obs: agent.predict(obs)[0], str(tmp_path / "deploy"), tmp_path / "d.hdf5")


def test_a_function_acts(tmp_path):
    assert_acts_as(hold_still, "tests.zoo.test_collect:hold_still", tmp_path / "d.hdf5")


def test_a_policy_that_nobody_knows_is_named_with_the_kinds_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"no policy 'expert': give random, SAC:model.zip"):
        load_actor("expert")
    with pytest.raises(FileNotFoundError):
        load_actor(str(tmp_path / "none.zip"))


def test_predictor_passes_keywords_on():
    class Policy:
        def predict(self, observations, deterministic):
            return (observations if deterministic else -observations), None

    assert Predictor(Policy(), {"deterministic": False})(np.ones((2, 1)), []).tolist() == [[-1.0], [-1.0]]


def test_the_command_writes_a_dataset(tmp_path, monkeypatch):
    path = tmp_path / "mix.hdf5"
    words = ["data", "collect", "Hopper-v5", str(path), "--steps", "50", "--policies", "random"]
    words += ["tests.zoo.test_collect:hold_still", "--weights", "1", "1", "--envs", "2", "--noise", "0.1"]
    monkeypatch.setattr(sys, "argv", ["zoo", *words])
    cli.main()
    dataset = zoo.load_dataset(path)
    assert (len(dataset), dataset.env_id) == (50, "Hopper-v5")
    assert dataset.provenance["policy"] == "random + tests.zoo.test_collect:hold_still"


class Fails(Corridor):
    """Its third step of the second episode gives a number that is not finite."""

    episode = 0

    def reset(self, **kwargs):
        self.episode += 1
        return super().reset(**kwargs)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if (self.episode, self.steps) == (2, 3):
            observation[1] = np.nan
        return observation, reward, *rest


def test_a_number_that_is_not_finite_ends_the_recording_and_keeps_the_episodes_before(tmp_path):
    path = tmp_path / "set.hdf5"

    def still(observations, episodes):
        return np.zeros((len(observations), 2))

    with pytest.raises(NotFiniteError, match="in step 3 of episode 1, gave nan as next_observations, dimension 1"):
        collect(Fails, still, path, 60, ABOUT)
    assert Journal(path, {**ABOUT, "seed": 0}).rows == 6


class Writes(Corridor):
    """Hands out one array for all episodes, and writes into the actions that it gets."""

    array = np.zeros(2)

    def reset(self, **kwargs):
        self.array[:], info = super().reset(**kwargs)
        return self.array, info

    def step(self, action):
        observation, *rest = super().step(action)
        action *= 0.5
        self.array[:] = observation
        return self.array, *rest


def test_what_is_recorded_is_what_was_chosen_and_given(tmp_path):
    def lean(observations, episodes):
        return np.clip(0.1 * observations, Corridor.action_space.low, Corridor.action_space.high)

    files = {env: tmp_path / f"{env.__name__}.hdf5" for env in (Corridor, Writes)}
    rows = [columns(collect(env, lean, file, 40, ABOUT, envs=3)) for env, file in files.items()]
    for name in ("observations", "actions", "next_observations", "rewards"):
        np.testing.assert_array_equal(rows[0][name], rows[1][name])


def test_what_is_done_with_a_recorders_answers_does_not_change_the_record():
    episodes = []
    recorder = Recorder(Corridor(), episodes.append)
    observation, _ = recorder.reset(seed=0)
    first = observation.copy()
    observation[:] = 99.0
    following, *_ = recorder.step(np.zeros(2, np.float32))
    following[:] = 99.0
    recorder.cut()
    np.testing.assert_array_equal(episodes[0]["observations"][0], first.astype(np.float32))
    np.testing.assert_array_equal(episodes[0]["next_observations"][0], first.astype(np.float32))


def test_normalised_numbers_are_not_recorded():
    with pytest.raises(ValueError, match="NormalizeObservation would normalise twice"):
        Recorder(NormalizeObservation(Corridor()), print)

"""Episodes, columns and .npz files against rows worked out by hand; SB3's buffer against what went into it."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from zoo import Episode, from_columns, from_episodes, from_replay_buffer, load_dataset
from zoo.datasets.checks import DatasetError, DatasetKeyError, DatasetValueError


def failed() -> Episode:
    return Episode(observations=[[0.0], [1.0], [2.0]], actions=[[0.1], [0.2]], rewards=[1.0, 2.0], terminations=True)


def stopped() -> Episode:
    return Episode(observations=[[7.0], [8.0]], actions=[[-1.0]], rewards=[4.0])


def columns(**changes):
    return {
        "observations": [[0.0], [1.0], [7.0]],
        "actions": [[0.1], [0.2], [-1.0]],
        "rewards": [1.0, 2.0, 4.0],
        "next_observations": [[1.0], [2.0], [8.0]],
        "terminations": [False, True, False],
        "truncations": [False, False, True],
    } | changes


def test_episodes_become_transitions_with_the_observation_that_followed():
    dataset = from_episodes([failed(), stopped()])
    assert dataset.observations[:, 0].tolist() == [0.0, 1.0, 7.0]
    assert dataset.next_observations[:, 0].tolist() == [1.0, 2.0, 8.0]
    assert dataset.actions[:, 0].tolist() == pytest.approx([0.1, 0.2, -1.0])
    assert dataset.terminations.tolist() == [False, True, False]
    assert dataset.truncations.tolist() == [False, False, True]
    assert dataset.episode_ids.tolist() == [0, 0, 1]


def test_terminations_may_come_per_step_and_lie_inside_an_episode():
    dataset = from_episodes([Episode([[0.0], [1.0], [2.0]], [[0.0], [0.0]], [0.0, 1.0], terminations=[True, False])])
    assert dataset.terminations.tolist() == [True, False]
    assert dataset.truncations.tolist() == [False, True]
    assert dataset.num_episodes == 1


def test_episodes_may_come_from_a_generator():
    assert len(from_episodes(episode for episode in (failed(), stopped()))) == 3


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (Episode([[0.0]], [[0.0], [0.0]], [1.0, 1.0]), r"episode 1 has observations \(1, 1\).*T \+ 1"),
        (Episode([[0.0], [1.0], [2.0]], [[0.0], [0.0]], [1.0]), r"episode 1 has .*rewards \(1,\)"),
        (Episode([0.0, 1.0], [[0.0]], [1.0]), r"episode 1 has observations \(2,\)"),
        (Episode([[0.0]], np.zeros((0, 1)), []), r"actions \(0, 1\).*T >= 1"),
        (Episode([[0.0], [1.0]], [[0.0]], [1.0], [True, False]), r"episode 1 has terminations \[1.0, 0.0\].*\(1,\)"),
        (Episode([[0.0], [1.0]], [[0.0]], [1.0], np.nan), r"episode 1 has terminations nan"),
        (Episode([[0.0], [1.0]], [["up"]], [1.0]), "episode 1: actions is not a numeric array"),
        (Episode([[0.0, 0.0], [1.0, 0.0]], [[0.0]], [1.0]), r"episodes' observations have rows of shapes"),
        (Episode([[0.0], [np.nan]], [[0.0]], [1.0]), "next_observations holds 1 NaN or inf, the first in row 2"),
    ],
)
def test_malformed_episodes_are_refused_by_number(episode, message):
    with pytest.raises(DatasetValueError, match=message):
        from_episodes([failed(), episode])


def test_no_episodes_are_refused():
    with pytest.raises(DatasetValueError, match="no episodes"):
        from_episodes([])


def test_columns_may_have_d4rls_names():
    ours = columns()
    theirs = {key: ours[key] for key in list(ours)[:4]} | {
        "terminals": ours["terminations"],
        "timeouts": ours["truncations"],
    }
    for data in (ours, theirs):
        dataset = from_columns(data)
        assert dataset.rewards.tolist() == [1.0, 2.0, 4.0]
        assert np.flatnonzero(dataset.terminations).tolist() == [1]
        assert np.flatnonzero(dataset.truncations).tolist() == [2]


def test_columns_beside_the_known_ones_are_left_out_with_a_warning():
    assert from_columns(columns(torque=[0.0] * 3)).warnings[0] == "columns that no agent uses were left out: torque"


def test_dones_are_refused_because_they_mix_failures_with_time_limits():
    data = columns()
    del data["terminations"], data["truncations"]
    with pytest.raises(DatasetKeyError, match=r"lacks terminations.*truncations.*dones cannot tell a failure"):
        from_columns(data | {"dones": [False, True, True]})


def test_without_successors_a_failure_is_kept_and_an_unknown_successor_left_out():
    data = columns()
    del data["next_observations"]
    dataset = from_columns(data)
    assert dataset.rewards.tolist() == [1.0, 2.0]
    assert dataset.next_observations[:, 0].tolist() == [1.0, 1.0]  # the terminal row repeats its own
    assert dataset.terminations.tolist() == [False, True]
    assert dataset.warnings[0].startswith("1 last rows are terminal and kept: they need no successor; 1 last rows are")
    kept = from_columns(data, last_row="keep")
    assert kept.rewards.tolist() == [1.0, 2.0, 4.0]
    assert kept.truncations.tolist() == [False, False, True]
    assert kept.next_observations[2, 0] == 7.0


def test_episodes_of_t_observations_follow_the_same_rule():
    short = Episode(observations=[[7.0], [8.0]], actions=[[-1.0], [0.5]], rewards=[4.0, 5.0])
    fall = Episode(observations=[[0.0], [1.0]], actions=[[0.1], [0.2]], rewards=[1.0, 2.0], terminations=True)
    dataset = from_episodes([fall, short])
    assert dataset.rewards.tolist() == [1.0, 2.0, 4.0]
    assert dataset.next_observations[:, 0].tolist() == [1.0, 1.0, 8.0]
    assert dataset.truncations.tolist() == [False, False, True]
    assert from_episodes([fall, short], last_row="keep").rewards.tolist() == [1.0, 2.0, 4.0, 5.0]
    with pytest.raises(DatasetValueError, match="last_row must be drop or keep"):
        from_episodes([fall], last_row="guess")


def test_an_episode_that_has_only_an_unknown_successor_leaves_no_gap():
    single = Episode(observations=[[7.0]], actions=[[-1.0]], rewards=[4.0])
    assert from_episodes([single, failed()]).episode_ids.tolist() == [0, 0]


def test_episode_numbers_take_the_place_of_truncations():
    data = columns(episode_ids=["mon", "mon", "tue"])
    del data["truncations"]
    dataset = from_columns(data)
    assert dataset.episode_ids.tolist() == [0, 0, 1]
    assert dataset.truncations.tolist() == [False, False, True]


def test_a_time_limit_takes_the_place_of_truncations():
    data = columns(terminations=[False] * 3)
    del data["truncations"]
    with pytest.raises(DatasetKeyError, match="--max-episode-steps N"):
        from_columns(data)
    assert from_columns(data, max_episode_steps=2).episode_ids.tolist() == [0, 0, 1]


def test_interleaved_recordings_and_early_truncations_are_refused():
    with pytest.raises(DatasetValueError, match="recordings are interleaved"):
        from_columns(columns(episode_ids=[0, 1, 0]))
    with pytest.raises(DatasetValueError, match="1 truncations lie inside an episode, the first in row 1"):
        from_columns(columns(episode_ids=[0, 0, 0], truncations=[False, True, False]))


def test_a_successor_that_is_not_the_next_row_cuts_the_episode():
    dataset = from_columns(columns(terminations=[False] * 3))
    assert dataset.episode_ids.tolist() == [0, 0, 1]
    assert "1 unmarked episode ends" in dataset.warnings[0]


def test_a_terminal_row_may_lack_its_successor():
    dataset = from_columns(columns(next_observations=[[1.0], [np.nan], [8.0]]))
    assert dataset.terminations.tolist() == [False, True, False]
    with pytest.raises(DatasetValueError, match="next_observations holds 1 NaN"):
        from_columns(columns(next_observations=[[1.0], [2.0], [np.nan]]))


def test_the_file_may_state_the_action_box(tmp_path):
    np.savez(tmp_path / "torques.npz", **columns(actions=[[0.1], [2.0], [-1.0]]), action_low=[-3.0], action_high=[2.0])
    box = load_dataset(tmp_path / "torques.npz").action_space
    assert (box.low.tolist(), box.high.tolist()) == ([-3.0], [2.0])


def test_a_column_under_both_its_names_is_refused():
    with pytest.raises(DatasetKeyError, match="name a column twice"):
        from_columns(columns(terminals=[False] * 3))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_gives_the_columns_that_were_saved(tmp_path, save):
    save(tmp_path / "mine.npz", **columns(), episode_ids=[0, 0, 1])
    dataset = load_dataset(tmp_path / "mine.npz")
    assert dataset.name == "mine"
    assert dataset.provenance["file"] == "mine.npz"
    for key, values in columns().items():
        assert np.array_equal(dataset.column(key), np.asarray(values, dataset.column(key).dtype))


def test_action_space_reaches_the_reader(tmp_path):
    np.savez(tmp_path / "mine.npz", **columns(actions=[[0.1], [2.0], [-1.0]]))
    with pytest.raises(DatasetValueError, match="1 actions lie outside"):
        load_dataset(tmp_path / "mine.npz")
    assert load_dataset(tmp_path / "mine.npz", action_space=Box(-2.0, 2.0, (1,))).actions.max() == 2.0


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **columns())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetValueError, match=r"mine.npz .* cannot be read as .npz"):
        load_dataset(path)


def test_npz_with_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **columns())
    content = bytearray(path.read_bytes())
    content[content.index(np.array([1.0, 2.0, 4.0]).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetValueError, match="Bad CRC-32"):
        load_dataset(path)


def test_npz_of_objects_is_refused_unread(tmp_path):
    np.savez(tmp_path / "mine.npz", **columns(rewards=np.array([1.0, "two", None], dtype=object)))
    with pytest.raises(DatasetValueError, match="pickled objects, which are never read"):
        load_dataset(tmp_path / "mine.npz")


def test_modes_of_d4rl_are_refused_for_other_files(tmp_path):
    np.savez(tmp_path / "mine.npz", **columns())
    with pytest.raises(DatasetValueError, match="mode is of D4RL's HDF5 files"):
        load_dataset(tmp_path / "mine.npz", mode="parity")


def test_files_of_no_known_format_are_refused(tmp_path):
    (tmp_path / "buffer.pkl").write_bytes(b"x")
    with pytest.raises(DatasetValueError, match=r"buffer.pkl is a file in none of .*from_replay_buffer"):
        load_dataset(tmp_path / "buffer.pkl")
    with pytest.raises(DatasetValueError, match="is a folder without a Minari dataset"):
        load_dataset(tmp_path)


def test_unknown_name_is_answered_with_all_that_was_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError) as error:
        load_dataset("robot/walks-v0")
    message = str(error.value)
    assert "hopper-medium-replay" in message
    assert "D4RL ids" in message
    assert "OGBench" in message
    assert message.count(str(tmp_path / "robot/walks-v0")) == 2  # as a path, and as a Minari id


# SB3's replay buffer


SPACES = (Box(-np.inf, np.inf, (1,)), Box(-2.0, 4.0, (1,)))  # centre 1, half range 3


def buffer_of(steps: int, size: int = 100, envs: int = 1, **options) -> ReplayBuffer:
    """Step t of environment e: observation 100 e + t, reward t; every third step ends, by failure and limit in turn."""
    buffer = ReplayBuffer(size, *SPACES, device="cpu", n_envs=envs, **options)
    for t in range(steps):
        obs = np.array([[100.0 * e + t] for e in range(envs)])
        done = np.full(envs, t % 3 == 2)
        info = {"TimeLimit.truncated": t % 6 == 5}
        buffer.add(obs, obs + 1, np.full((envs, 1), 0.5), np.full(envs, float(t)), done, [info] * envs)
    return buffer


def test_buffer_keeps_failures_apart_from_time_limits():
    dataset = from_replay_buffer(buffer_of(8), actions="scaled")
    assert dataset.observations[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert dataset.next_observations[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert np.flatnonzero(dataset.terminations).tolist() == [2]
    assert np.flatnonzero(dataset.truncations).tolist() == [5, 7]  # the limit, and the end of the buffer


def test_full_buffer_is_read_from_its_oldest_row():
    dataset = from_replay_buffer(buffer_of(7, size=5), actions="scaled")
    assert dataset.rewards.tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]


def test_parallel_environments_follow_one_another_and_are_cut_between():
    dataset = from_replay_buffer(buffer_of(2, envs=2), actions="scaled")
    assert dataset.observations[:, 0].tolist() == [0.0, 1.0, 100.0, 101.0]
    assert dataset.truncations.tolist() == [False, True, False, True]
    assert dataset.episode_ids.tolist() == [0, 0, 1, 1]


def test_scaled_actions_come_back_in_the_environments_units():
    assert from_replay_buffer(buffer_of(1), actions="scaled").actions[0, 0] == 2.5  # 1 + 0.5 * 3
    assert from_replay_buffer(buffer_of(1), actions="environment").actions[0, 0] == 0.5


def test_units_have_to_be_said_where_they_matter():
    with pytest.raises(DatasetValueError, match="pass actions='scaled' for the buffer of an SB3 learner"):
        from_replay_buffer(buffer_of(1))
    with pytest.raises(DatasetValueError, match="must be 'scaled' or 'environment', got 'raw'"):
        from_replay_buffer(buffer_of(1), actions="raw")


def test_buffer_that_mixes_ends_is_refused():
    with pytest.raises(DatasetValueError, match="does not know which ends were time limits"):
        from_replay_buffer(buffer_of(3, handle_timeout_termination=False), actions="scaled")


def test_buffers_that_agents_cannot_learn_from_are_refused():
    with pytest.raises(DatasetValueError, match="is empty"):
        from_replay_buffer(buffer_of(0))
    with pytest.raises(DatasetValueError, match="is a DictReplayBuffer, expected a ReplayBuffer of flat"):
        from_replay_buffer(DictReplayBuffer(5, Dict(goal=SPACES[0]), SPACES[1], device="cpu"))
    with pytest.raises(DatasetValueError, match=r"actions in Discrete\(3\), expected a Box"):
        from_replay_buffer(ReplayBuffer(5, SPACES[0], Discrete(3), device="cpu"))


def test_buffer_of_a_learner_gives_what_the_environment_saw():
    """TD3 collects in Pendulum, whose box is [-2, 2]; its rewards can be worked out again from rows and actions."""
    from stable_baselines3 import TD3

    learner = TD3("MlpPolicy", "Pendulum-v1", learning_starts=300, seed=0, device="cpu").learn(210)
    dataset = from_replay_buffer(learner.replay_buffer, actions="scaled")
    cos, sin, speed = dataset.observations.T.astype(np.float64)
    angle = np.arctan2(sin, cos)
    rewards = -(angle**2 + 0.1 * speed**2 + 0.001 * dataset.actions[:, 0] ** 2)  # of Gymnasium's documentation
    assert dataset.rewards == pytest.approx(rewards, abs=1e-4)
    assert np.abs(dataset.actions).max() > 1.5
    assert np.flatnonzero(dataset.truncations).tolist() == [199, 209]
    assert not dataset.terminations.any()

"""OfflineDataset: what it refuses, what it derives; load_dataset and make_env by name."""

from dataclasses import replace

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import ReplayBuffer

from tests.support.d4rl_files import worked_example, write_hdf5
from zoo.agents.core.spec import DataSpec
from zoo.datasets.checks import DatasetKeyError, DatasetNotFoundError, DatasetValueError
from zoo.datasets.dataset import EMBEDDED, STORED, OfflineDataset
from zoo.datasets.load import load_dataset
from zoo.datasets.readers.arrays import Episode, from_columns, from_episodes
from zoo.datasets.readers.sb3 import from_replay_buffer
from zoo.evaluation.envs import make_env


def arrays(**changes):
    """Five rows: an episode of three that terminates, one of two that is truncated."""
    columns = {
        "observations": [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5], [5.0, 0.5], [6.0, 0.5]],
        "actions": [[0.0], [0.1], [0.2], [0.5], [0.6]],
        "rewards": [1.0, 2.0, 4.0, 8.0, 16.0],
        "next_observations": [[1.0, 0.5], [2.0, 0.5], [3.0, 0.5], [6.0, 0.5], [7.0, 0.5]],
        "terminations": [False, False, True, False, False],
        "truncations": [False, False, False, False, True],
    }
    return columns | changes


@pytest.fixture
def dataset():
    return OfflineDataset.from_arrays(**arrays())


@pytest.fixture(scope="module")
def hopper():
    return load_dataset("hopper-medium-replay")


def test_episodes_are_derived_from_the_flags(dataset):
    assert dataset.episode_ids.tolist() == [0, 0, 0, 1, 1]
    assert dataset.episode_lengths().tolist() == [3, 2]
    assert dataset.episode_returns().tolist() == [7.0, 24.0]
    assert len(dataset) == 5
    assert dataset.num_episodes == 2


def test_next_actions_stay_inside_their_episode(dataset):
    assert dataset.column("next_actions")[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.2, 0.6, 0.6])
    assert dataset.column("next_action_valid").tolist() == [True, True, False, True, False]


def test_columns_lists_every_name_that_column_answers(dataset):
    assert {"next_actions", "next_action_valid", "truncations", "episode_ids"} <= set(dataset.columns)
    assert [len(dataset.column(name)) for name in dataset.columns] == [5] * 9


def test_missing_column_error_names_it_and_the_columns_there_are(dataset):
    with pytest.raises(KeyError) as error:
        dataset.column("trusted")
    assert isinstance(error.value, DatasetKeyError)
    assert str(error.value).startswith(
        "no column 'trusted'; arrays has ['actions', 'episode_ids', 'next_action_valid',"
    )


def test_every_column_is_read_only(dataset):
    for name in dataset.columns:
        with pytest.raises(ValueError, match="read-only"):
            dataset.column(name)[0] = 0


def test_from_arrays_copies_what_it_is_given():
    rewards = np.array([1.0, 2.0, 4.0, 8.0, 16.0], np.float32)
    dataset = OfflineDataset.from_arrays(**arrays(rewards=rewards))
    rewards[0] = 99.0
    assert dataset.rewards[0] == 1.0


def test_columns_are_float32_flags_bool_ids_int64(dataset):
    assert [dataset.column(name).dtype.name for name in dataset.columns[:7]] == [
        "float32", "float32", "float32", "float32", "bool", "bool", "int64",
    ]  # fmt: skip


def test_repr_shows_sizes_and_no_arrays(dataset):
    assert repr(dataset) == (
        "OfflineDataset('arrays', 5 transitions, 2 episodes, observations (2,), actions (1,), env_id=None)"
    )


def test_unfinished_last_episode_is_truncated_with_a_warning():
    dataset = OfflineDataset.from_arrays(**arrays(truncations=[False] * 5))
    assert dataset.truncations.tolist() == [False, False, False, False, True]
    assert any("the last episode has no end" in warning for warning in dataset.warnings)


def test_terminations_inside_an_episode_are_allowed_with_explicit_ids():
    dataset = OfflineDataset.from_arrays(**arrays(), episode_ids=[0, 0, 0, 0, 0])
    assert dataset.episode_returns().tolist() == [31.0]


def test_actions_within_rounding_of_the_box_are_clipped_silently():
    dataset = OfflineDataset.from_arrays(**arrays(actions=[[1.0000005], [0.0], [0.0], [0.0], [-1.0000005]]))
    assert dataset.actions[:, 0].tolist() == [1.0, 0.0, 0.0, 0.0, -1.0]
    assert not any("clipped" in warning for warning in dataset.warnings)


def test_actions_within_tolerance_of_the_box_are_clipped_with_a_warning():
    dataset = OfflineDataset.from_arrays(**arrays(actions=[[1.000008], [0.0], [0.0], [0.0], [0.0]]))
    assert dataset.actions[0, 0] == 1.0
    assert any("1 actions were up to 8" in warning for warning in dataset.warnings)


def test_actions_outside_the_box_are_refused_with_count_worst_and_fix():
    with pytest.raises(DatasetValueError) as error:
        OfflineDataset.from_arrays(**arrays(actions=[[0.0], [1.1], [0.0], [-2.5], [0.0]]))
    assert "2 actions lie outside the action box; the worst is -2.5 in row 3, component 0, expected [-1, 1]" in str(
        error.value
    )
    assert "action_space=Box(low, high)" in str(error.value)


def test_actions_just_beyond_the_tolerance_are_refused():
    with pytest.raises(DatasetValueError, match="1 actions lie outside the action box"):
        OfflineDataset.from_arrays(**arrays(actions=[[1.00002], [0.0], [0.0], [0.0], [0.0]]))


def test_wider_action_space_accepts_wider_actions():
    box = Box(-3.0, 3.0, (1,))
    dataset = OfflineDataset.from_arrays(**arrays(actions=[[0.0], [1.1], [0.0], [-2.5], [0.0]]), action_space=box)
    assert dataset.action_space == box
    assert dataset.actions.min() == -2.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": [1.0, np.nan, 4.0, np.inf, 16.0]}, "rewards holds 2 NaN or inf, the first in row 1"),
        ({"terminations": [0.0, np.nan, 1.0, 0.0, 0.0]}, "terminations holds 1 NaN"),
        ({"rewards": [1.0, 2.0]}, "columns differ in length"),
        ({"rewards": [[1.0, 2.0]] * 5}, r"rewards has shape \(5, 2\), expected \(N,\)"),
        ({"actions": [0.0] * 5}, r"actions has shape \(5,\), expected \(N, dim\)"),
        ({"next_observations": [[1.0]] * 5}, r"next_observations has shape \(5, 1\), observations \(5, 2\)"),
        ({"observations": [[1.0], [1.0, 2.0]]}, "observations is not a numeric array"),
        ({"rewards": []}, "rewards is empty"),
        ({"episode_ids": [0, 0, 0, 2, 2]}, "without gaps"),
        ({"episode_ids": [1, 1, 1, 2, 2]}, "without gaps"),
        ({"episode_ids": [0, 0, 1, 1, 1]}, r"1 episodes end without termination .* row 1"),
        ({"truncations": [0, 1, 0, 0, 1], "episode_ids": [0, 0, 0, 1, 1]}, r"inside an episode, .* row 1"),
        ({"action_space": Box(-1.0, 1.0, (3,))}, r"action_space is Box.*rows of shape \(1,\)"),
        ({"observation_space": Box(-1.0, 1.0, (3,))}, r"observation_space is Box.*rows of shape \(2,\)"),
    ],
)  # fmt: skip
def test_contradicting_arrays_are_refused(changes, message):
    with pytest.raises(DatasetValueError, match=message):
        OfflineDataset.from_arrays(**arrays(**changes))


def test_equal_terminated_lengths_are_reported_as_a_possible_time_limit():
    flags = [False, True, False, True, False, True]
    dataset = OfflineDataset.from_arrays(
        [[0.0]] * 6, [[0.0]] * 6, [0.0] * 6, [[0.0]] * 6, flags, [False] * 6
    )  # fmt: skip
    assert any("all 3 episodes terminate after exactly 2 steps" in warning for warning in dataset.warnings)
    assert any("50% of the rows are terminations" in warning for warning in dataset.warnings)


# load_dataset


def test_embedded_dataset_has_the_size_and_returns_of_its_card(hopper):
    assert len(hopper) == 100_541
    assert hopper.num_episodes == 553
    assert hopper.episode_returns().mean() == pytest.approx(522.6, abs=0.05)
    assert hopper.episode_returns().std() == pytest.approx(379.2, abs=0.05)
    assert hopper.episode_returns().max() == pytest.approx(1600.6, abs=0.05)


def test_embedded_dataset_is_hopper_v5_read_in_full_without_doubts(hopper):
    assert hopper.name == "hopper-medium-replay"
    assert hopper.env_id == EMBEDDED["hopper-medium-replay"] == "Hopper-v5"
    assert hopper.provenance["mode"] == "full"
    assert hopper.warnings == ()
    assert (hopper.observation_space.shape, hopper.action_space.shape) == ((11,), (3,))


def test_parity_of_the_embedded_dataset_obeys_the_size_law():
    assert len(load_dataset("hopper-medium-replay", mode="parity")) == 100_540  # no time-outs: one row less


def test_d4rl_id_never_falls_back_to_the_embedded_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DatasetNotFoundError, match=r"hopper_medium_replay-v2\.hdf5"):
        load_dataset("hopper-medium-replay-v2")


def test_plain_path_is_loaded_as_string_and_as_path(tmp_path):
    path = write_hdf5(tmp_path / "mine.hdf5", worked_example(), env_id="Toy-v0")
    assert load_dataset(path).name == load_dataset(str(path)).name == "mine"


def test_unknown_name_is_answered_with_close_ones():
    with pytest.raises(
        DatasetNotFoundError, match=r"no dataset or file 'hopper-medium-replay-v7'.*hopper-medium-replay-v2"
    ):
        load_dataset("hopper-medium-replay-v7")


# make_env


def test_env_of_a_dataset_without_environment_is_refused_by_name(dataset):
    with pytest.raises(ValueError, match="no environment is known for dataset 'arrays'"):
        make_env(dataset)


def test_unregistered_env_id_is_refused():
    with pytest.raises(ValueError, match="gymnasium cannot make 'Nowhere-v0'"):
        make_env("Nowhere-v0")


def test_missing_simulator_is_an_import_error_with_the_command(monkeypatch):
    def not_installed(*args, **kwargs):
        raise gymnasium.error.DependencyNotInstalled("mujoco is missing")

    monkeypatch.setattr(gymnasium, "make", not_installed)
    with pytest.raises(ImportError, match=r"Hopper-v5 needs .*mujoco is missing.*pip install 'gymnasium\[mujoco\]'"):
        make_env("hopper-medium-replay")


@pytest.mark.parametrize(
    ("name", "env_id", "kwargs"),
    [
        ("hopper-medium-replay", "Hopper-v5", {}),
        ("hopper-medium-replay-v2", "Hopper-v4", {}),
        ("ant-medium-v2", "Ant-v4", {"use_contact_forces": True}),
    ],
)
def test_name_gives_the_environment_of_its_benchmark(monkeypatch, name, env_id, kwargs):
    made = []
    monkeypatch.setattr(gymnasium, "make", lambda env_id, **kwargs: made.append((env_id, kwargs)))
    make_env(name)
    assert made == [(env_id, kwargs)]


def pendulum_data(low: float, high: float, dims: int = 3) -> OfflineDataset:
    return OfflineDataset.from_arrays(
        np.zeros((2, dims)), [[0.0]] * 2, [0.0] * 2, np.zeros((2, dims)), [False] * 2, [False, True],
        action_space=Box(low, high, (1,)), env_id="Pendulum-v1",
    )  # fmt: skip


def test_env_with_another_action_box_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"actions in Box\(-1.0, 1.0.*Pendulum-v1 takes Box\(-2.0, 2.0"):
        make_env(pendulum_data(-1.0, 1.0))


def test_env_with_other_observations_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"observations \(5,\), Pendulum-v1 gives \(3,\)"):
        make_env(pendulum_data(-2.0, 2.0, dims=5))


def test_seed_fixes_the_stream_of_later_resets():
    first, second = (make_env(pendulum_data(-2.0, 2.0), seed=3).reset()[0] for _ in range(2))
    assert first.tolist() == second.tolist()
    assert make_env(pendulum_data(-2.0, 2.0), seed=4).reset()[0].tolist() != first.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "dim"), [("hopper-medium-v2", 11), ("ant-medium-v2", 111)])
def test_mujoco_env_of_a_d4rl_name_has_its_observations(name, dim):
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio")
    assert make_env(name).observation_space.shape == (dim,)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"observations": [{"name": "x"}]}, "observations has 1 entries for the agent's 2 dimensions"),
        ({"actions": [{"low": -2.0}]}, "low of an action is stated as -2, but the action box says -1"),
        ({"control_rate_hz": 0.0}, "control_rate_hz must be a positive number"),
    ],
)
def test_a_statement_that_does_not_fit_the_columns_is_refused(stated, message):
    with pytest.raises(DatasetValueError, match=message):
        OfflineDataset.from_arrays(**arrays(), stated=stated)


def test_a_dataset_owns_its_arrays(dataset):
    columns = {name: np.array(dataset.column(name)) for name in STORED}
    spaces = {"observation_space": dataset.observation_space, "action_space": dataset.action_space}
    made = OfflineDataset("mine", **columns, **spaces)
    read_only = columns["rewards"].view()
    read_only.setflags(write=False)  # whose owner can still write
    view = OfflineDataset("mine", **(columns | {"rewards": read_only}), **spaces)
    for column in columns.values():
        column[:] = 1 - column  # which is the caller's right
    for name in STORED:
        np.testing.assert_array_equal(made.column(name), dataset.column(name))
        with pytest.raises(ValueError, match="read-only"):
            made.column(name)[0] = 0
    np.testing.assert_array_equal(view.rewards, dataset.rewards)


def test_an_array_that_nobody_can_write_into_is_not_copied(dataset):
    again = OfflineDataset(
        "again",
        **{name: dataset.column(name) for name in STORED},
        observation_space=dataset.observation_space,
        action_space=dataset.action_space,
    )
    assert all(again.column(name) is dataset.column(name) for name in STORED)


def scaled(box: Box, actions, dtype=np.float32) -> ReplayBuffer:
    """A buffer of a learner of Stable-Baselines3, whose actions are scaled to [-1, 1]."""
    buffer = ReplayBuffer(len(actions), Box(-1.0, 1.0, (2,)), box, device="cpu")
    zeros = np.zeros((1, 2))
    for action in actions:
        buffer.add(zeros, zeros, np.full((1, 1), action, dtype), np.zeros(1), np.zeros(1), [{}])
    return buffer


def test_a_saturated_action_is_the_bound_itself_whatever_the_box():
    rng = np.random.default_rng(0)
    for _ in range(100):
        low = np.float32(rng.uniform(-1000.0, 0.0))
        high = np.float32(low + 10.0 ** rng.uniform(-3.0, 3.0))
        data = from_replay_buffer(scaled(Box(low, high, (1,)), [-1.0, 1.0, 0.0]), actions="scaled")
        assert data.actions[:2, 0].tolist() == [low, high]


@pytest.mark.parametrize("half", [1e-6, 1.0, 255.0, 1e6])
def test_actions_are_clipped_by_the_width_of_their_box(half):
    box = Box(np.float32(-half), np.float32(half), (1,))
    bound = box.high[0]

    def at(first):
        return OfflineDataset.from_arrays(**arrays(actions=[[first], [0.0], [0.0], [0.0], [0.0]]), action_space=box)

    for noise in (np.nextafter(bound, np.float32(np.inf)), np.float32(half * (1 + 5e-7))):
        data = at(noise)
        assert data.actions[0, 0] == bound
        assert not any("clipped" in text for text in data.warnings)
    data = at(half * (1 + 5e-6))
    assert data.actions[0, 0] == bound
    assert "1 actions were up to" in data.warnings[0]
    with pytest.raises(DatasetValueError, match="outside the action box") as refused:
        at(half * 1.0001)
    assert str(np.float32(half * 1.0001)) in str(refused.value)  # with all its digits


def test_the_box_of_an_environment_is_compared_by_its_width(dataset):
    spec = DataSpec.of(dataset)
    for half in (1e-9, 1.0, 1e6):
        spec = replace(spec, action_low=(-half,), action_high=(half,))
        spec.check_env(spec.observation_space, Box(np.float32(-half), np.nextafter(np.float32(half), np.float32(9e9))))
        with pytest.raises(ValueError, match="the agent was built for"):
            spec.check_env(spec.observation_space, Box(-half, 1.001 * half, (1,)))
    offset = replace(spec, action_low=(1000.0,), action_high=(1000.1,))
    with pytest.raises(ValueError, match="the agent was built for"):  # a twentieth of the width
        offset.check_env(spec.observation_space, Box(1000.005, 1000.105, (1,)))


COARSE = {
    "metres on a map": 3_948_996 + 0.01 * np.arange(6.0),
    "seconds of the epoch": 1.7e9 + 0.02 * np.arange(6.0),
    "nanoseconds of the epoch": 1_700_000_000_000_000_000 + 20_000_000 * np.arange(6),
    "ticks of an encoder": 2**27 + np.arange(6),
}


def columns_with(values):
    """Five rows whose second dimension is given, as columns for the readers."""
    rows = arrays()
    for name, column in (("observations", values[:-1]), ("next_observations", values[1:])):
        rows[name] = np.stack([np.asarray(rows[name])[:, 0], column.astype(np.float64)], axis=1)
    return {name: np.asarray(column) for name, column in rows.items()}


def as_hdf5(columns, folder):
    keys = {"terminations": "terminals", "truncations": "timeouts"}
    with h5py.File(folder / "mine.hdf5", "w") as file:
        for name, column in columns.items():
            file[keys.get(name, name)] = column
    return load_dataset(folder / "mine.hdf5")


def as_npz(columns, folder):
    np.savez(folder / "mine.npz", **columns)
    return load_dataset(folder / "mine.npz")


def by_episodes(columns, folder):
    obs = np.concatenate([columns["observations"], columns["next_observations"][-1:]])
    return from_episodes([Episode(obs, columns["actions"], columns["rewards"], False)])


def by_columns(columns, folder):
    return from_columns(columns)


def by_arrays(columns, folder):
    return OfflineDataset.from_arrays(**columns)


def by_buffer(columns, folder):
    space = Box(-np.inf, np.inf, (2,), np.float64)
    buffer = ReplayBuffer(5, space, Box(-1.0, 1.0, (1,)), device="cpu")
    for row in zip(*(columns[name] for name in ("observations", "next_observations", "actions")), strict=True):
        buffer.add(*(part[None] for part in row), np.zeros(1), np.zeros(1), [{}])
    return from_replay_buffer(buffer, actions="environment")


@pytest.mark.parametrize("read", [by_arrays, by_columns, by_episodes, by_buffer, as_npz, as_hdf5])
@pytest.mark.parametrize("values", COARSE.values(), ids=COARSE)
def test_what_float32_hides_is_told_at_loading(values, read, tmp_path):
    (told,) = [text for text in read(columns_with(values), tmp_path).warnings if "float32" in text]
    assert told.startswith("observations, dimension 1: float32 rounds by ")
    assert "Subtract an offset" in told
    offset = columns_with(values - values[0])
    assert [text for text in read(offset, tmp_path).warnings if "float32" in text] == []


def test_rewards_and_actions_are_looked_at_too():
    columns = arrays(rewards=1e9 + np.arange(5.0))
    (told,) = [text for text in OfflineDataset.from_arrays(**columns).warnings if "float32" in text]
    assert told.startswith("rewards: float32 rounds by ")

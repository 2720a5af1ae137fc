"""The HDF5 reader against rows worked out by hand, and the catalogue of D4RL ids."""

import h5py
import numpy as np
import pytest

from tests.support.d4rl_files import true_successors, worked_example, write_hdf5
from zoo.datasets.checks import DatasetError, DatasetKeyError, DatasetNotFoundError, DatasetValueError
from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.load import load_dataset
from zoo.datasets.readers.d4rl import CATALOG, find_file, read_hdf5


def emitted(dataset: OfflineDataset) -> list[int]:
    """Rows of the worked example that are in the dataset; their reward is their number."""
    return [int(reward) for reward in dataset.rewards]


@pytest.fixture
def example(tmp_path):
    return write_hdf5(tmp_path / "tiny.hdf5", worked_example())


@pytest.fixture
def d4rl_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "d4rl"


# parity: the rows of qlearning_dataset


def test_parity_drops_timeout_rows_and_the_last_row(example):
    dataset = read_hdf5(example, mode="parity")
    assert emitted(dataset) == [0, 1, 3, 4, 5, 6]
    assert dataset.next_observations[:, 0].tolist() == [10.0, 20.0, 40.0, 50.0, 60.0, 70.0]
    assert dataset.terminations.tolist() == [False, False, False, False, True, False]


def test_parity_episodes_are_cut_where_the_timeout_row_was(example):
    dataset = read_hdf5(example, mode="parity")
    assert dataset.episode_ids.tolist() == [0, 0, 1, 1, 1, 2]
    assert dataset.truncations.tolist() == [False, True, False, False, False, True]
    assert dataset.episode_returns().tolist() == [1.0, 12.0, 6.0]


def test_parity_ignores_next_observations_as_d4rl_does(tmp_path):
    columns = worked_example() | {"next_observations": true_successors()}
    dataset = read_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns), mode="parity")
    assert dataset.next_observations[:, 0].tolist() == [10.0, 20.0, 40.0, 50.0, 60.0, 70.0]


def test_parity_does_not_even_read_next_observations(tmp_path):
    columns = worked_example() | {"next_observations": np.full((8, 1), np.nan)}
    assert emitted(read_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns), mode="parity")) == [
        0,
        1,
        3,
        4,
        5,
        6,
    ]


def test_parity_without_timeouts_loses_the_terminal_on_the_counters_limit(tmp_path):
    columns = worked_example()
    del columns["timeouts"]
    dataset = read_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns), mode="parity", max_episode_steps=3)
    assert emitted(dataset) == [0, 1, 3, 4, 6]
    assert dataset.next_observations[:, 0].tolist() == [10.0, 20.0, 40.0, 50.0, 70.0]
    assert not dataset.terminations.any()


def test_step_counter_is_one_ahead_after_a_kept_terminal_in_parity_only(tmp_path):
    # Limit 4, terminal in row 1. The next episode starts in row 2: its 4th row is 5, but d4rl's counter is
    # already 1 in row 2 and reaches the limit in row 4.
    columns = worked_example() | {"terminals": np.array([0, 1, 0, 0, 0, 0, 0, 0], bool)}
    del columns["timeouts"]
    path = write_hdf5(tmp_path / "tiny.hdf5", columns)
    assert emitted(read_hdf5(path, mode="parity", max_episode_steps=4)) == [0, 1, 2, 3, 5, 6]
    assert emitted(read_hdf5(path, mode="full", max_episode_steps=4)) == [0, 1, 2, 3, 4, 6]


def test_d4rls_terminate_on_end_is_not_offered(example):
    # It would emit row 2 with the successor 30 of another episode and without a terminal.
    with pytest.raises(DatasetValueError, match="mode must be one of full, parity or None, got 'terminate_on_end'"):
        read_hdf5(example, mode="terminate_on_end")


@pytest.mark.parametrize("seed", range(20))
def test_parity_obeys_the_size_law_on_random_files(tmp_path, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(8, 60))
    timeouts = rng.random(n) < 0.15
    timeouts[0] = False  # else a file of time-outs alone could come up
    columns = {
        "observations": np.arange(n, dtype=np.float32)[:, None],
        "actions": np.zeros((n, 2), np.float32),
        "rewards": np.arange(n, dtype=np.float32),
        "terminals": rng.random(n) < 0.1,
        "timeouts": timeouts,
    }
    dataset = read_hdf5(write_hdf5(tmp_path / "random.hdf5", columns), mode="parity")
    assert len(dataset) == n - 1 - sum(timeouts[: n - 1].tolist())
    rows = dataset.rewards.astype(int)
    assert not timeouts[rows].any()
    assert (dataset.next_observations[:, 0] == dataset.observations[:, 0] + 1).all()
    assert dataset.terminations.tolist() == columns["terminals"][rows].tolist()
    assert dataset.episode_lengths().sum() == len(dataset)


# full: every row whose successor is known


def test_full_keeps_every_row_when_successors_are_stored(tmp_path):
    columns = worked_example() | {"next_observations": true_successors()}
    dataset = read_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns))
    assert dataset.provenance["mode"] == "full"
    assert emitted(dataset) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert dataset.next_observations[:, 0].tolist() == [10.0, 20.0, 29.0, 40.0, 50.0, 59.0, 70.0, 79.0]
    assert np.flatnonzero(dataset.terminations).tolist() == [5]
    assert np.flatnonzero(dataset.truncations).tolist() == [2, 7]
    assert dataset.episode_ids.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_parity_is_the_default_of_d4rls_own_files_without_stored_successors(tmp_path, example):
    assert read_hdf5(write_hdf5(tmp_path / "kitchen.hdf5", worked_example())).provenance["mode"] == "full"
    own = write_hdf5(tmp_path / "door-human-v1.hdf5", worked_example())
    assert read_hdf5(own).provenance["mode"] == "parity"


def test_a_failure_in_the_files_last_row_is_not_lost(tmp_path):
    columns = worked_example() | {"terminals": np.array([0, 0, 0, 0, 0, 1, 0, 1], bool)}
    dataset = read_hdf5(write_hdf5(tmp_path / "log.hdf5", columns))
    assert dataset.rewards.tolist() == [0.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert dataset.terminations.tolist() == [False, False, False, False, True, False, True]
    assert "2 last rows are terminal and kept" in dataset.warnings[0]
    assert "1 last rows are not terminal" in dataset.warnings[0]


def test_the_last_row_may_be_kept_with_its_own_observation(example):
    dataset = read_hdf5(example, last_row="keep")
    assert emitted(dataset) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert dataset.next_observations[:, 0].tolist() == [10.0, 20.0, 20.0, 40.0, 50.0, 50.0, 70.0, 70.0]


def test_files_may_have_our_names_and_episode_numbers(tmp_path):
    columns = worked_example()
    columns["terminations"] = columns.pop("terminals")
    del columns["timeouts"]
    dataset = read_hdf5(write_hdf5(tmp_path / "ours.hdf5", columns | {"episode_ids": np.repeat([4, 9, 2], (3, 3, 2))}))
    assert emitted(dataset) == [0, 1, 3, 4, 5, 6]
    assert dataset.episode_ids.tolist() == [0, 0, 1, 1, 1, 2]


def test_full_without_stored_successors_drops_only_unknown_ones(example):
    dataset = read_hdf5(example, mode="full")
    assert emitted(dataset) == [0, 1, 3, 4, 5, 6]
    assert dataset.next_observations[:, 0].tolist() == [10.0, 20.0, 40.0, 50.0, 50.0, 70.0]


def test_terminal_wins_over_timeout_on_the_same_row_in_full_and_is_lost_in_parity(tmp_path):
    columns = worked_example() | {"timeouts": np.array([0, 0, 1, 0, 0, 1, 0, 0], bool)}
    path = write_hdf5(tmp_path / "tiny.hdf5", columns)
    full = read_hdf5(path, mode="full")
    assert emitted(full) == [0, 1, 3, 4, 5, 6]
    assert np.flatnonzero(full.terminations).tolist() == [4]
    assert full.truncations.tolist() == [False, True, False, False, False, True]
    parity = read_hdf5(path, mode="parity")
    assert emitted(parity) == [0, 1, 3, 4, 6]
    assert not parity.terminations.any()


def test_full_keeps_a_terminal_last_row(tmp_path):
    columns = worked_example() | {"terminals": np.array([0, 0, 0, 0, 0, 1, 0, 1], bool)}
    dataset = read_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns), mode="full")
    assert emitted(dataset) == [0, 1, 3, 4, 5, 6, 7]
    assert np.flatnonzero(dataset.terminations).tolist() == [4, 6]


def test_trailing_partial_episode_is_truncated_and_reported(tmp_path):
    columns = worked_example() | {"next_observations": true_successors()}
    dataset = read_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns))
    assert dataset.truncations[-1]
    assert not dataset.terminations[-1]
    assert any("the last 2 rows of the file" in warning for warning in dataset.warnings)


def test_full_cuts_an_unmarked_episode_end_where_the_successor_is_not_the_next_row(tmp_path):
    columns = worked_example() | {"next_observations": true_successors()}
    columns["timeouts"] = np.zeros(8, bool)
    dataset = read_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns))
    assert dataset.episode_ids.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert any("1 unmarked episode ends" in warning for warning in dataset.warnings)


# layouts


def test_column_vectors_float_flags_and_float64_are_converted(tmp_path):
    columns = worked_example()
    columns["observations"] = columns["observations"].astype(np.float64)
    columns["rewards"] = columns["rewards"].astype(np.float64)[:, None]
    columns["terminals"] = columns["terminals"].astype(np.float32)[:, None]
    dataset = read_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns))
    assert dataset.observations.dtype == dataset.rewards.dtype == np.float32
    assert dataset.terminations.dtype == bool
    assert dataset.rewards.tolist() == [0.0, 1.0, 3.0, 4.0, 5.0, 6.0]
    assert dataset.terminations.tolist() == [False, False, False, False, True, False]


def test_scalars_and_infos_in_the_file_are_ignored(tmp_path):
    path = write_hdf5(tmp_path / "tiny.hdf5", worked_example())
    with h5py.File(path, "a") as file:
        file["metadata/iteration"] = 7
        file["metadata/algorithm"] = b"SAC"
        file["infos/qpos"] = np.full((3, 2), np.nan)
    assert emitted(read_hdf5(path)) == [0, 1, 3, 4, 5, 6]


def antmaze_columns() -> dict[str, np.ndarray]:
    """3 episodes of 5 rows; the second reaches the goal in row 7 and stays there in row 8."""
    flags = np.zeros(15, bool)
    success, timeouts = flags.copy(), flags.copy()
    success[[7, 8]] = True
    timeouts[[4, 9, 14]] = True
    return {
        "observations": np.arange(15, dtype=np.float32)[:, None],
        "actions": np.zeros((15, 1), np.float32),
        "rewards": success.astype(np.float32),
        "terminals": success,
        "timeouts": timeouts,
    }


def test_antmaze_success_masks_but_does_not_end_the_episode(d4rl_dir):
    name = "antmaze-umaze-v2"
    write_hdf5(d4rl_dir / CATALOG[name].file_name, antmaze_columns())
    dataset = load_dataset(name)
    assert dataset.episode_lengths().tolist() == [4, 4, 4]
    assert dataset.episode_returns().tolist() == [0.0, 2.0, 0.0]
    assert np.flatnonzero(dataset.terminations).tolist() == [6, 7]
    assert np.flatnonzero(dataset.truncations).tolist() == [3, 11]
    full = load_dataset(name, mode="full")
    assert full.next_observations[[6, 7], 0].tolist() == [8.0, 9.0]


def test_antmaze_v0_warns_of_its_timeouts(d4rl_dir):
    write_hdf5(d4rl_dir / CATALOG["antmaze-umaze-v0"].file_name, antmaze_columns())
    assert any("prefer the -v2" in warning for warning in load_dataset("antmaze-umaze-v0").warnings)


def test_maze2d_is_one_trajectory_without_terminations(d4rl_dir):
    columns = antmaze_columns() | {"terminals": np.zeros(15, bool)}
    write_hdf5(d4rl_dir / "maze2d-umaze-sparse-v1.hdf5", columns)
    parity = load_dataset("maze2d-umaze-v1")
    assert len(parity) == 12
    assert parity.num_episodes == 1
    assert not parity.terminations.any()
    full = load_dataset("maze2d-umaze-v1", mode="full")  # a sub-goal does not reset: its successor is the next row
    assert full.next_observations[:, 0].tolist() == [float(i) for i in range(1, 15)]


# what a dataset says about itself


def test_provenance_holds_file_hash_mode_and_attributes(tmp_path):
    path = write_hdf5(tmp_path / "tiny.hdf5", worked_example(), env_id="Toy-v0", policy="by hand")
    dataset = read_hdf5(path)
    assert dataset.name == "tiny"
    assert dataset.env_id == "Toy-v0"
    assert dataset.provenance["file"] == "tiny.hdf5"
    assert dataset.provenance["policy"] == "by hand"
    assert dataset.provenance["rows_in_file"] == 8
    assert len(str(dataset.provenance["sha256"])) == 64


def test_sha256_is_that_of_the_file(tmp_path):
    source = tmp_path / "abc.hdf5"
    write_hdf5(source, worked_example())
    first = read_hdf5(source).provenance["sha256"]
    write_hdf5(source, worked_example(), note="another byte")
    assert read_hdf5(source).provenance["sha256"] != first


# errors


def test_missing_timeouts_are_not_guessed(tmp_path):
    columns = worked_example()
    del columns["timeouts"]
    with pytest.raises(DatasetKeyError, match="--max-episode-steps N"):
        read_hdf5(write_hdf5(tmp_path / "v0.hdf5", columns))


def test_max_episode_steps_below_one_is_refused(tmp_path):
    columns = worked_example()
    del columns["timeouts"]
    with pytest.raises(DatasetValueError, match="at least 1, got 0"):
        read_hdf5(write_hdf5(tmp_path / "v0.hdf5", columns), max_episode_steps=0)


def test_missing_key_error_names_file_key_and_what_was_found(tmp_path):
    columns = worked_example()
    columns["score"] = columns.pop("rewards")
    with pytest.raises(DatasetKeyError) as error:
        read_hdf5(write_hdf5(tmp_path / "typo.hdf5", columns))
    assert isinstance(error.value, KeyError)
    assert str(error.value).startswith(
        "typo.hdf5 lacks rewards (reward); it has actions, observations, score, terminals, timeouts. A map says"
    )


def test_file_without_datasets_is_refused(tmp_path):
    with pytest.raises(DatasetKeyError, match="it has nothing"):
        read_hdf5(write_hdf5(tmp_path / "empty.hdf5", {}))


def test_empty_column_is_refused_by_name(tmp_path):
    columns = {key: column[:0] for key, column in worked_example().items()}
    with pytest.raises(DatasetValueError, match=r"none\.hdf5: observations is empty"):
        read_hdf5(write_hdf5(tmp_path / "none.hdf5", columns))


def test_one_row_leaves_nothing_in_parity(tmp_path):
    columns = {key: column[:1] for key, column in worked_example().items()}
    with pytest.raises(DatasetValueError, match="parity leaves none of its 1 rows"):
        read_hdf5(write_hdf5(tmp_path / "one.hdf5", columns), mode="parity")


def test_unequal_lengths_are_refused_with_all_lengths(tmp_path):
    columns = worked_example()
    columns["actions"] = columns["actions"][:7]
    with pytest.raises(DatasetValueError, match="'observations': 8, 'actions': 7"):
        read_hdf5(write_hdf5(tmp_path / "short.hdf5", columns))


def test_flat_actions_are_refused(tmp_path):
    columns = worked_example()
    columns["actions"] = columns["actions"][:, 0]
    with pytest.raises(DatasetValueError, match=r"actions has shape \(8,\), expected \(N, dim\)"):
        read_hdf5(write_hdf5(tmp_path / "flat.hdf5", columns))


def test_text_columns_are_refused(tmp_path):
    columns = worked_example() | {"rewards": np.array([b"a"] * 8)}
    with pytest.raises(DatasetValueError, match=r"rewards holds .* expected numbers"):
        read_hdf5(write_hdf5(tmp_path / "text.hdf5", columns))


def test_nan_is_refused_with_column_count_and_row_of_the_file(tmp_path):
    columns = worked_example()
    columns["observations"][[4, 6], 0] = np.nan
    with pytest.raises(DatasetValueError, match="observations holds 2 NaN or inf, the first in row 4"):
        read_hdf5(write_hdf5(tmp_path / "nan.hdf5", columns))


def test_float64_beyond_float32_is_refused(tmp_path):
    columns = worked_example()
    columns["rewards"] = columns["rewards"].astype(np.float64)
    columns["rewards"][3] = 1e300
    with pytest.raises(DatasetValueError, match="rewards holds 1 NaN or inf, the first in row 3"):
        read_hdf5(write_hdf5(tmp_path / "huge.hdf5", columns))


def test_truncated_file_is_refused(example):
    example.write_bytes(example.read_bytes()[:2000])
    with pytest.raises(DatasetValueError, match=r"tiny\.hdf5 \(2,000 bytes\) cannot be read as HDF5"):
        read_hdf5(example)


def test_file_of_another_format_is_refused(tmp_path):
    path = tmp_path / "page.hdf5"
    path.write_text("<html>404</html>")
    with pytest.raises(DatasetValueError, match="another format"):
        read_hdf5(path)


def test_missing_path_and_folder_are_refused(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"nowhere\.hdf5 is not there"):
        read_hdf5(tmp_path / "nowhere.hdf5")
    with pytest.raises(DatasetNotFoundError, match="is a folder"):
        read_hdf5(tmp_path)


def test_absent_d4rl_file_error_gives_url_folders_and_target(d4rl_dir, tmp_path):
    with pytest.raises(DatasetNotFoundError) as error:
        load_dataset("hopper-medium-replay-v2")
    message = str(error.value)
    assert isinstance(error.value, FileNotFoundError)
    assert "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/hopper_medium_replay-v2.hdf5" in message
    assert str(d4rl_dir / "hopper_medium_replay-v2.hdf5") in message
    assert str(tmp_path / "home" / ".d4rl" / "datasets") in message


# the catalogue


def test_home_folder_is_searched_after_the_environment_variable(d4rl_dir, tmp_path):
    home = tmp_path / "home" / ".d4rl" / "datasets" / "hopper_medium-v2.hdf5"
    write_hdf5(home, worked_example())
    assert find_file("hopper-medium-v2") == home
    write_hdf5(d4rl_dir / "hopper_medium-v2.hdf5", worked_example())
    assert find_file("hopper-medium-v2") == d4rl_dir / "hopper_medium-v2.hdf5"


def test_d4rl_locomotion_is_evaluated_in_v4(d4rl_dir):
    write_hdf5(d4rl_dir / "walker2d_medium_expert-v2.hdf5", worked_example())
    assert load_dataset("walker2d-medium-expert-v2").env_id == "Walker2d-v4"


def test_file_named_as_d4rl_names_it_is_that_dataset(tmp_path):
    dataset = load_dataset(write_hdf5(tmp_path / "hopper_medium-v2.hdf5", worked_example()))
    assert dataset.name == "hopper-medium-v2"
    assert dataset.env_id == "Hopper-v4"


LOCOMOTION = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
ALL_IDS = [
    *(f"{env}-{data}-v2" for env in ("hopper", "halfcheetah", "walker2d", "ant") for data in LOCOMOTION),
    *(f"antmaze-{maze}-v2" for maze in ("umaze", "umaze-diverse", "medium-play", "medium-diverse")),
    *(
        "antmaze-large-play-v2",
        "antmaze-large-diverse-v2",
        "antmaze-ultra-play-v0",
        "antmaze-ultra-diverse-v0",
    ),
    *(f"maze2d-{maze}{dense}-v1" for maze in ("umaze", "medium", "large") for dense in ("", "-dense")),
    *(f"{env}-{data}-v1" for env in ("pen", "door", "hammer", "relocate") for data in ("human", "cloned", "expert")),
    *("kitchen-complete-v0", "kitchen-partial-v0", "kitchen-mixed-v0"),
]


@pytest.mark.parametrize("name", ALL_IDS)
def test_every_published_id_has_a_family_and_an_hdf5_file(name):
    assert name.startswith(CATALOG[name].family + "-")
    assert CATALOG[name].file_name.endswith(".hdf5")


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("hopper-medium-replay-v2", "hopper_medium_replay-v2.hdf5"),
        ("pen-cloned-v1", "pen-cloned-v1.hdf5"),
        ("maze2d-large-v1", "maze2d-large-sparse-v1.hdf5"),
        ("maze2d-open-dense-v0", "maze2d-open-dense.hdf5"),
        ("antmaze-umaze-v2", "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5"),
        (
            "antmaze-large-play-v2",
            "Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse_fixed.hdf5",
        ),
        ("antmaze-medium-diverse-v0", "Ant_maze_big-maze_noisy_multistart_True_multigoal_True_sparse.hdf5"),
        ("antmaze-ultra-play-v0", "Ant_maze_ultra_noisy_multistart_True_multigoal_False_sparse.hdf5"),
    ],
)
def test_file_names_are_d4rls(name, file_name):
    assert CATALOG[name].file_name == file_name


def test_file_names_are_unique():
    assert len({file.file_name for file in CATALOG.values()}) == len(CATALOG)


def test_find_file_of_an_unknown_id_lists_the_known_ones():
    with pytest.raises(DatasetKeyError, match="no D4RL dataset 'hopper-easy-v2'; known are hopper-random-v2"):
        find_file("hopper-easy-v2")


def test_every_error_is_a_dataset_error():
    assert all(issubclass(kind, DatasetError) for kind in (DatasetKeyError, DatasetNotFoundError, DatasetValueError))

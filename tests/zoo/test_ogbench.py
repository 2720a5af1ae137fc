"""The OGBench reader against its own package's loader, and against rows worked out by hand."""

import numpy as np
import pytest

from zoo.datasets.checks import DatasetKeyError, DatasetNotFoundError, DatasetValueError
from zoo.datasets.load import load_dataset
from zoo.datasets.readers.ogbench import find_file, read_ogbench

NAME = "pointmaze-medium-navigate-v0"
TASK = "pointmaze-medium-navigate-singletask-task1-v0"
STATES = [3, 2, 4]  # of each trajectory; one fewer transitions


def published(seed: int = 0, **changes) -> dict[str, np.ndarray]:
    """A file as OGBench publishes it: T + 1 rows a trajectory, the last one with terminals and without an action."""
    rows, rng = sum(STATES), np.random.default_rng(seed)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(STATES) - 1] = True
    qpos = rng.uniform(0.0, 20.0, (rows, 2))
    return {
        "observations": qpos.astype(np.float32),
        "actions": rng.uniform(-1.0, 1.0, (rows, 2)).astype(np.float32),
        "terminals": terminals,
        "qpos": qpos.astype(np.float32),
        "qvel": np.zeros((rows, 2), np.float32),
    } | changes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def with_task(**changes) -> dict[str, np.ndarray]:
    rows = np.arange(sum(STATES), dtype=np.float32)
    masks = np.ones(len(rows))
    masks[1] = 0.0  # success inside the first trajectory
    return published(rewards=rows, masks=masks) | changes


def test_last_states_are_no_transitions(tmp_path):
    np.savez(tmp_path / "mine.npz", **with_task())
    dataset = load_dataset(tmp_path / "mine.npz")
    assert dataset.rewards.tolist() == [0.0, 1.0, 3.0, 5.0, 6.0, 7.0]
    assert dataset.episode_ids.tolist() == [0, 0, 1, 2, 2, 2]
    obs = with_task()["observations"]
    assert np.array_equal(dataset.next_observations, obs[[1, 2, 4, 6, 7, 8]])


def test_success_masks_the_value_and_the_trajectory_goes_on(tmp_path):
    masks = np.ones(sum(STATES))
    masks[[0, 3]] = 0.0
    np.savez(tmp_path / "mine.npz", **with_task(masks=masks))
    dataset = load_dataset(tmp_path / "mine.npz")
    assert dataset.terminations.tolist() == [True, False, True, False, False, False]
    assert dataset.truncations.tolist() == [False, True, False, False, False, True]
    assert dataset.num_episodes == 3


@pytest.mark.parametrize("compact", [False, True])
def test_what_ogbenchs_loader_returns_reads_as_the_published_file(tmp_path, compact):
    utils = pytest.importorskip("ogbench.utils")
    np.savez(tmp_path / "published.npz", **published())
    loaded = utils.load_dataset(str(tmp_path / "published.npz"), compact_dataset=compact)
    count = len(loaded["observations"])
    values = np.arange(sum(STATES), dtype=np.float32)
    kept = values if compact else values[[0, 1, 3, 5, 6, 7]]
    np.savez(tmp_path / "loaded.npz", **loaded, rewards=kept, masks=np.ones(count))
    np.savez(tmp_path / "raw.npz", **with_task(masks=np.ones(sum(STATES))))
    theirs, ours = read_ogbench(tmp_path / "loaded.npz"), read_ogbench(tmp_path / "raw.npz")
    for name in ours.columns:
        assert np.array_equal(ours.column(name), theirs.column(name)), name
    if not compact:
        assert np.array_equal(ours.next_observations, loaded["next_observations"])
        assert np.flatnonzero(loaded["terminals"]).tolist() == np.flatnonzero(ours.truncations).tolist()


def test_single_task_rewards_are_those_of_the_package(folder):
    ogbench = pytest.importorskip("ogbench")
    goal = ogbench.make_env_and_datasets(TASK, env_only=True).unwrapped.task_infos[0]["goal_xy"]
    qpos = published()["qpos"]
    qpos[[1, 6]] = np.asarray(goal) + 0.1  # two successes, the first in a trajectory's middle
    for suffix in ("", "-val"):
        np.savez(folder / f"{NAME.removesuffix('-v0')}-v0{suffix}.npz", **published(qpos=qpos))
    env, theirs, _ = ogbench.make_env_and_datasets(TASK, dataset_dir=str(folder))
    dataset = load_dataset(TASK)
    assert np.array_equal(dataset.observations, theirs["observations"])
    assert np.array_equal(dataset.next_observations, theirs["next_observations"])
    assert np.array_equal(dataset.actions, theirs["actions"])
    assert np.array_equal(dataset.rewards, theirs["rewards"])
    assert np.array_equal(dataset.terminations, theirs["masks"] == 0.0)
    assert dataset.terminations.sum() == 2
    assert (dataset.name, dataset.env_id) == (TASK, f"ogbench:{env.spec.id}")


def test_goal_conditioned_file_is_refused_with_the_task_to_load(folder):
    np.savez(folder / f"{NAME}.npz", **published())
    for name in (NAME, folder / f"{NAME}.npz"):
        with pytest.raises(DatasetKeyError, match=r"goal-conditioned.*pointmaze-medium-navigate-singletask-v0"):
            load_dataset(name)


def test_file_without_states_has_no_rewards_to_compute(folder):
    pytest.importorskip("ogbench")
    columns = published()
    del columns["qpos"]
    np.savez(folder / f"{NAME}.npz", **columns)
    with pytest.raises(DatasetKeyError, match="need the key qpos"):
        load_dataset(TASK)


def test_without_the_package_the_extra_is_named(folder, monkeypatch):
    np.savez(folder / f"{NAME}.npz", **published())
    monkeypatch.setitem(__import__("sys").modules, "ogbench.relabel_utils", None)
    monkeypatch.setitem(__import__("sys").modules, "ogbench", None)
    with pytest.raises(ImportError, match=r"pip install 'offline-agent-zoo\[ogbench\]'"):
        load_dataset(TASK)


def test_absent_file_error_gives_url_and_target(folder):
    with pytest.raises(DatasetNotFoundError) as error:
        load_dataset("cube-single-play-singletask-task2-v0")
    assert "https://rail.eecs.berkeley.edu/datasets/ogbench/cube-single-play-v0.npz" in str(error.value)
    assert str(folder / "cube-single-play-v0.npz") in str(error.value)


def test_home_folder_is_searched_after_the_environment_variable(folder):
    home = folder / "home" / ".ogbench" / "data"
    home.mkdir(parents=True)
    np.savez(home / f"{NAME}.npz", **published())
    assert find_file(NAME) == home / f"{NAME}.npz"
    np.savez(folder / f"{NAME}.npz", **published())
    assert find_file(NAME) == folder / f"{NAME}.npz"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((9, 8, 8, 3), np.uint8)}, r"observations has shape \(9, 8, 8, 3\)"),
        ({"terminals": np.zeros(5, bool)}, "columns differ in length"),
        ({"terminals": np.ones(9, bool)}, "observations is empty"),
        ({"masks": np.full(9, np.nan)}, "masks holds 9 NaN or inf"),
    ],
)
def test_broken_files_are_refused(tmp_path, changes, message):
    np.savez(tmp_path / "mine.npz", **with_task(**changes))
    with pytest.raises(DatasetValueError, match=message):
        load_dataset(tmp_path / "mine.npz")


def test_file_that_was_cut_in_a_trajectory_loses_its_last_state(tmp_path):
    np.savez(tmp_path / "mine.npz", **{key: column[:7] for key, column in with_task().items()})
    dataset = load_dataset(tmp_path / "mine.npz")
    assert dataset.rewards.tolist() == [0.0, 1.0, 3.0, 5.0]
    assert dataset.truncations.tolist() == [False, False, True, True]  # row 1 succeeded

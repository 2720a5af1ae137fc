"""What the writers wrote, read by the tools of others and by our own readers."""

import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box

from tests.support.data import BOX, toy_dataset
from zoo import Episode, from_episodes, load_dataset, open_packed
from zoo.datasets.checks import DatasetValueError
from zoo.datasets.dataset import STORED, OfflineDataset
from zoo.datasets.writers import export, write_d4rl, write_minari

SPACE = Box(np.array([-5.0, 0.0], np.float32), np.array([5.0, 9.0], np.float32))


def walks_on() -> OfflineDataset:
    """AntMaze's way: two episodes of three steps that go on after a success in their second."""
    episodes = [
        Episode(start + np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]), np.full((3, 1), 0.5), [0, 1, 0],
                terminations=[False, True, False]) for start in (0.0, 1.0)
    ]  # fmt: skip
    return from_episodes(episodes, observation_space=SPACE, action_space=Box(-1.0, 2.0, (1,)), env_id="Maze-v0")


def same(one: OfflineDataset, other: OfflineDataset) -> bool:
    return (
        all(np.array_equal(one.column(name), other.column(name)) for name in STORED)
        and one.action_space == other.action_space
        and one.observation_space == other.observation_space
        and one.env_id == other.env_id
    )


@pytest.fixture
def minari(tmp_path, monkeypatch):
    package = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return package


# D4RL's layout


@pytest.mark.parametrize("make", [toy_dataset, walks_on, lambda: load_dataset("hopper-medium-replay")])
def test_our_reader_gives_the_written_dataset_again(tmp_path, make):
    dataset = make()
    read = load_dataset(write_d4rl(dataset, tmp_path / "out.hdf5"))
    assert same(dataset, read)
    assert read.name == "out"
    for key in set(dataset.provenance) - {"file", "sha256", "source"}:
        assert read.provenance[key] == dataset.provenance[key]


def test_another_reader_of_d4rls_keys_finds_them(tmp_path):
    dataset = toy_dataset()
    with h5py.File(write_d4rl(dataset, tmp_path / "out.h5")) as file:
        assert set(file) == {"observations", "actions", "rewards", "next_observations", "terminals", "timeouts"}
        assert {key: column.dtype.name for key, column in file.items()} == {
            "observations": "float32", "actions": "float32", "rewards": "float32", "next_observations": "float32",
            "terminals": "bool", "timeouts": "bool",
        }  # fmt: skip
        ends = file["terminals"][()] | file["timeouts"][()]
    assert np.flatnonzero(ends).tolist() == list(range(6, 210, 7))  # episodes of 7


def test_success_inside_an_episode_is_no_end_in_the_file(tmp_path):
    with h5py.File(write_d4rl(walks_on(), tmp_path / "out.hdf5")) as file:
        assert np.flatnonzero(file["terminals"]).tolist() == [1, 4]
        assert np.flatnonzero(file["timeouts"]).tolist() == [2, 5]


def test_gap_inside_an_episode_is_refused_and_no_file_is_left(tmp_path):
    dataset = OfflineDataset.from_arrays(
        [[0.0], [5.0]], [[0.0], [0.0]], [0.0, 0.0], [[1.0], [6.0]], [False, False], [False, True]
    )  # the second state is not the first one's successor
    with pytest.raises(DatasetValueError, match="truncations reads back differently from row 0"):
        write_d4rl(dataset, tmp_path / "out.hdf5")
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_the_older_file(tmp_path, monkeypatch):
    path = write_d4rl(toy_dataset(70), tmp_path / "out.hdf5")
    before = path.read_bytes()
    monkeypatch.setattr(h5py.Group, "create_dataset", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_d4rl(toy_dataset(140), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.npz", "hopper_medium-v2.hdf5"])
def test_names_that_mean_something_else_are_refused(tmp_path, name):
    with pytest.raises(DatasetValueError, match=r"must end in|is the file of D4RL's own hopper-medium-v2"):
        write_d4rl(toy_dataset(), tmp_path / name)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"action_low": [1.0, 0.0], "action_high": [-1.0, 1.0]}, "are no box"),
        ({"action_low": [-1.0], "action_high": [1.0]}, r"action_space is Box.*rows of shape \(2,\)"),
        ({"episode_ends": "dones"}, "episode_ends must name some of terminals timeouts, got 'dones'"),
    ],
)
def test_attributes_that_make_no_sense_are_refused(tmp_path, attributes, message):
    path = write_d4rl(toy_dataset(), tmp_path / "out.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs.update(attributes)
    with pytest.raises(DatasetValueError, match=message):
        load_dataset(path)


# Minari


def test_minari_loads_what_was_written_and_so_do_we(minari):
    dataset = toy_dataset()
    write_minari(dataset, "mine/toy-v0")
    theirs = minari.load_dataset("mine/toy-v0")
    assert list(minari.list_local_datasets()) == ["mine/toy-v0"]
    assert (theirs.total_episodes, theirs.total_steps) == (30, 210)
    assert theirs.action_space == BOX
    for i, episode in enumerate(theirs.iterate_episodes()):
        rows = slice(7 * i, 7 * i + 7)
        assert np.array_equal(episode.observations[:-1], dataset.observations[rows])
        assert np.array_equal(episode.observations[1:], dataset.next_observations[rows])
        assert np.array_equal(episode.actions, dataset.actions[rows])
        assert np.array_equal(episode.rewards, dataset.rewards[rows])
        assert episode.terminations.tolist() == dataset.terminations[rows].tolist()
        assert episode.truncations.tolist() == dataset.truncations[rows].tolist()
    assert same(dataset, load_dataset("mine/toy-v0"))


def test_minari_recovers_the_environment_and_d4rls_references(minari):
    dataset = OfflineDataset.from_arrays(
        np.zeros((1, 3)), [[1.5]], [-1.0], np.ones((1, 3)), [False], [True], action_space=Box(-2.0, 2.0, (1,)),
        env_id="Pendulum-v1", name="hopper-medium-v2", provenance={"env_kwargs": '{"g": 2.5}'},
    )  # fmt: skip
    write_minari(dataset, "mine/toy-v0")
    theirs = minari.load_dataset("mine/toy-v0")
    assert theirs.recover_environment().unwrapped.g == 2.5
    assert minari.get_normalized_score(theirs, 1000.0) == pytest.approx(0.313489, abs=5e-7)


def test_episodes_are_split_where_minari_ends_them(minari):
    """After each success; the fourth rows of walks_on's six would otherwise be lost on other readers."""
    write_minari(walks_on(), "mine/maze-v0")
    theirs = minari.load_dataset("mine/maze-v0")
    assert [len(episode) for episode in theirs.iterate_episodes()] == [2, 1, 2, 1]
    assert [bool(e.terminations[-1]) for e in theirs.iterate_episodes()] == [True, False, True, False]
    assert "Split 2 times" in theirs.storage.metadata["description"]
    read = load_dataset("mine/maze-v0")
    for name in STORED[:5]:
        assert np.array_equal(read.column(name), walks_on().column(name))


@pytest.mark.parametrize("dataset_id", ["no-version", "a b/c-v0", "../x-v0"])
def test_malformed_ids_are_refused(minari, dataset_id):
    with pytest.raises(DatasetValueError, match="is no Minari id"):
        write_minari(toy_dataset(), dataset_id)


def test_id_that_is_taken_is_refused(minari):
    write_minari(toy_dataset(), "mine/toy-v0")
    with pytest.raises(DatasetValueError, match="exists: choose another version"):
        write_minari(toy_dataset(), "mine/toy-v0")


def test_failure_leaves_nothing_in_minaris_folder(minari, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.datasets.writers._buffers", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_minari(toy_dataset(), "mine/toy-v0")
    assert [path.name for path in (tmp_path / "minari").rglob("*")] == ["mine"]  # the namespace alone


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(ImportError, match=r"writing mine/toy-v0 needs.*pip install 'offline-agent-zoo\[minari\]'"):
        write_minari(toy_dataset(), "mine/toy-v0")


@pytest.mark.parametrize("size", [2, 2_000])  # the second is more than HDF5's small attributes hold
def test_names_and_units_travel_with_the_file(tmp_path, size):
    stated = {"control_rate_hz": 20.0, "observations": [{"name": f"joint {i}", "unit": "rad"} for i in range(size)]}
    dataset = from_episodes([Episode(np.zeros((3, size)), np.zeros((2, 1)), [0.0, 1.0])], stated=stated)
    read = load_dataset(write_d4rl(dataset, tmp_path / "arm.hdf5"))
    assert read.stated == stated
    assert read.observation_names[1] == "joint 1"
    assert read.action_names == ("actions[0]",)
    assert open_packed(export_packed(tmp_path)).stated == stated


def export_packed(folder):
    export(str(folder / "arm.hdf5"), str(folder / "arm"), "packed")
    return folder / "arm"

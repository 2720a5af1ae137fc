"""Merge, split and filter, against rows worked out by hand; from Python and from the command line."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box

from tests.support.data import BOX, LENGTH, toy_dataset
from zoo import load_dataset
from zoo.datasets.checks import DatasetValueError
from zoo.datasets.dataset import STORED, OfflineDataset
from zoo.datasets.editing import Wanted, filtered, split
from zoo.datasets.writers import write


def three() -> OfflineDataset:
    """Returns 1, 5, 3; lengths 1, 2, 3; the second terminates."""
    rewards = [1.0, 2.0, 3.0, 1.0, 1.0, 1.0]
    flags = [False, False, True, False, False, False], [True, False, False, False, False, True]
    x = np.arange(7.0)[:, None]
    return OfflineDataset.from_arrays(x[:-1], np.zeros((6, 1)), rewards, x[1:], *flags, name="three")


def test_sums_of_datasets_keep_their_rows_and_their_episodes_apart():
    one, other = toy_dataset(14, seed=1, name="mon"), toy_dataset(21, seed=2, name="tue")
    both = one + other
    for name in STORED[:-1]:
        assert np.array_equal(both.column(name), np.concatenate([one.column(name), other.column(name)]))
    assert both.episode_ids.tolist() == np.repeat(range(5), LENGTH).tolist()
    assert both.name == "mon + tue"
    made = json.loads(str(both.provenance["made_from"]))
    assert [(part["name"], part["transitions"]) for part in made] == [("mon", 14), ("tue", 21)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_space": Box(-3.0, 3.0, (2,))}, "differ in their action boxes"),
        ({"stated": {"observations": [{"name": n} for n in "abc"]}}, "differ in their names and units"),
    ],
)
def test_data_of_another_robot_are_not_merged(changes, message):
    data = toy_dataset(14)
    columns = {name: data.column(name) for name in STORED}
    mine = OfflineDataset.from_arrays(
        **columns, **({"action_space": BOX, "stated": {"observations": [{"name": n} for n in "xyz"]}})
    )
    other = OfflineDataset.from_arrays(**columns, **({"action_space": BOX} | changes))
    with pytest.raises(DatasetValueError, match=message):
        OfflineDataset.join([mine, other])


def test_episodes_are_taken_in_the_order_asked_for():
    data = three()
    assert data.episodes([2, 0]).rewards.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert data.episodes([2, 0]).episode_ids.tolist() == [0, 0, 0, 1]
    assert data.episodes([2, 0]).observations[:, 0].tolist() == [3.0, 4.0, 5.0, 0.0]
    assert data.episodes(data.episode_returns() > 2).episode_returns().tolist() == [5.0, 3.0]
    with pytest.raises(DatasetValueError, match="three has the episodes 0 to 2"):
        data.episodes([3])
    with pytest.raises(DatasetValueError, match=r"a mask of \(2,\) for the 3 episodes"):
        data.episodes([True, False])


@pytest.mark.parametrize(
    ("wanted", "returns"),
    [
        (Wanted(min_return=2.0), [5.0, 3.0]),
        (Wanted(max_return=3.0, min_length=2), [3.0]),
        (Wanted(max_length=1), [1.0]),
        (Wanted(ends="terminated"), [5.0]),
        (Wanted(ends="truncated"), [1.0, 3.0]),
        (Wanted(top=0.5), [5.0, 3.0]),  # two of three: rounded up
        (Wanted(top=0.3), [5.0]),
        (Wanted(ends="truncated", top=0.5), [3.0]),
    ],
)
def test_filters_keep_what_is_wanted(wanted, returns):
    assert filtered(three(), wanted).episode_returns().tolist() == returns


def test_a_filter_that_leaves_nothing_says_what_there_is():
    with pytest.raises(DatasetValueError, match="returns are 1 to 5, lengths 1 to 3, 1 of 3 end in a termination"):
        filtered(three(), Wanted(min_return=9.0))


def test_a_split_divides_the_episodes_and_none_is_in_both():
    data = toy_dataset(70)
    one, other = split(data, 0.7, seed=3)
    assert (one.num_episodes, other.num_episodes) == (7, 3)
    rows = [set(map(bytes, part.observations)) for part in (one, other)]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == set(map(bytes, data.observations))
    with pytest.raises(DatasetValueError, match="leaves one side without any"):
        split(data, 0.01)


def test_the_command_line_writes_them(tmp_path, monkeypatch, capsys):
    from zoo.cli.main import main

    def run(*words):
        monkeypatch.setattr("sys.argv", ["zoo", "data", *map(str, words)])
        main()

    a, b = write(toy_dataset(14, seed=1), tmp_path / "a.hdf5"), write(toy_dataset(21, seed=2), tmp_path / "b.hdf5")
    run("merge", a, b, tmp_path / "both.hdf5")
    assert load_dataset(tmp_path / "both.hdf5").num_episodes == 5
    run("split", tmp_path / "both.hdf5", tmp_path / "train.hdf5", tmp_path / "held.hdf5", "--part", "0.6")
    assert [load_dataset(tmp_path / f"{name}.hdf5").num_episodes for name in ("train", "held")] == [3, 2]
    run("filter", tmp_path / "both.hdf5", tmp_path / "failed.hdf5", "--ends", "terminated")
    failed = load_dataset(tmp_path / "failed.hdf5")
    assert failed.num_episodes == 2
    assert "made_from" in failed.provenance
    with pytest.raises(SystemExit):  # what is there stays
        run("merge", a, b, tmp_path / "both.hdf5")
    assert "--overwrite replaces it" in capsys.readouterr().err
    run("merge", a, b, tmp_path / "both.hdf5", "--overwrite")
    with pytest.raises(SystemExit):
        run("merge", a, tmp_path / "alone.hdf5")
    assert "two or more datasets" in capsys.readouterr().err

"""Where segments end: terminals inside episodes, jumps, and data whose successors are never the next row."""

import dataclasses

import numpy as np

from tests.support.data import LENGTH, toy_dataset
from tests.support.mazes import EPISODES, STEPS, SUCCESSES, walking_on
from zoo.agents.shared.segments import segment_ends, segment_ids
from zoo.datasets.packed import open_packed
from zoo.datasets.packing import write_packed


def test_an_episode_ends_its_segment_and_so_does_every_terminal_inside_it():
    ends = segment_ends(walking_on()).reshape(EPISODES, STEPS)
    assert np.flatnonzero(ends[0]).tolist() == [30, 31, 32, 33, 59]
    assert np.flatnonzero(ends[1]).tolist() == [59]
    ids = segment_ids(walking_on()).reshape(EPISODES, STEPS)
    assert ids[0, SUCCESSES].tolist() == [0, 1, 2, 3]
    assert (ids[0, 0], ids[0, -1], ids[1, 0], ids[-1, -1]) == (0, 4, 5, 4 * 5 + 4 - 1)


def moved(rows: list[int]):
    """The toy data, without a flag at rows whose successor is somewhere else than the next row."""
    data = toy_dataset(rows=4 * LENGTH)
    successors = data.next_observations.copy()
    successors[rows] += np.float32(1e-3)
    return dataclasses.replace(data, next_observations=successors)


def test_a_jump_ends_a_segment():
    assert np.flatnonzero(segment_ends(moved([2, 16]))).tolist() == [2, 6, 13, 16, 20, 27]


def test_where_the_next_row_is_never_the_successor_only_the_flags_count():
    assert np.flatnonzero(segment_ends(moved(list(range(4 * LENGTH))))).tolist() == [6, 13, 20, 27]


def test_packed_data_have_the_same_segments(tmp_path):
    data = moved([2, 16])
    write_packed(data, tmp_path / "toy")
    assert segment_ids(open_packed(tmp_path / "toy")).tolist() == segment_ids(data).tolist()

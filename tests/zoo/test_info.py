"""The report of describe(), read as a person would: by its lines."""

import numpy as np
import pytest
from gymnasium.spaces import Box

from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.doctor.info import describe
from zoo.datasets.load import load_dataset


@pytest.fixture(scope="module")
def hopper_report():
    return describe(load_dataset("hopper-medium-replay"))


def two_episodes(**options) -> OfflineDataset:
    """Returns 3 and 12; lengths 2 and 1."""
    return OfflineDataset.from_arrays(
        [[0.0], [1.0], [5.0]], [[0.0], [0.5], [-0.5]], [1.0, 2.0, 12.0], [[1.0], [2.0], [6.0]],
        [False, True, False], [False, False, True], **options,
    )  # fmt: skip


def words(report: str) -> list[list[str]]:
    return [line.split() for line in report.splitlines()]


def test_report_fits_in_80_columns(hopper_report):
    assert max(len(line) for line in hopper_report.splitlines()) <= 80
    long = "a warning of many words " * 12
    assert max(len(line) for line in describe(two_episodes(warnings=(long,))).splitlines()) <= 80


def test_report_names_source_mode_environment_and_size(hopper_report):
    lines = words(hopper_report)
    assert ["source", "hopper-medium-replay.hdf5"] in lines
    assert ["read", "in", "mode", "full"] in lines
    assert ["environment", "Hopper-v5"] in lines
    assert ["transitions", "100,541"] in lines
    assert ["episodes", "553,", "with", "553", "terminations", "and", "0", "truncations"] in lines


def test_report_gives_mean_std_min_and_max_of_returns_and_scores(hopper_report):
    lines = words(hopper_report)
    assert ["return", "522.6", "379.2", "3.6", "1,600.6"] in lines
    assert ["score", "16.7", "11.7", "0.7", "49.8"] in lines


def test_histogram_counts_every_episode(hopper_report):
    counts = [int(line.split()[-1]) for line in hopper_report.splitlines() if " .. " in line]
    assert len(counts) == 8
    assert sum(counts) == 553


def test_histogram_bar_is_longest_where_most_episodes_are():
    rewards = [0.0] * 8 + [80.0] * 2
    flags = [True] * 10
    dataset = OfflineDataset.from_arrays([[0.0]] * 10, [[0.0]] * 10, rewards, [[0.0]] * 10, flags, [False] * 10)
    bars = [line.count("#") for line in describe(dataset).splitlines() if " .. " in line]
    assert bars == [40, 0, 0, 0, 0, 0, 0, 10]


def test_equal_returns_need_no_histogram():
    dataset = OfflineDataset.from_arrays([[0.0]], [[0.0]], [7.0], [[0.0]], [True], [False])
    assert "7.0: all 1" in describe(dataset)


def test_dataset_without_references_has_no_score():
    lines = words(describe(two_episodes()))
    assert ["return", "7.5", "4.5", "3.0", "12.0"] in lines
    assert "score" not in [line[0] for line in lines if line]
    assert ["environment", "unknown"] in lines


def test_ranges_are_given_per_component():
    lines = words(describe(two_episodes()))
    assert ["observations[0]", "2", "2.16", "0", "5"] in lines
    assert ["actions[0]", "0", "0.4082", "-0.5", "0.5", "[-1,", "1]"] in lines
    assert ["rewards", "5", "4.967", "1", "12"] in lines


def test_components_beyond_24_share_a_row():
    wide = np.zeros((1, 111))
    report = describe(OfflineDataset.from_arrays(wide, [[0.0]], [1.0], wide, [True], [False]))
    assert "observations[23]" in report
    assert "observations[24:]" in report
    assert "observations[24] " not in report


def test_bounds_that_differ_between_components_are_mentioned():
    box = Box(np.array([-1.0, -4.0], np.float32), np.array([1.0, 2.0], np.float32))
    dataset = OfflineDataset.from_arrays([[0.0]], [[0.0, 0.0]], [1.0], [[0.0]], [True], [False], action_space=box)
    assert "2 numbers in [-4, 2], each with bounds of its own" in describe(dataset)


def test_warnings_are_listed_and_their_absence_is_said(hopper_report):
    report = describe(two_episodes(warnings=("the cable was loose",)))
    assert "- the cable was loose" in report.splitlines()
    assert "- no names and units are stated" in hopper_report.split("to notice\n")[1]


def test_names_units_rate_and_limits_are_shown():
    stated = {"control_rate_hz": 20.0, "observations": [{"name": "knee", "unit": "rad", "low": -3.0, "high": 3.0}]}
    report = words(describe(two_episodes(stated=stated)))
    assert ["knee", "[rad]", "2", "2.16", "0", "5", "[-3,", "3]"] in report
    assert ["control", "rate", "20", "Hz,", "0.0", "minutes"] in report


def test_a_newcomer_is_told_what_to_notice():
    data = OfflineDataset.from_arrays(
        [[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]], [[0.0], [0.01], [0.0]], [1.0] * 3, [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]],
        [False] * 3, [False, True, True],
    )  # fmt: skip
    report = " ".join(describe(data).split())
    assert "constant: observations[1]; nothing is learned" in report
    assert "of the box of actions[0] less than 5% was used" in report
    assert "nothing terminates" in report
    assert "3 transitions are few" in report

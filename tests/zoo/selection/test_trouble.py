"""Signs of trouble, each on a case where it must and one where it must not be seen."""

import numpy as np
import pytest

from tests.support.data import HIGH, LOW, tiny, toy_dataset
from zoo.agents import TD3BC
from zoo.datasets.readers.arrays import from_columns
from zoo.selection.trouble import away, edge, promises, read_losses, returns_to_go, rising, signs, told


def test_returns_to_go_end_at_a_termination_and_go_on_after_a_time_limit():
    data = from_columns(
        {
            "observations": np.zeros((4, 1)),
            "actions": np.zeros((4, 1)),
            "rewards": np.array([1.0, 2.0, 3.0, 5.0]),
            "next_observations": np.zeros((4, 1)),
            "terminations": np.array([False, True, False, False]),
            "truncations": np.array([False, False, False, True]),
        }
    )
    # 1 + 0.5 * 2, 2 | the second episode goes on with 4 a step, worth 8: 5 + 0.5 * 8 = 9, 3 + 0.5 * 9 = 7.5
    assert returns_to_go(data, 0.5).tolist() == [2.0, 2.0, 7.5, 9.0]


def test_a_promise_beyond_every_return_is_a_sign():
    assert promises(np.array([12.0, 12.5]), np.array([3.0, 8.9])).bad
    assert not promises(np.array([5.0, 12.5]), np.array([3.0, 8.9])).bad


def test_the_edge_of_the_box_is_a_sign_unless_the_data_are_there_too():
    low, high = np.array(LOW), np.array(HIGH)
    corner, middle = np.tile(high, (10, 1)), np.tile((low + high) / 2, (10, 1))
    assert edge(corner, middle, low, high).bad
    assert not edge(middle, middle, low, high).bad
    assert not edge(corner, corner, low, high).bad  # a bang-bang log


def test_actions_that_leave_the_data_are_a_sign():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3_000, 2))
    data = from_columns(
        {
            "observations": states,
            "actions": 0.1 * states,
            "rewards": np.zeros(3_000),
            "next_observations": states,
            "terminations": np.zeros(3_000, bool),
            "truncations": np.ones(3_000, bool),
        },
    )
    rows = np.arange(0, 3_000, 10)
    observations = data.observations[rows]
    assert not away(data, observations, data.actions[rows], rows).bad
    assert away(data, observations, -data.actions[rows], rows).bad  # a flipped sign


@pytest.mark.parametrize(
    ("losses", "bad"),
    [
        ([1, 1, 2, 2, 4, 4, 9, 9], True),
        ([9, 9, 4, 4, 2, 2, 1, 1], False),
        ([1, 1, 5, 5, 4, 4, 4.5, 4.5], False),  # it grew, and stopped
        ([1, 1, 1.1, 1.1, 1.2, 1.2, 1.3, 1.3], False),
    ],
)
def test_a_loss_that_never_stops_rising_is_a_sign(losses, bad):
    assert rising(losses).bad is bad


def test_losses_are_read_from_the_log(tmp_path):
    (tmp_path / "progress.csv").write_text("critic/loss,time/total_timesteps\n1.5,1000\n,1500\n2.5,2000\n")
    assert read_losses(tmp_path / "progress.csv") == [1.5, 2.5]
    assert read_losses(tmp_path / "none.csv") == []


def test_all_signs_of_an_agent_are_told(tmp_path):
    data = toy_dataset()
    found = signs(tiny(TD3BC, data), data)
    assert [sign.name for sign in found] == ["promised value", "edge of the box", "distance to the data"]
    text = told(found)
    assert len(text.splitlines()) == 3 + any(sign.bad for sign in found)

"""The control loop against a scripted robot and a clock that only moves when it is told to."""

import ast
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scripted_robot import ACTION, OBS, PERIOD, SAFE, Robot
from zoo_robot import control
from zoo_robot.control import Limits

SOURCE = Path(control.__file__)
# Deadlines


def test_ticks_begin_at_absolute_deadlines_whatever_the_work_takes():
    robot = Robot([OBS] * 4, thinking=0.03)
    report, written = robot.run()
    assert robot.begun == pytest.approx([0.0, 0.125, 0.25, 0.375])
    assert written == [ACTION] * 4
    assert (report.deadlines, report.kept, report.reason) == (4, 4, "done")


def test_a_sleep_that_is_too_long_every_time_does_not_add_up():
    robot = Robot([OBS] * 4, oversleep=0.01)
    report, _ = robot.run()
    assert robot.begun == pytest.approx([0.0, 0.135, 0.26, 0.385])  # 10 ms late each, and not 10, 20, 30
    assert report.lateness_ms["100"] == pytest.approx(10.0)
    assert report.lateness_ms["50"] == pytest.approx(10.0)


def test_a_sleep_that_is_too_short_is_repeated():
    robot = Robot([OBS] * 2, oversleep=0.0)
    robot.sleep = lambda seconds: setattr(robot, "now", robot.now + min(seconds, 0.05))
    robot.run()
    assert robot.begun == pytest.approx([0.0, 0.125])


def test_missed_deadlines_are_left_out_and_no_burst_follows():
    robot = Robot([OBS] * 4, thinking=[0.0, 0.3, 0.0, 0.0])
    report, _ = robot.run(ticks=6, stale_after=1.0)
    # The second tick begins at 0.125 and ends at 0.425: 0.25 and 0.375 are gone, 0.5 is next.
    assert robot.begun == pytest.approx([0.0, 0.125, 0.5, 0.625])
    assert (report.deadlines, report.kept) == (6, 3)
    assert report.causes["overrun"] == 1


# What is observed


BAD = [
    np.array([0.0, np.nan, 0.0]),
    np.array([np.inf, 0.0, 0.0]),
    np.array([1e39, 0.0, 0.0]),  # finite, but not in the float32 of the policy
    np.zeros(4),
    np.zeros((1, 3)),
    np.zeros(0),
    1.0,
    "forward",
    ["a", "b", "c"],
    [None, None, None],
    np.zeros(3, complex),
    [[1.0], [1.0, 2.0], 3.0],
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_faulty_observation_never_reaches_the_policy_and_the_last_action_is_held(bad):
    robot = Robot([OBS, bad, OBS])
    report, written = robot.run()
    assert len(robot.seen) == 2
    assert written == [ACTION] * 3
    assert (report.outcomes["hold"], report.causes["faulty"]) == (1, 1)
    assert report.last_fault.startswith("the observation ")


def test_what_the_policy_sees_is_float32_and_what_was_read():
    robot = Robot([[1, 2, 3]])
    robot.run()
    assert robot.seen[0].dtype == np.float32
    np.testing.assert_array_equal(robot.seen[0], [1.0, 2.0, 3.0])


def test_the_last_fault_names_what_was_wrong():
    report, _ = Robot([np.zeros(4)]).run()
    assert report.last_fault == "the observation has shape (4,), expected (3,)"
    report, _ = Robot([np.array([0.0, np.nan, -np.inf])]).run()
    assert report.last_fault == "the observation has NaN or infinite entries in dimensions [1, 2]"


@pytest.mark.parametrize("nothing", [None, TimeoutError(), BlockingIOError(), np.full(3, np.nan)], ids=repr)
def test_an_action_is_held_until_its_observation_is_stale_and_not_longer(nothing):
    robot = Robot([OBS, nothing, nothing, nothing, nothing, OBS])
    report, written = robot.run()  # stale_after is two periods: the fourth tick is three after the observation
    assert written == [ACTION, ACTION, ACTION, SAFE, SAFE, ACTION]
    assert report.outcomes == {"policy": 2, "hold": 2, "safe": 2}
    assert report.causes["stale"] == 2


def test_before_the_first_observation_the_action_is_the_safe_one():
    report, written = Robot([None, None, OBS]).run()
    assert written == [SAFE, SAFE, ACTION]
    assert report.causes["stale"] == 2


# What is written


def test_actions_are_kept_inside_the_box():
    robot = Robot([OBS] * 2, action=lambda obs: [[5.0, -5.0], [0.5, 2.0]][len(robot.seen) - 1])
    report, written = robot.run()
    assert written == [[1.0, 0.0], [0.5, 2.0]]
    assert report.limited == 1


def test_actions_change_by_at_most_the_rate_from_what_was_written_before():
    robot = Robot([OBS] * 4, action=[1.0, 0.5])
    limits = Limits([-1.0, 0.0], [1.0, 2.0], SAFE, max_rate=[4.0, 4.0])  # 4 a second are 0.5 a period
    report, written = robot.run(limits=limits)
    assert written == [[0.5, 0.5], [1.0, 0.5], [1.0, 0.5], [1.0, 0.5]]  # the first counts from the safe action
    assert report.limited == 1


def test_the_safe_action_is_written_at_once_and_the_way_back_is_limited():
    robot = Robot([OBS, OBS, None, None, None, OBS], action=[1.0, 0.5])
    _, written = robot.run(limits=Limits(-1.0, 2.0, SAFE, max_rate=4.0), stale_after=PERIOD)
    assert written == [[0.5, 0.5], [1.0, 0.5], [1.0, 0.5], SAFE, SAFE, [0.5, 0.5]]


@pytest.mark.parametrize(
    "action", [[np.nan, 0.0], [0.0, np.inf], [0.0], [[0.0, 0.0]], 0.0, FloatingPointError("not finite")], ids=repr
)
def test_an_action_that_is_none_is_answered_with_the_safe_one(action):
    robot = Robot([OBS, OBS, None], action=lambda obs: ACTION if len(robot.seen) == 1 else action)
    report, written = robot.run()
    assert written == [ACTION, SAFE, SAFE]  # and no way back to the older action
    assert report.causes["action"] == 2
    assert report.last_fault.startswith("the policy")


def test_any_other_error_of_the_policy_is_raised_after_a_safe_action():
    robot = Robot([OBS], action=KeyError("wrong"))
    loop = robot.loop()
    with pytest.raises(KeyError, match="wrong"):
        loop.run()
    assert robot.written == [SAFE]
    assert loop.report().reason == "raised KeyError('wrong')"


# The guard


class Doubts:
    threshold = 2.0

    def __init__(self, *values):
        self.values, self.asked = list(values), []

    def __call__(self, obs, action):
        self.asked.append((obs.tolist(), action.tolist()))
        return self.values.pop(0)


def test_the_guard_falls_back_above_its_threshold_and_on_nan():
    guard = Doubts(2.0, 2.5, np.nan, 1.0)
    report, written = Robot([OBS] * 4).run(guard=guard)
    assert written == [ACTION, SAFE, SAFE, ACTION]
    assert report.causes["guard"] == 2


def test_after_the_guard_only_a_new_observation_leads_back():
    report, written = Robot([OBS, OBS, None, OBS]).run(guard=Doubts(1.0, 9.0, 1.0))
    assert written == [ACTION, SAFE, SAFE, ACTION]
    assert report.causes["guard"] == 2


def test_the_guard_is_asked_about_the_action_that_would_be_written():
    guard = Doubts(0.0)
    Robot([OBS], action=[9.0, 9.0]).run(guard=guard)
    np.testing.assert_allclose(guard.asked[0][0], OBS, rtol=1e-6)
    assert guard.asked[0][1] == [1.0, 2.0]


# Overruns


SLOW_SECOND = [0.0, 1.5 * PERIOD, 0.0]


@pytest.mark.parametrize(("policy", "expected"), [("hold", ACTION), ("safe", SAFE)])
def test_a_late_action_is_dropped_for_the_last_one_or_the_safe_one(policy, expected):
    robot = Robot([OBS] * 3, action=lambda obs: [1.0, 1.0] if len(robot.seen) == 2 else ACTION, thinking=SLOW_SECOND)
    report, written = robot.run(ticks=4, on_overrun=policy, stale_after=1.0)
    assert written == [ACTION, expected, ACTION]
    assert (report.causes["overrun"], report.deadlines, report.kept) == (1, 4, 2)


def test_an_overrun_can_end_the_run():
    report, written = Robot([OBS] * 3, thinking=SLOW_SECOND).run(on_overrun="stop")
    assert written == [ACTION, SAFE]
    assert report.reason == "overrun in tick 1"


def test_a_policy_that_is_always_too_slow_never_acts():
    robot = Robot([OBS] * 4, thinking=1.25 * PERIOD)
    report, written = robot.run(ticks=8)
    assert written == [SAFE] * 4
    assert (report.kept, report.outcomes["safe"], report.causes["overrun"]) == (0, 4, 4)


def test_holding_through_overruns_ends_when_the_last_good_observation_is_stale():
    robot = Robot([OBS] * 4)
    robot.action = lambda obs: (
        setattr(robot, "now", robot.now + (1.25 * PERIOD if len(robot.seen) > 1 else 0)) or ACTION
    )
    report, written = robot.run(ticks=7, stale_after=3 * PERIOD)
    # Ready at 0, 2.25, 4.25 and 6.25 periods; the first observation speaks until the third.
    assert written == [ACTION, ACTION, SAFE, SAFE]
    assert report.causes["stale"] == 1


def test_an_overrun_does_not_undo_the_guard():
    robot = Robot([OBS] * 2, thinking=SLOW_SECOND)
    report, written = robot.run(guard=Doubts(0.0, 9.0), on_overrun="hold", stale_after=1.0)
    assert written == [ACTION, SAFE]
    assert (report.causes["guard"], report.causes["overrun"]) == (1, 0)


# How it ends


def test_a_lost_robot_ends_the_run_and_the_safe_action_is_still_tried():
    report, written = Robot([OBS, ConnectionResetError("gone"), OBS]).run()
    assert written == [ACTION, ACTION]
    assert report.reason == "lost the robot: ConnectionResetError('gone') from read"


def test_a_write_that_fails_ends_the_run_and_is_told(caplog):
    robot = Robot([OBS, OBS])

    def refuse(action):
        raise BrokenPipeError("closed")

    robot.write = refuse
    with caplog.at_level(logging.ERROR, logger="control"):
        report = robot.loop().run()
    assert report.reason == "lost the robot: BrokenPipeError('closed') from write"
    assert "the safe action could not be written at the end" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_tick_and_the_handlers_are_put_back(number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    robot = Robot([OBS, lambda: os.kill(os.getpid(), number) or OBS, OBS])
    report, written = robot.run()
    assert written == [ACTION, ACTION]
    assert report.reason == number.name
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_ends_it_at_once_and_still_safely():
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    robot = Robot([OBS, twice])
    with pytest.raises(KeyboardInterrupt):
        robot.loop().run()
    assert robot.written == [ACTION, SAFE]


def test_stop_from_inside_lets_the_tick_end():
    robot = Robot([OBS] * 3)
    loop = robot.loop()
    robot.script[1] = lambda: loop.stop("the operator") or OBS
    assert loop.run().reason == "the operator"
    assert robot.written == [ACTION, ACTION, SAFE]


def test_it_runs_in_a_thread_where_signals_cannot_be_caught():
    robot = Robot([OBS])
    thread = threading.Thread(target=robot.run)
    thread.start()
    thread.join()
    assert robot.written == [ACTION, SAFE]


def test_a_second_run_holds_nothing_of_the_first():
    robot = Robot([OBS])
    loop = robot.loop()
    loop.run(1)
    report = loop.run(1)
    assert robot.written == [ACTION, SAFE, SAFE, SAFE]
    assert (report.deadlines, report.outcomes["safe"]) == (1, 1)


# The record


def test_the_log_has_the_report_and_every_tick(tmp_path):
    robot = Robot([OBS, None, OBS], thinking=0.01)
    loop = robot.loop(guard=Doubts(0.5, 9.0))
    loop.run(3)
    loop.write_log(tmp_path / "run.jsonl")
    report, *ticks = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert (report["deadlines"], report["causes"]["guard"], report["reason"]) == (3, 1, "done")
    assert [t["tick"] for t in ticks] == [0, 1, 2]
    assert [(t["outcome"], t["cause"]) for t in ticks] == [("policy", "none"), ("hold", "missing"), ("safe", "guard")]
    assert [t["doubt"] for t in ticks] == [0.5, None, 9.0]
    assert [t["age"] for t in ticks] == [0.0, 0.125, 0.25]
    assert [t["action"] for t in ticks] == [ACTION, ACTION, SAFE]
    assert [t["work"] for t in ticks] == pytest.approx([0.01, 0.0, 0.01])


def test_percentiles_are_those_of_the_ticks():
    report, _ = Robot([OBS] * 100, thinking=[ms / 1000 for ms in range(1, 101)]).run()
    assert report.work_ms["100"] == pytest.approx(100.0)
    assert report.work_ms["50"] == pytest.approx(50.5)
    assert report.work_ms["90"] == pytest.approx(90.1)  # linear between the 90th and the 91st: 90 + 0.1


def test_a_long_run_keeps_its_newest_ticks_and_counts_all(tmp_path):
    loop = Robot([OBS] * 5).loop(record=2)
    report = loop.run(5)
    assert (report.deadlines, report.outcomes["policy"]) == (5, 5)
    loop.write_log(tmp_path / "log")
    assert [json.loads(line).get("tick") for line in (tmp_path / "log").read_text().splitlines()] == [None, 3, 4]


def test_a_log_that_cannot_be_finished_leaves_the_older_one(tmp_path, monkeypatch):
    loop = Robot([OBS]).loop()
    loop.run(1)
    (tmp_path / "log").write_text("older")
    monkeypatch.setattr(control.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        loop.write_log(tmp_path / "log")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("log", "older")]


def test_each_cause_is_logged_once_a_run(caplog):
    with caplog.at_level(logging.WARNING, logger="control"):
        Robot([OBS, None, None, None, None, OBS, OBS, None, None, None]).run(guard=Doubts(0.0, 9.0, 0.0))
    assert [r.getMessage() for r in caplog.records] == [
        "tick 3: first safe action of cause stale; last fault: none",
        "tick 5: first safe action of cause guard; last fault: none",
    ]


def test_the_report_reads_as_a_table():
    report, _ = Robot([OBS, None], thinking=0.002).run()
    lines = str(report).splitlines()
    assert lines[0] == "2 of 2 deadlines kept (100.00%) at 8 Hz"
    assert lines[3].split() == ["work", "1.000", "1.800", "1.980", "1.998", "2.000"]  # of 0 and 2 ms
    assert lines[4:] == ["actions: 1 policy, 1 hold; causes: 1 none, 1 missing; 0 limited", "ended: done"]


# Construction


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0.0}, "rate must be a positive number, got 0.0"),
        ({"rate": math.nan}, "rate must be a positive number, got nan"),
        ({"stale_after": -1.0}, "stale_after must be a positive number, got -1.0"),
        ({"observation_size": 0}, "observation_size must be at least 1, got 0"),
        ({"record": 0}, "record must be at least 1, got 0"),
        ({"on_overrun": "ignore"}, "on_overrun must be one of hold, safe, stop, got 'ignore'"),
    ],
)
def test_settings_that_make_no_loop_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Robot([]).loop(**changes)


def test_a_guard_without_a_finite_threshold_is_refused():
    guard = Doubts()
    guard.threshold = math.nan
    with pytest.raises(ValueError, match="threshold must be a finite number, got nan"):
        Robot([]).loop(guard=guard)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([-1.0] * 3, 1.0, SAFE), "low must be a finite number or 2 of them"),
        ((-np.inf, 1.0, SAFE), "low must be a finite number or 2 of them"),
        ((1.0, -1.0, SAFE), "low must not be above high"),
        ((-1.0, 0.25, SAFE), "the safe action .* is outside the box"),
        ((-1.0, 1.0, [np.nan, 0.0]), "the safe action .* is outside the box"),
        ((-1.0, 1.0, 0.0), r"safe must be a vector of one number for each action, got shape \(\)"),
        ((-1.0, 1.0, SAFE, 0.0), "max_rate must be positive"),
        ((-1.0, 1.0, SAFE, [1.0, 1.0, 1.0]), "max_rate must be a finite number or 2 of them"),
    ],
)
def test_limits_that_allow_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Limits(*arguments)


# Whatever comes


ENTRIES = st.sampled_from([None, OBS, -OBS, np.full(3, np.nan), np.zeros(2), TimeoutError()])
WANTED = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=2)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(ENTRIES, max_size=12),
    st.lists(st.tuples(WANTED, st.sampled_from([0.0, 0.06, 0.2, 0.4]), st.floats(0.0, 4.0)), min_size=12, max_size=12),
    st.sampled_from(["hold", "safe", "stop"]),
)
def test_whatever_comes_the_robot_gets_allowed_actions_and_the_safe_one_last(script, thoughts, on_overrun):
    wanted, thinking, doubts = zip(*thoughts, strict=True)
    robot = Robot(script, action=lambda obs: wanted[len(robot.seen) - 1], thinking=thinking)
    limits = Limits([-1.0, 0.0], [1.0, 2.0], SAFE, max_rate=2.0)
    robot.run(limits=limits, guard=Doubts(*doubts), on_overrun=on_overrun)
    assert all(obs.shape == (3,) and np.isfinite(obs).all() for obs in robot.seen)
    previous = np.array(SAFE)
    for written in np.array(robot.written):
        assert (np.array([-1.0, 0.0]) <= written).all()
        assert (written <= np.array([1.0, 2.0])).all()
        assert (np.abs(written - previous) <= 0.25 + 1e-12).all() or written.tolist() == SAFE  # 2 a second
        previous = written


# Alone


ALONE = """
import sys
for name in ("torch", "gymnasium", "onnx", "onnxruntime", "zoo", "zoo_robot"):
    sys.modules[name] = None                       # an import of it fails from here on
from control import ControlLoop, Limits
written = []
loop = ControlLoop(lambda: [1.0], lambda obs: 0.5 * obs, written.append, Limits(-1, 1, [0.0]), rate=1000,
                   observation_size=1, stale_after=1)
loop.run(2)
print([float(action[0]) for action in written])
"""


def test_it_runs_as_a_lone_file_with_numpy_only_on_the_real_clock(tmp_path):
    shutil.copy(SOURCE, tmp_path / "control.py")
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[-1] == 0.0


def test_its_syntax_is_that_of_python_3_9():
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))

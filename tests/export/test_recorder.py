"""The recorder of the control loop and its log: what is in it, what a power cut leaves, that the loop never waits."""

import json
import threading
import time

import numpy as np
import pytest

from tests.support.scripted_robot import ACTION, OBS, PERIOD, SAFE, Robot
from zoo_robot import recorder as recorders
from zoo_robot.control import CAUSES, OUTCOMES, Limits
from zoo_robot.recorder import Recorder
from zoo_robot.runlog import BYTES, END, ROWS, RUN, LogError, block, read_log, row_type


def record(path, script, policy=None, **changes):
    """The only run of a new log."""
    Robot(script).run(recorder=Recorder(path, policy), **changes)
    return read_log(path).runs[-1]


def test_every_tick_is_in_the_log_as_the_loop_decided_it(tmp_path):
    run = record(tmp_path / "run.log", [OBS, None, np.array([np.nan, 0.0, 0.0]), None, OBS])
    rows = run.rows
    assert rows["tick"].tolist() == [0, 1, 2, 3, 4]
    assert rows["time"].tolist() == [100.0 + k * PERIOD for k in range(5)]
    assert [OUTCOMES[code] for code in rows["outcome"]] == ["policy", "hold", "hold", "safe", "policy"]
    assert [CAUSES[code] for code in rows["cause"]] == ["none", "missing", "faulty", "stale", "none"]
    assert rows["written"].tolist() == [ACTION, ACTION, ACTION, SAFE, ACTION]
    assert run.observed.tolist() == [True, False, False, False, True]
    assert rows["observation"][0].tolist() == OBS.astype(np.float32).tolist()
    assert rows["wanted"][0].tolist() == ACTION
    assert np.isnan(rows["wanted"][1:4]).all()
    assert run.end == {"reason": "done", "dropped": 0, "ticks": 5}


def test_what_the_policy_wanted_is_beside_what_was_written(tmp_path):
    limits = Limits([-1.0, 0.0], [0.125, 2.0], SAFE)
    run = record(tmp_path / "run.log", [OBS], limits=limits)
    assert run.rows["wanted"].tolist() == [ACTION]
    assert run.rows["written"].tolist() == [[0.125, 0.75]]
    assert run.rows["limited"].tolist() == [1]


def test_the_log_says_under_what_rules_the_run_was(tmp_path):
    limits = Limits([-1.0, 0.0], [1.0, 2.0], SAFE, max_rate=100.0)
    about = record(tmp_path / "run.log", [OBS], limits=limits).about
    assert (about["rate"], about["observation_size"], about["action_size"]) == (8.0, 3, 2)
    assert about["limits"] == {"low": [-1.0, 0.0], "high": [1.0, 2.0], "safe": SAFE, "max_rate": [100.0, 100.0]}
    assert tuple(about["causes"]) == CAUSES


def test_runs_are_appended(tmp_path):
    path = tmp_path / "run.log"
    record(path, [OBS] * 3)
    before = path.read_bytes()
    record(path, [OBS] * 2)
    assert path.read_bytes()[: len(before)] == before
    assert [len(run.rows) for run in read_log(path).runs] == [3, 2]


def test_a_run_that_raises_is_in_the_log(tmp_path):
    robot = Robot([OBS, OBS], action=[KeyError("policy")])
    robot.action = lambda obs: {}["missing"] if len(robot.seen) > 1 else ACTION
    with pytest.raises(KeyError):
        robot.loop(recorder=Recorder(tmp_path / "run.log")).run(2)
    run = read_log(tmp_path / "run.log").runs[0]
    assert len(run.rows) == 1
    assert run.end["reason"] == "raised KeyError('missing')"


# Power cuts and damage


@pytest.fixture
def pieces(tmp_path):
    """A log of 20 ticks in four blocks, and where each block ends."""
    whole = record(tmp_path / "source.log", [OBS] * 20)
    blocks = [block(RUN, json.dumps(whole.about).encode())]
    blocks += [block(ROWS, whole.rows[k : k + 5].tobytes()) for k in range(0, 20, 5)]
    return [*blocks, block(END, json.dumps(whole.end).encode())]


def test_a_power_cut_at_any_byte_leaves_every_whole_block_readable(pieces, tmp_path):
    content, ends = b"".join(pieces), np.cumsum([len(piece) for piece in pieces])
    path = tmp_path / "cut.log"
    for cut in range(int(ends[0]), len(content), 7):
        path.write_bytes(content[:cut])
        (run,) = read_log(path).runs
        whole = int((ends[1:5] <= cut).sum())
        assert run.rows["tick"].tolist() == list(range(5 * whole))
        assert run.end is None


def test_a_damaged_block_is_left_out_and_the_rest_is_read(pieces, tmp_path):
    content = bytearray(b"".join(pieces))
    content[len(pieces[0]) + len(pieces[1]) + BYTES + 3] ^= 1
    (tmp_path / "bad.log").write_bytes(content)
    log = read_log(tmp_path / "bad.log")
    assert log.runs[0].rows["tick"].tolist() == [*range(5), *range(10, 20)]
    assert log.damaged == len(pieces[2])
    assert log.runs[0].end is not None


def test_a_run_after_a_power_cut_goes_on_in_the_same_file(pieces, tmp_path):
    path = tmp_path / "run.log"
    path.write_bytes(b"".join(pieces)[:-9])
    record(path, [OBS] * 2)
    first, second = read_log(path).runs
    assert (len(first.rows), first.end, len(second.rows)) == (20, None, 2)


@pytest.mark.parametrize(
    ("content", "message"), [(b"PK\3\4", "is no log"), (b"ZOOL" + bytes(40), "no run that can be")]
)
def test_another_file_is_refused(tmp_path, content, message):
    path = tmp_path / "run.log"
    path.write_bytes(content)
    with pytest.raises(LogError, match=message):
        read_log(path)


def test_a_recorder_does_not_add_to_a_file_of_another_kind(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ValueError, match="no log of a control loop"):
        Robot([OBS]).run(recorder=Recorder(path))
    assert path.read_text() == "mine"


# Never in the way


ABOUT = {"rate": 8.0, "observation_size": 3, "action_size": 2}


def note(recorder, tick):
    recorder.note(tick, 0.0, 0.0, 0.0, 0.0, np.nan, 0, 0, False, False, OBS, np.array(ACTION), np.array(ACTION))


def test_a_disk_that_stands_still_costs_ticks_and_not_time(tmp_path, monkeypatch):
    stands, goes = threading.Event(), threading.Event()
    write = recorders.os.write

    def slow(file, content):
        stands.set()
        goes.wait(30.0)
        return write(file, content)

    recorder = Recorder(tmp_path / "run.log", seconds=4.0, write_every=0.01)  # 32 rows
    recorder.begin(ABOUT)
    monkeypatch.setattr(recorders.os, "write", slow)
    note(recorder, 0)
    assert stands.wait(30.0)
    for tick in range(1, 100):
        note(recorder, tick)  # would hang here, if it waited
    assert recorder.dropped == 68
    goes.set()
    recorder.end("done")
    run = read_log(tmp_path / "run.log").runs[0]
    assert run.rows["number"].tolist() == list(range(32))
    assert run.end == {"reason": "done", "dropped": 68, "ticks": 100}


def test_a_full_disk_ends_the_recording_and_not_the_loop(tmp_path, caplog):
    recorder = Recorder(tmp_path / "run.log", most_bytes=1500, write_every=0.01)
    report, _ = Robot([OBS] * 200).run(recorder=recorder)
    assert (report.reason, report.deadlines) == ("done", 200)
    assert "most_bytes" in recorder.problem
    assert "recording has ended, the loop goes on" in caplog.text
    assert (tmp_path / "run.log").stat().st_size <= 1500
    assert read_log(tmp_path / "run.log").runs[0].end is None


def test_memory_is_what_was_asked_for(tmp_path):
    recorder = Recorder(tmp_path / "run.log", seconds=2.0)
    recorder.begin(ABOUT)
    buffer = recorder._ring
    for tick in range(1000):
        note(recorder, tick)
    assert recorder._ring is buffer
    assert buffer.nbytes == 16 * row_type(3, 2).itemsize
    recorder.end("done")


def test_rows_reach_the_file_while_the_loop_runs(tmp_path):
    recorder = Recorder(tmp_path / "run.log", write_every=0.01)
    recorder.begin(ABOUT)
    note(recorder, 0)
    until = time.monotonic() + 30.0
    while not len(read_log(tmp_path / "run.log").runs[0].rows) and time.monotonic() < until:
        time.sleep(0.01)
    assert read_log(tmp_path / "run.log").runs[0].rows["tick"].tolist() == [0]
    recorder.end("done")


@pytest.mark.parametrize("name", ["seconds", "write_every", "sync_every"])
def test_settings_that_cannot_be_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} must be a positive number"):
        Recorder(tmp_path / "run.log", **{name: 0.0})

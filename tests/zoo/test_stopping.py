"""Signals end a command with a checkpoint, a message and the status that a shell expects; a folder has one writer."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import pytest

import zoo
from tests.support.data import tiny, toy_dataset
from zoo.agents import SPOT, TD3BC
from zoo.cli import main as cli
from zoo.datasets.writers import write_d4rl
from zoo.evaluation.callbacks import read_curve
from zoo.evaluation.workers import EvaluationError
from zoo.export.files import Lock
from zoo.export.stopping import Stopped, at_once, handled, interruptible

SMALL = ["--set", "actor_hidden=(8,)", "critic_hidden=(8,)", "batch_size=8"]


@pytest.fixture
def data(tmp_path) -> str:
    return str(write_d4rl(toy_dataset(), tmp_path / "toy.hdf5"))


def command(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", *words])
    cli.main()


def send(number: int, condition: Callable[[], bool]) -> threading.Thread:
    """Sends the signal to this process when the condition holds."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_training_with_a_checkpoint_and_its_status(tmp_path, monkeypatch, capsys, data, number):
    out = tmp_path / "run"
    before = signal.getsignal(number)
    thread = send(number, (out / "latest.zip").exists)
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, "train", "TD3BC", data, "--out", str(out), "--save-every", "5", *SMALL)
    thread.join()
    assert stop.value.code == 128 + number
    assert "the agent is saved in" in capsys.readouterr().err
    assert zoo.load(out / "latest.zip").num_timesteps > 0
    assert signal.getsignal(number) is before
    assert not (out / ".lock").exists()


def test_a_signal_ends_a_preparation_with_a_checkpoint(tmp_path, monkeypatch, data):
    out = tmp_path / "run"
    thread = send(signal.SIGTERM, (out / "latest.zip").exists)
    spot = ["density_hidden=(8,)", "density_steps=1000000"]
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, "train", "SPOT", data, "--out", str(out), "--save-every", "5", *SMALL, *spot)
    thread.join()
    assert stop.value.code == 143
    agent = SPOT.load(out / "latest.zip")
    assert (agent.prepared > 0, agent.updates) == (True, 0)


def test_a_second_signal_does_not_wait():
    with interruptible() as interrupt:
        signal.raise_signal(signal.SIGHUP)
        assert interrupt.requested == signal.SIGHUP
        with pytest.raises(Stopped, match="stopped by SIGTERM") as stop:
            signal.raise_signal(signal.SIGTERM)
    assert stop.value.status == 143


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with handled(at_once):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_writer_of_a_run_is_refused(tmp_path, monkeypatch, capsys, data):
    words = ["train", "TD3BC", data, "--out", str(tmp_path / "run"), "--steps", "3", *SMALL]
    with Lock(tmp_path / "run", tmp_path / "run" / ".lock"), pytest.raises(SystemExit):
        command(monkeypatch, *words)
    error = capsys.readouterr().err
    assert f"run is being written by process {os.getpid()} on" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / "latest.zip").exists()
    command(monkeypatch, *words)


def test_finetune_goes_on_from_its_folder(tmp_path, monkeypatch, capsys):
    data = zoo.load_dataset("hopper-medium-replay")
    agent = tiny(TD3BC, data, learning_starts=2, online_buffer="none").learn_offline(data, 3)
    agent.save(tmp_path / "offline.zip")
    words = ["finetune", str(tmp_path / "offline.zip"), "--out", str(tmp_path / "run"), "--eval-every", "4"]
    command(monkeypatch, *words, "--steps", "9")
    command(monkeypatch, *words, "--steps", "14")
    assert "latest.zip at step 9 of 14" in capsys.readouterr().out
    final = zoo.load(tmp_path / "run" / "final.zip")
    assert (final.env_steps, final.num_timesteps) == (14, 17)
    assert [p.timesteps for p in read_curve(tmp_path / "run" / "evaluations.csv")] == [3, 4, 8, 12, 16, 17]
    command(monkeypatch, *words, "--steps", "14")
    assert zoo.load(tmp_path / "run" / "final.zip").env_steps == 14
    assert json.loads((tmp_path / "run" / "run.json").read_text())["command"] == "zoo finetune"
    agent.learn_offline(data, 1).save(tmp_path / "offline.zip")
    with pytest.raises(SystemExit):
        command(monkeypatch, *words, "--steps", "20")
    assert "checkpoint: was" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_noticed_first(tmp_path, monkeypatch, capsys, data):
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", str(tmp_path / "run"))

    monkeypatch.setattr(os, "open", refuse)  # root may write everywhere
    with pytest.raises(SystemExit):
        command(monkeypatch, "train", "TD3BC", data, "--out", str(tmp_path / "run"), "--steps", "3", *SMALL)
    error = capsys.readouterr().err
    assert error.startswith("zoo: PermissionError")
    assert error.count("\n") == 1


def test_an_error_of_ours_ends_in_one_line_and_one_of_nobody_in_a_traceback(monkeypatch, capsys):
    for error in (EvaluationError("the worker is gone"), RuntimeError("nobody's")):

        def fail(self, error=error):
            raise error

        monkeypatch.setattr(cli.Evaluate, "run", fail)
        ours = type(error) is not RuntimeError
        with pytest.raises(SystemExit if ours else RuntimeError):
            command(monkeypatch, "evaluate", "x.zip")
        assert ("zoo: EvaluationError: the worker is gone\n" in capsys.readouterr().err) == ours

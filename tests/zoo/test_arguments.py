"""Every command with every kind of wrong argument: it succeeds, or ends in one line before it has done any work."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import gymnasium as gym
import pytest

import zoo
import zoo.datasets.writers
from tests.support.data import ToyEnv, tiny, toy_dataset
from tests.zoo.test_resuming import write_npz
from zoo.cli import data as data_commands
from zoo.cli import main as cli

ENV = "ArgumentsToy-v0"
TOY = ["--dataset", "{}/toy.hdf5"]
SMALL = ["--set", "actor_hidden=(4,)", "critic_hidden=(4,)", "batch_size=4"]
# A command that works within a second, "{}" being the folder of the test. Those without one would take long: they are
# only given what is wrong.
WORKS: dict[str, list[str]] = {
    "demo": [],
    "train": ["TD3BC", "{}/data.npz", "--out", "{}/run", "--steps", "2", "--device", "cpu", *SMALL],
    "finetune": ["{}/agent.zip", "--out", "{}/online", "--steps", "2", "--env", ENV, "--workers", "1", *TOY],
    "evaluate": ["{}/agent.zip", "--env", ENV, "--episodes", "1", "--workers", "1"],
    "export": ["{}/agent.zip", "{}/deploy"],
    "precision": ["{}/deploy", "--dataset", "{}/toy.hdf5", "--episodes", "0"],
    "data info": ["{}/data.npz"],
    "data check": ["{}/data.npz"],
    "data map": ["{}/data.npz"],
    "data import": [],
    "data export": ["{}/data.npz", "{}/out.hdf5"],
    "data collect": [ENV, "{}/collected.hdf5", "--steps", "5", "--envs", "2"],
    "data maze": ["umaze", "{}/maze.hdf5", "--steps", "5"],
    "data behaviours": [],
    "data mood collect": [],
    "data mood merge": ["{}/mood"],
}
DATA = {
    "map": data_commands.MapCommand,
    "import": data_commands.Import,
    "info": data_commands.Info,
    "check": data_commands.Check,
    "export": data_commands.ExportData,
    "collect": data_commands.Collect,
    "maze": data_commands.Maze,
    "behaviours": data_commands.Behaviours,
    "mood collect": data_commands.MoodCollect,
    "mood merge": data_commands.MoodMerge,
}
CLASSES = {**cli.COMMANDS, **{f"data {name}": command for name, command in DATA.items()}}
OPTIONS = {"settings": "set"}
MISSING = "{}/missing/nothing.zip"
WRONG: dict[Any, list[str]] = {
    int: ["abc", "-1", "1.5", "0", ""],
    float: ["abc", "nan", "-1", "inf"],
    bool: [],
    str: ["nonsense", ""],
    Path: [MISSING, "{}/text.txt", "{}", ""],
}
MORE: dict[tuple[str, str], list[str]] = {
    ("train", "steps"): ["-5"],
    ("train", "population"): ["-2", "1000000000"],
    ("train", "seed"): ["99999999999999999999"],
    ("train", "device"): ["cuda", "gpu", "mps", "cuda:99", "cpu:x"],
    ("train", "settings"): [
        "actor_hidden=(0,)",
        "actor_hidden=256",
        "seed=7",
        "preset=x",
        "normalize_observations=maybe",
        "alpha=",
        "alpha=nan",
        "actor_norm=sideways",
        "gamma=2",
        "batch_size=1.5",
    ],
    ("train", "sweep"): ["seed=(1,2)", "actor_hidden=((64,64),(32,32))", "alpha=1", "alpha=()", "alpha=('a','b')"],
    ("train", "dataset"): [MISSING, "{}/text.txt", "{}", "hopper-medium-replya", "hopper-medium-v2"],
    ("train", "agent"): ["TD3BX"],
    ("finetune", "dataset"): [MISSING, "{}/text.txt", "{}"],
    ("finetune", "env"): ["Pendulum-v1", "Nothing-v0", "NoSuchPackage:Nothing-v0"],
    ("evaluate", "env"): ["Pendulum-v1", "Nothing-v0"],
    ("export", "guard"): ["0", "1"],
    ("data collect", "env"): ["CartPole-v1"],
    ("data collect", "policies"): [MISSING, "SAC:{}/missing.zip", "no.module:function", "os:nothing", "{}"],
    ("data collect", "out"): ["{}/p.csv"],
}
LONG = {name for name in CLASSES if not WORKS.get(name)}  # if they work


def wrong_values(command: str) -> Iterator[tuple[str, str]]:
    """Fields of a command, each with a value that it should not have."""
    for name, hint in get_type_hints(CLASSES[command]).items():
        alternatives = [kind for kind in (get_args(hint) or (hint,)) if kind not in (type(None), ...)]
        kind = alternatives[0] if get_origin(hint) is not Literal else hint
        values = ["nonsense"] if get_origin(kind) is Literal or get_origin(hint) is Literal else WRONG.get(kind, ["?"])
        for value in [*values, *MORE.get((command, name), [])]:
            if command not in LONG or (name not in ("out", "medium", "objectives") and value != "0"):
                yield name, value


CASES = [(command, *case) for command in CLASSES for case in wrong_values(command)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What the commands are given."""
    folder = tmp_path_factory.mktemp("arguments")
    if ENV not in gym.registry:
        gym.register(ENV, ToyEnv)
    write_npz(folder / "data.npz")
    zoo.datasets.writers.write_d4rl(toy_dataset(), folder / "toy.hdf5")
    agent = tiny(zoo.TD3BC, zoo.load_dataset(folder / "toy.hdf5"))
    agent.save(folder / "agent.zip")
    agent.export_onnx(folder / "deploy")
    (folder / "text.txt").write_text("not what was expected")
    return folder


@pytest.mark.parametrize(("command", "field", "value"), CASES)
def test_a_wrong_argument_ends_in_one_line(made, tmp_path, monkeypatch, capsys, command, field, value):
    monkeypatch.chdir(tmp_path)
    words = with_value(command, field, value)
    monkeypatch.setattr(sys, "argv", ["zoo", *(word.format(made) for word in words)])
    try:
        cli.main()
    except SystemExit as stop:
        error = capsys.readouterr().err.strip()
        if stop.code in (0, None) or (command == "data check" and stop.code in (2, 3) and not error):
            return
        lines = [line for line in error.splitlines() if "step/s" not in line]
        assert len(lines) == 1, error
        assert lines[0].startswith("zoo: ")
        assert not (tmp_path / "run" / "final.zip").exists()


def with_value(command: str, field: str, value: str) -> list[str]:
    """The command that works, with this value in place of the field's."""
    words, position = list(WORKS.get(command, [])), 0
    for known in dataclasses.fields(CLASSES[command]):
        positional = (known.default is dataclasses.MISSING and known.name != "out") or (command.startswith("data") and (
            known.name == "out" and known.default is dataclasses.MISSING
        ))  # fmt: skip
        if command == "precision" and known.name == "dataset":
            positional = False
        if known.name == field and positional:
            words[position : position + 1] = [value]
            return [*command.split(), *words]
        position += positional
    option = f"--{OPTIONS.get(field, field).replace('_', '-')}"
    if option in words and option != "--set":
        words[words.index(option) + 1] = value
    else:
        words = [*words, option, value] if option not in words else [*words, value]
    return [*command.split(), *words]


def test_every_command_is_tried():
    assert WORKS.keys() <= CLASSES.keys() == {command for command, _, _ in CASES}
    assert len(CASES) > 200

"""Checkpoint files: what is in them, and what is said of one that cannot be used."""

import json
import os
import re
import signal
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as tensors_of
from stable_baselines3.common.callbacks import BaseCallback

from tests.support.data import LEARNING_ONLINE, ToyEnv, assert_same_state, prepared, tiny, toy_dataset
from zoo.agents import AGENTS, TD3BC, CheckpointError, load
from zoo.agents.files.checkpoint import FORMAT, read_checkpoint, write_checkpoint

EVERY = pytest.mark.parametrize("cls", AGENTS.values(), ids=AGENTS)
NARROW = {"actor_hidden": (4,), "critic_hidden": (4,)}


@pytest.fixture(scope="module")
def trained():
    return tiny(TD3BC, **NARROW).learn_offline(toy_dataset(), 2)


@pytest.fixture
def path(trained, tmp_path) -> Path:
    return trained.save(tmp_path / "agent.zip")


def rewrite(path: Path, change) -> None:
    """Writes the checkpoint again, with valid checksums, after change(config, tensors)."""
    config, tensors = read_checkpoint(path)
    change(config, tensors)
    write_checkpoint(path, config, tensors)


# What is in the file


def test_save_adds_the_suffix_makes_the_folder_and_returns_the_path(trained, tmp_path):
    assert trained.save(tmp_path / "new" / "agent.v1") == tmp_path / "new" / "agent.v1.zip"
    assert TD3BC.load(tmp_path / "new" / "agent.v1").updates == 2


def test_a_checkpoint_holds_json_and_safetensors_and_nothing_else(tmp_path):
    agent = tiny(TD3BC, updates_per_step=1).finetune_online(ToyEnv(), 3, dataset=toy_dataset())
    with zipfile.ZipFile(agent.save(tmp_path / "agent")) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    tensors = {f"{name}.safetensors" for name in ("state", "optimizers", "rng", "replay")}
    assert set(entries) == {"config.json", *tensors}
    assert json.loads(entries["config.json"])["class"] == "TD3BC"
    assert all(tensors_of(entries[name]) for name in tensors)


def test_equal_agents_give_equal_files(trained, tmp_path):
    assert trained.save(tmp_path / "one").read_bytes() == trained.save(tmp_path / "two").read_bytes()


def test_provenance_of_the_data_comes_back(trained, path):
    assert TD3BC.load(path).spec == trained.spec


# What is said of a file that cannot be used


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.zip; agent\.save\(path\) writes one"):
        TD3BC.load(tmp_path / "nowhere")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        TD3BC.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06"], ids=["empty", "text", "stub"])
def test_a_file_that_is_no_zip_is_called_damaged(tmp_path, content):
    path = tmp_path / "agent.zip"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"agent\.zip is not a whole checkpoint .* use another copy"):
        TD3BC.load(path)


def test_a_zip_of_something_else_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "agent.zip", "w") as file:
        file.writestr("data", b"of Stable-Baselines3, perhaps")
    with pytest.raises(CheckpointError, match=r"no readable config\.json; it is not a checkpoint of an agent"):
        TD3BC.load(tmp_path / "agent.zip")


@EVERY
def test_an_agent_of_another_class_is_named_with_its_loader(cls, tmp_path):
    path = tiny(cls).save(tmp_path / "agent")
    other = next(agent for agent in AGENTS.values() if agent is not cls)
    name = cls.__name__
    with pytest.raises(CheckpointError, match=f"holds a {name}, not a {other.__name__}: use {name}.load, or zoo.load"):
        other.load(path)
    assert type(load(path)) is cls


def test_an_agent_that_this_version_does_not_know_is_named(path):
    rewrite(path, lambda config, _: config.update({"class": "DQN"}))
    with pytest.raises(CheckpointError, match=r"holds a DQN, .*not one of this version's agents, BC, TD3"):
        load(path)


def test_a_newer_format_asks_for_an_upgrade(path):
    rewrite(path, lambda config, _: config.update(format=FORMAT + 1))
    message = f"has checkpoint format {FORMAT + 1}, this version reads up to {FORMAT}: upgrade"
    with pytest.raises(CheckpointError, match=message):
        TD3BC.load(path)


def test_a_setting_of_another_version_is_named(path):
    rewrite(path, lambda config, _: config["config"].update(charm=3.0))
    with pytest.raises(CheckpointError, match="has settings that this version of TD3BC does not know: charm"):
        TD3BC.load(path)


WEIGHT = "policy.actor.trunk.linears.0.weight"


@pytest.mark.parametrize(
    ("group", "name", "replacement", "message"),
    [
        ("state", WEIGHT, None, f"{WEIGHT} is missing"),
        ("state", "extra", torch.zeros(2), "extra is not known to this agent"),
        ("state", WEIGHT, torch.zeros(4, 9), rf"{WEIGHT} has shape \(4, 9\), expected \(3, 4\)"),
        ("rng", "draws", None, "draws is missing"),
        ("optimizers", "actor/0/exp_avg", None, "actor/0/exp_avg is missing"),
        ("optimizers", "actor/0/exp_avg", torch.zeros(4, 9), r"actor/0/exp_avg has shape \(4, 9\), expected \(3, 4\)"),
        ("optimizers", "critic/99/exp_avg", torch.zeros(2), "critic/99/exp_avg is not known"),
    ],
)
def test_tensors_that_do_not_fit_are_named(path, group, name, replacement, message):
    def change(_, tensors):
        tensors[group].pop(name, None)
        if replacement is not None:
            tensors[group][name] = replacement

    rewrite(path, change)
    with pytest.raises(CheckpointError, match=message):
        TD3BC.load(path)


def test_replay_rows_of_another_width_are_named(tmp_path):
    agent = tiny(TD3BC, updates_per_step=1).finetune_online(ToyEnv(), 3, dataset=toy_dataset())
    path = agent.save(tmp_path / "agent")
    rewrite(path, lambda _, tensors: tensors["replay"].update(rows=torch.zeros(3, 99)))
    with pytest.raises(CheckpointError, match=r"rows has shape \(3, 99\)"):
        TD3BC.load(path)


# Damage


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_called_damaged(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="is not a whole checkpoint"):
        TD3BC.load(path)


def headers(content: bytes) -> list[int]:
    """Positions of the bytes of a zip that are not an entry's content."""
    inside = set()
    for match in re.finditer(b"PK\x03\x04", content):
        name = int.from_bytes(content[match.start() + 26 : match.start() + 28], "little")
        size = int.from_bytes(content[match.start() + 18 : match.start() + 22], "little")
        begin = match.start() + 30 + name
        inside.update(range(begin, begin + size))
    return [position for position in range(len(content)) if position not in inside]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_anywhere_is_called_damage_or_does_no_harm(path, flip):
    content = path.read_bytes()
    config, tensors = read_checkpoint(path)
    structure = headers(content)
    assert 400 < len(structure) < 1000  # four entries: 30 + 46 bytes and two names each, and 22 at the end
    refused = 0
    for position in [*structure, *range(0, len(content), 997)]:
        damaged = bytearray(content)
        damaged[position] ^= flip
        path.write_bytes(damaged)
        try:
            found, same = read_checkpoint(path)
        except CheckpointError:
            refused += 1
            continue
        # What is left are a zip's dates, versions and attributes, which mean nothing here.
        assert found == config, f"byte {position}"
        assert all(torch.equal(tensors[group][name], value) for group in same for name, value in same[group].items())
    assert refused > 200


def test_a_flipped_byte_of_a_tensor_is_reported_with_the_file(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"agent\.zip .*damaged"):
        TD3BC.load(path)


def test_a_tensor_exchanged_under_a_valid_zip_fails_its_checksum(path):
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    entries["state.safetensors"] = entries["rng.safetensors"]
    with zipfile.ZipFile(path, "w") as file:
        for name, entry in entries.items():
            file.writestr(name, entry)
    with pytest.raises(CheckpointError, match=r"content of state\.safetensors does not match its checksum"):
        TD3BC.load(path)


def test_an_entry_that_is_gone_is_named(path):
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist() if name != "rng.safetensors"}
    with zipfile.ZipFile(path, "w") as file:
        for name, entry in entries.items():
            file.writestr(name, entry)
    with pytest.raises(CheckpointError, match=r"lacks its entry rng\.safetensors"):
        TD3BC.load(path)


# Writing


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(trained, path, monkeypatch, step):
    old = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="disk full"):
        tiny(TD3BC, seed=9, **NARROW).save(path)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


# Ctrl-C


def interrupt_at(step: int):
    def callback(local, _):
        if local["self"].num_timesteps == step:
            os.kill(os.getpid(), signal.SIGINT)
        return True

    return callback


@pytest.mark.parametrize(
    ("cls", "online"),
    [*((cls, False) for cls in AGENTS.values()), *((cls, True) for cls in LEARNING_ONLINE.values())],
)
def test_ctrl_c_finishes_the_step_saves_and_gives_the_handler_back(cls, online, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    data = toy_dataset()
    agent = prepared(cls, data, updates_per_step=1)
    learn = partial(agent.finetune_online, ToyEnv(), dataset=data) if online else partial(agent.learn_offline, data)
    with pytest.raises(KeyboardInterrupt, match=rf"stopped after 3 of 10 steps; .*{cls.__name__}_interrupted\.zip"):
        learn(total_timesteps=10, callback=interrupt_at(3))
    assert signal.getsignal(signal.SIGINT) is before
    saved = cls.load(f"{cls.__name__}_interrupted.zip")
    assert saved.num_timesteps == 3
    assert_same_state(saved, agent)


@EVERY
def test_ctrl_c_saves_beside_the_logs(cls, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tiny(cls, tensorboard_log=str(tmp_path)).learn_offline(toy_dataset(), 10, interrupt_at(3))
    assert (tmp_path / f"{cls.__name__}_1" / f"{cls.__name__}_interrupted.zip").exists()


def failing_callback(where: str) -> BaseCallback:
    def fail(self):
        raise RuntimeError("the callback is broken")

    methods = {"_on_step": lambda self: True, where: fail}
    return type("Failing", (BaseCallback,), methods)()


@pytest.mark.parametrize("where", ["_init_callback", "_on_training_start", "_on_step", "_on_training_end"])
def test_a_failing_callback_leaves_no_handler_and_no_stand_in_environment_behind(where):
    before = signal.getsignal(signal.SIGINT)
    agent = tiny(TD3BC, **NARROW)
    try:
        with pytest.raises(RuntimeError, match="the callback is broken"):
            agent.learn_offline(toy_dataset(), 2, failing_callback(where))
        assert signal.getsignal(signal.SIGINT) is before
        assert agent.get_env() is None
    finally:
        signal.signal(signal.SIGINT, before)

"""Checkpoints of strangers: sizes, members, settings and counters that no agent has written."""

import hashlib
import json
import resource
import zipfile

import numpy as np
import pytest

from benchmarks.faults import damage_checkpoint
from tests.support.data import ToyEnv, assert_same_state, prepared, tiny, toy_dataset
from zoo.agents import CAR, TD3BC, CheckpointError, load


@pytest.fixture
def checkpoint(tmp_path):
    return tiny(TD3BC, toy_dataset()).learn_offline(toy_dataset(), 3).save(tmp_path / "agent.zip")


def rewrite(path, change, kind=zipfile.ZIP_STORED, **more: bytes) -> None:
    """The same with another config and more entries; the checksums are right."""
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    config = json.loads(entries["config.json"])
    config = change(config) or config
    entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, content in (entries | more).items():
            file.writestr(name, content)


def refused(path, message: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=message) as error:
        load(path, device="cpu")
    assert str(path) in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actor_hidden": [40_000, 40_000]}, "larger networks than the file holds"),
        ({"critic_hidden": [1000] * 5000}, "larger networks than the file holds"),
        ({"n_critics": 100_000_000}, "larger networks than the file holds|allocate memory"),
        ({"actor_hidden": [32, 16]}, "has shape"),
        ({"actor_hidden": "wide"}, "no agent can be built from it"),
        ({"alpha": None}, "no agent can be built from it"),
        ({"tau": float("nan")}, "no agent can be built from it"),
    ],
)
def test_settings_are_compared_with_the_file_before_anything_is_built(checkpoint, settings, message):
    rewrite(checkpoint, lambda config: config["config"].update(settings))
    refused(checkpoint, message)


@pytest.mark.parametrize("population", [10**9, 2.0, "3", -1, True])
def test_a_population_that_no_tensor_has_is_refused(checkpoint, population):
    rewrite(checkpoint, lambda config: config.update(population=population))
    refused(checkpoint, "says it has .* members, and none of its tensors has")


@pytest.mark.parametrize("count", [-1, 1.5, "many", None, 2**70])
def test_counters_are_whole_numbers(checkpoint, count):
    rewrite(checkpoint, lambda config: config["counters"]["_extra_state"].update(updates=count))
    refused(checkpoint, "its counters are no whole numbers")


def test_entries_that_no_checksum_names_are_refused(checkpoint):
    rewrite(checkpoint, lambda config: None, **{"more.safetensors": b"x"})
    refused(checkpoint, r"entries that no checksum names, more\.safetensors")


def test_a_compressed_checkpoint_is_refused_unread(checkpoint):
    bomb = bytes(300_000_000)
    digest = hashlib.sha256(bomb).hexdigest()
    rewrite(checkpoint, lambda c: c["sha256"].update(bomb=digest), zipfile.ZIP_DEFLATED, bomb=bomb)
    del bomb
    refused(checkpoint, "is compressed or encrypted, and checkpoints are not")


@pytest.mark.parametrize("change", [lambda c: [1], lambda c: {**c, "format": "1"}, lambda c: {**c, "class": 3}])
def test_a_config_of_another_form_is_refused(checkpoint, change):
    rewrite(checkpoint, change)
    refused(checkpoint, r"no readable config\.json")


def test_absurdly_deep_json_is_refused(checkpoint):
    rewrite(checkpoint, lambda c: None, **{"config.json": b"[" * 200_000})
    refused(checkpoint, r"no readable config\.json|two entries of one name")


def test_a_buffer_with_room_for_more_than_the_file_holds_is_loaded(tmp_path):
    """Its rows are empty still: they take no memory."""
    agent = prepared(TD3BC, toy_dataset(), buffer_size=30_000_000, online_buffer="none")
    agent.finetune_online(ToyEnv(), 5)
    path = agent.save(tmp_path / "agent.zip")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_same_state(load(path, device="cpu"), agent)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_whatever_is_edited_ends_in_a_checkpoint_error_or_in_an_agent(tmp_path):
    agent = prepared(CAR, toy_dataset(), learning_starts=1)
    agent.learn_offline(toy_dataset(), 4).finetune_online(ToyEnv(), 4, dataset=toy_dataset())
    path = agent.save(tmp_path / "agent.zip")
    content, refusals = path.read_bytes(), 0
    for i in range(60):
        path.write_bytes(content)
        damage_checkpoint(path, np.random.default_rng(i))
        try:
            load(path, device="cpu")
        except CheckpointError:
            refusals += 1
    assert refusals > 20

"""Data files of strangers: sizes that are not there, rows in other files, damage anywhere, modules to import."""

import json
import resource
import sys
import zipfile

import h5py
import numpy as np
import pytest

import zoo
from tests.support.data import toy_dataset
from zoo.cli import main as cli
from zoo.collecting.mazes import env_id
from zoo.datasets.checks import DatasetError, DatasetValueError
from zoo.datasets.doctor import doctor
from zoo.datasets.packing import write_packed
from zoo.datasets.writers import write_d4rl

ROWS = 100_000_000


def declared(path) -> None:
    """100 million rows in three kilobytes: HDF5 fills what was never written."""
    with h5py.File(path, "w") as file:
        for name, shape in (("observations", (ROWS, 3)), ("actions", (ROWS, 2)), ("rewards", (ROWS,))):
            file.create_dataset(name, shape, np.float32, chunks=True, compression="gzip")
        file.create_dataset("terminals", (ROWS,), bool, chunks=True)


def one_chunk(path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("rewards", (3,), np.float32, chunks=(ROWS,), maxshape=(None,), compression="gzip")


def elsewhere(path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("rewards", (10,), np.float32, external=[("/etc/passwd", 0, 40)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (declared, r"bytes and declares 2,500,000,000 for all arrays together"),
        (one_chunk, r"declares 400,000,000 for rewards"),
        (elsewhere, r"the rows of rewards lie in another file"),
    ],
)
@pytest.mark.parametrize("command", [zoo.load_dataset, doctor.check])
def test_hdf5_that_declares_more_than_it_is(tmp_path, make, message, command):
    make(tmp_path / "x.hdf5")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if command is zoo.load_dataset:
        with pytest.raises(DatasetValueError, match=message):
            command(tmp_path / "x.hdf5")
    else:
        assert command(tmp_path / "x.hdf5")[0].severity == "error"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_npz_that_unpacks_to_more_than_it_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("rewards.npy", bytes(200_000_000))
    with pytest.raises(DatasetValueError, match=r"declares 200,000,000 for all members together"):
        zoo.load_dataset(tmp_path / "x.npz")


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 4)).tolist():
        damaged[place] = int(rng.integers(256))
    return bytes(damaged[: rng.integers(len(damaged))] if rng.random() < 0.2 else damaged)


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_damage_ends_in_a_dataset_error_or_in_a_dataset(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = tmp_path / f"toy.{kind}"
    write_d4rl(toy_dataset(30), tmp_path / "toy.hdf5")
    if kind == "npz":
        data = toy_dataset(30)
        np.savez(path, **{name: data.column(name) for name in ("observations", "actions", "rewards", "terminations")})
    content, refused = path.read_bytes(), 0
    for _ in range(80):
        path.write_bytes(flipped(content, rng))
        refused += is_refused(path)
    assert refused > 10


def is_refused(path) -> bool:
    """Whether loading ends in a DatasetError that names the file."""
    try:
        zoo.load_dataset(path)
    except DatasetError as error:
        return path.stem in str(error)
    return False


def test_damage_of_a_packed_folder_ends_in_a_dataset_error_or_in_a_dataset(tmp_path):
    folder, rng = write_packed(toy_dataset(30), tmp_path / "packed"), np.random.default_rng(0)
    refused = 0
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for _ in range(25):
            path.write_bytes(flipped(content, rng))
            try:
                zoo.open_packed(folder)
            except DatasetError:
                refused += 1
        path.write_bytes(content)
    assert refused > 20


def test_absurdly_deep_json_is_refused(tmp_path):
    folder = write_packed(toy_dataset(30), tmp_path / "packed")
    (folder / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(DatasetValueError, match="is damaged"):
        zoo.open_packed(folder)


# No import by a file


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that says so when it is imported."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return with_env("evil:X-v0")


def with_env(named: str | None, **provenance):
    data = toy_dataset()
    names = ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")
    columns = {name: data.column(name) for name in names}
    return zoo.OfflineDataset.from_arrays(
        **columns, action_space=data.action_space, name="toy", env_id=named, provenance=provenance
    )


def test_a_module_that_a_file_names_is_not_imported(evil):
    with pytest.raises(ValueError, match=r"toy names the environment 'evil:X-v0', which would import evil.*trust=True"):
        zoo.make_env(evil)
    with pytest.raises(SystemExit, match="imported"):
        zoo.make_env(evil, trust=True)
    with pytest.raises(SystemExit, match="imported"):
        zoo.make_env("evil:X-v0")  # the user's own words


def test_arguments_that_a_file_gives_are_not_passed_on():
    data = with_env("Pendulum-v1", env_kwargs=json.dumps({"g": 2.5}))
    with pytest.raises(ValueError, match=r"toy gives its environment the arguments \{'g': 2\.5\}.*trust=True"):
        zoo.make_env(data)
    with pytest.raises(ValueError, match="toy has actions"):  # made, and found to be another one
        zoo.make_env(data, trust=True)


@pytest.mark.parametrize("kwargs", ["[1]", "{", "[" * 100_000, '"g"'])
def test_arguments_that_are_no_table_are_refused(kwargs):
    with pytest.raises(ValueError, match="env_kwargs"):
        zoo.make_env(with_env("Pendulum-v1", env_kwargs=kwargs), trust=True)


def test_our_own_environments_are_known_under_their_names_of_today_and_of_before():
    today = env_id("umaze")
    assert today.startswith("zoo.collecting.mazes:")
    old = today.replace("zoo.collecting.mazes:", "zoo.mazes:")
    for name in (today, old):
        with pytest.raises(ValueError, match="toy has observations"):  # made without a question
            zoo.make_env(with_env(name))
    zoo.make_env(old).close()


def test_training_goes_on_without_evaluations_and_says_why(tmp_path, monkeypatch, capsys, evil):
    path = write_d4rl(evil, tmp_path / "evil.hdf5")
    small = ["--set", "actor_hidden=(8,)", "critic_hidden=(8,)", "batch_size=8", "--steps", "3"]
    monkeypatch.setattr(sys, "argv", ["zoo", "train", "TD3BC", str(path), "--out", str(tmp_path / "run"), *small])
    cli.main()
    assert "no evaluations: evil names the environment 'evil:X-v0'" in capsys.readouterr().out
    for words in (["evaluate", "run/final.zip"], ["finetune", "run/final.zip", "--out", "fine"]):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["zoo", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 1
        assert "which would import evil" in capsys.readouterr().err

"""Recordings: damage, full disks, two writers, Ctrl-C, and checksums of what becomes of them."""

import os
import resource
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tests.support.data import toy_dataset
from tests.zoo.test_collect import ABOUT, Corridor, columns, episode, record
from zoo.collecting.journal import Journal
from zoo.collecting.recording import count_rows, write_hdf5
from zoo.datasets.checks import DatasetValueError
from zoo.datasets.doctor import doctor
from zoo.datasets.load import open_dataset
from zoo.datasets.packing import write_packed
from zoo.datasets.sealed import Disk, check_seal
from zoo.datasets.writers import export, write_d4rl
from zoo.export.files import InUseError, Lock
from zoo.export.stopping import Stopped


@pytest.fixture
def journal(tmp_path):
    """Ten episodes of three rows."""
    with Journal(tmp_path / "d.hdf5", ABOUT) as journal:
        for number in range(10):
            journal.append(episode(number))
    return journal


@pytest.fixture
def small_disk():
    """No file of this process grows beyond 6 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_damaged_byte_costs_the_episode_that_it_is_in(journal, capsys):
    content = journal.file.read_bytes()
    length = len(content) // 10
    for place in range(0, len(content), 61):
        damaged = bytearray(content)
        damaged[place] ^= 0x40
        journal.file.write_bytes(damaged)
        with Journal(journal.path, ABOUT) as again:
            assert len(again.numbers) >= 9
            found = [int(rows["rewards"][0]) for rows in again.episodes()]
            assert sorted(again.numbers) == found
        lost = int(capsys.readouterr().out.split("rows; ")[1].split(" ")[0].replace(",", ""))
        assert 0 < lost < 2 * length


def test_an_episode_of_other_settings_is_found_though_the_first_record_is_damaged(journal):
    content = bytearray(journal.file.read_bytes())
    content[20] ^= 1
    journal.file.write_bytes(content)
    with pytest.raises(ValueError, match="was made with other settings"):
        Journal(journal.path, {**ABOUT, "noise": 0.5})
    Journal(journal.path, ABOUT).close()


def test_a_journal_of_before_is_named(tmp_path):
    with (tmp_path / "d.hdf5.journal").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="journal of an earlier version"):
        Journal(tmp_path / "d.hdf5", ABOUT)


def test_two_recordings_to_one_path_are_refused(tmp_path, journal):
    with Journal(journal.path, ABOUT), pytest.raises(InUseError, match=f"process {os.getpid()}"):
        record(journal.path)


def test_the_dataset_has_as_many_rows_as_were_counted(tmp_path):
    assert count_rows(record(tmp_path / "c.hdf5", 57, envs=3)) == 57
    with pytest.raises(DatasetValueError, match="would have 3 of 4 recorded rows"):
        write_hdf5(tmp_path / "d.hdf5", [episode(0)], ABOUT, rows=4)
    assert not (tmp_path / "d.hdf5").exists()


def test_a_stop_says_what_is_kept(tmp_path):
    class Stops(Corridor):
        taken = 0

        def step(self, action):
            Stops.taken += 1
            if Stops.taken == 57:
                raise KeyboardInterrupt
            return super().step(action)

    with pytest.raises(
        Stopped, match=r"c\.hdf5\.journal keeps 5\d rows of whole episodes, and the same command"
    ) as stop:
        record(tmp_path / "c.hdf5", 120, Stops)
    assert stop.value.status == 130
    expected, found = columns(record(tmp_path / "w.hdf5", 120)), columns(record(tmp_path / "c.hdf5", 120))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


# Full disks


def fill(journal: Journal) -> None:
    for number in range(10, 100):
        journal.append(episode(number))


def test_a_full_disk_keeps_the_journal_and_leaves_no_file(tmp_path, journal, small_disk):
    with Journal(journal.path, ABOUT) as again, pytest.raises(OSError, match="File too large"):
        fill(again)
    with Journal(journal.path, ABOUT) as whole:
        assert whole.numbers == set(range(again.rows // 3))
        assert again.rows > 30


def test_a_full_disk_raises_where_hdf5_would_end_the_process(tmp_path, small_disk):
    rows = np.zeros(3_000, [("rewards", "f8"), ("timeouts", "?")])
    rows["rewards"] = np.random.default_rng(0).random(3_000)
    with pytest.raises(OSError, match=r"File too large: .*x\.hdf5"):
        write_hdf5(tmp_path / "x.hdf5", [rows], ABOUT)
    with pytest.raises(OSError, match="File too large"):
        write_d4rl(toy_dataset(2_000), tmp_path / "toy.hdf5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_on_a_disk_that_is_full(tmp_path):
    (tmp_path / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "small")]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this container may not mount")
    code = (
        "import sys; from pathlib import Path; from tests.support.data import *; from zoo.datasets.writers import *\n"
        "write_d4rl(toy_dataset(5000), Path(sys.argv[1]))"
    )
    try:
        line = [sys.executable, "-c", code, str(tmp_path / "small" / "x.hdf5")]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert "OSError: [Errno 28] No space left on device" in done.stderr
        assert done.returncode == 1
        assert list((tmp_path / "small").iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


def test_what_the_disk_refuses_is_still_read(tmp_path):
    """Against a file in memory, with random writes, reads and cuts, while the disk fails from the 20th write on."""
    rng = np.random.default_rng(0)
    with (tmp_path / "a").open("w+b", buffering=0) as raw:
        disk, known = Disk(raw, tmp_path / "a"), bytearray()
        for i in range(200):
            if i == 20:
                disk.error = OSError(28, "No space left on device")
            place, content = int(rng.integers(0, 300)), rng.bytes(int(rng.integers(1, 60)))
            disk.seek(place)
            assert disk.write(content) == len(content)
            known.extend(b"\0" * (place + len(content) - len(known)))
            known[place : place + len(content)] = content
            begin = int(rng.integers(0, len(known)))
            disk.seek(begin)
            assert disk.read(50) == known[begin : begin + 50]
    with pytest.raises(OSError, match="No space left"):
        disk.check()


# Checksums


def test_a_flipped_bit_anywhere_is_found_by_the_check(tmp_path):
    path = record(tmp_path / "c.hdf5", 200)
    assert errors(path) == []
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(content), 60).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert errors(path) or same_content(path, content, tmp_path)


def errors(path) -> list[str]:
    return [f"{finding}" for finding in doctor.check(path) if finding.severity == "error"]


def same_content(path, content, tmp_path) -> bool:
    """Whether a damaged file still says the same: the byte was padding, or a time stamp."""
    (tmp_path / "whole.hdf5").write_bytes(content)
    with h5py.File(path) as one, h5py.File(tmp_path / "whole.hdf5") as other:
        same = all(np.array_equal(one[name][()], other[name][()]) for name in ("observations", "rewards", "actions"))
        return same and dict(one.attrs)["env_id"] == dict(other.attrs)["env_id"]


def test_an_edited_file_is_told_and_one_without_a_seal_is_not(tmp_path):
    path = record(tmp_path / "c.hdf5", 40)
    with h5py.File(path, "r+") as file:
        file["rewards"][3] += 1.0
    (error,) = errors(path)
    assert "does not match its checksum" in error
    with h5py.File(path, "r+") as file:
        del file.attrs["content_sha256"]
        check_seal(file, path)
    assert errors(path) == []


@pytest.mark.parametrize("name", ["rows.f32", "rewards.npy", "episode_ids.npy", "dataset.json"])
def test_a_flipped_bit_of_a_packed_folder_is_found_by_the_check(tmp_path, name):
    folder = write_packed(toy_dataset(), tmp_path / "packed")
    assert errors(folder) == []
    content = bytearray((folder / name).read_bytes())
    place = content.index(b'"name": "toy"') + 9 if name == "dataset.json" else len(content) - 3
    content[place] ^= 1
    (folder / name).write_bytes(content)
    (error,) = errors(folder)
    assert f"{name} do not match their checksums" in error


# Targets that are there already


def test_an_export_replaces_only_what_it_is_told_to(tmp_path):
    source = str(write_d4rl(toy_dataset(), tmp_path / "toy.hdf5"))
    for kind, name in (("d4rl", "again.hdf5"), ("packed", "folder")):
        out = tmp_path / name
        export(source, str(out), kind)
        with pytest.raises(FileExistsError, match=rf"{name} is already there; --overwrite replaces it"):
            export(source, str(out), kind)
        export(source, str(out), kind, overwrite=True)
        assert len(open_dataset(str(out))) == 210
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileExistsError, match="photos is no packed dataset"):
        export(source, str(tmp_path / "photos"), "packed", overwrite=True)


def test_a_packed_folder_has_one_writer(tmp_path):
    with Lock(tmp_path / "packed"), pytest.raises(InUseError, match="packed is being written by process"):
        write_packed(toy_dataset(), tmp_path / "packed")
    write_packed(toy_dataset(), tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]

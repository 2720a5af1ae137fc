"""Whole or not at all, one writer at a time, and what killed writers leave."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoo.export import files
from zoo.export.files import InUseError, Lock, remains, whole, whole_folder, write_whole

WRITER = """
import sys, time
from pathlib import Path
from zoo.export.files import Lock, whole
with Lock(Path(sys.argv[1])), whole(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing tmp_path/target."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "target")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fail_within(context, work) -> None:
    with context as temporary:
        work(temporary)
        raise ZeroDivisionError


def test_a_file_appears_with_its_whole_content_or_not(tmp_path):
    write_whole(tmp_path / "deep" / "a", b"one")
    with pytest.raises(ZeroDivisionError):
        fail_within(whole(tmp_path / "deep" / "a"), lambda temporary: temporary.write_bytes(b"two"))
    assert (tmp_path / "deep" / "a").read_bytes() == b"one"
    assert names(tmp_path / "deep") == {"a"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_modes_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a", b"")
        with whole_folder(tmp_path / "b") as folder:
            (folder / "c").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == (tmp_path / "b" / "c").stat().st_mode & 0o777 == mode
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_symlink_is_written_through(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    write_whole(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"x"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_one(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "exchanged", lambda one, other: False)
    for name in ("old", "new"):
        with whole_folder(tmp_path / "folder") as folder:
            (folder / name).write_bytes(b"")
    assert names(tmp_path / "folder") == {"new"}
    assert names(tmp_path) == {"folder"}


def test_an_error_leaves_the_folder_that_was_there(tmp_path):
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "old").write_bytes(b"")
    with pytest.raises(ZeroDivisionError):
        fail_within(whole_folder(tmp_path / "folder"), lambda folder: (folder / "new").write_bytes(b""))
    assert names(tmp_path / "folder") == {"old"}
    assert names(tmp_path) == {"folder"}


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path, writer):
    (tmp_path / ".target.not-ours.part").mkdir()
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert len(remains(tmp_path / "target")) == 1
    write_whole(tmp_path / "target.other", b"")  # another target: leaves it alone
    assert len(remains(tmp_path / "target")) == 1
    with Lock(tmp_path / "target"):  # its lock has gone with it
        write_whole(tmp_path / "target", b"whole")
    assert names(tmp_path) == {"target", "target.other", ".target.not-ours.part"}


def test_what_a_living_writer_has_is_left_alone(tmp_path, writer):
    write_whole(tmp_path / "target", b"whole")
    assert len(remains(tmp_path / "target")) == 1


def test_the_second_writer_is_refused_and_told_of_the_first(tmp_path, writer):
    with pytest.raises(InUseError, match=rf"target is being written by process {writer.pid} on "):
        Lock(tmp_path / "target")
    writer.kill()
    writer.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with Lock(tmp_path / "target"):
            break


def test_a_lock_is_also_one_between_two_in_a_process(tmp_path):
    with Lock(tmp_path / "a"):
        with pytest.raises(InUseError, match=f"process {os.getpid()}"):
            Lock(tmp_path / "a")
        Lock(tmp_path / "b").release()
    assert names(tmp_path) == set()

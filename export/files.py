"""Files and folders that appear whole or not at all, and have one writer at a time.

What is being written lies in a folder of its own beside the target, `.name.<8 hex digits>.part`, which its writer keeps
locked. A lock ends with its process, however that ends: so the next writer of the same target knows what a killed one
has left, and removes it. Before a name changes hands, the content is on the disk (fsync), and after it the name.

Locks are flock's, and advisory. Where a file system has none, there is one writer at a time only if people see to it.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF}
RENAME_EXCHANGE, AT_FDCWD = 2, -100  # of Linux's renameat2(2)


class InUseError(OSError):
    """Another process is writing the same output; the message has its number."""


# Whole or not at all ----------------------------------------------------------------------------------------------


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """The file appears under its name only when all of it is on the disk."""
    with whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The path of a new file, still to be made, which takes the name `path` after the block; after an error it is gone.

    Where `path` is a symlink, the file that it leads to is replaced. Modes follow the umask.
    """
    target = written_through(path)
    with workplace(target) as folder:
        temporary = folder / target.name
        yield temporary
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the name `path` after the block, in place of the one that has it; else it is gone.

    On Linux the two change places in one step. Elsewhere the old one steps aside first: a kill between the two leaves
    it in a folder .name.<8 hex digits>.part beside the target.
    """
    target = written_through(path)
    with workplace(target) as folder:
        temporary = folder / target.name
        temporary.mkdir()
        yield temporary
        for place, _, names in os.walk(temporary):
            for name in names:
                sync(Path(place) / name)
            sync(Path(place))
        swap(temporary, target)
        sync(target.parent)


def written_through(path: Path) -> Path:
    """Where a symlink leads, so that a write goes through it."""
    return Path(os.path.realpath(path))


def swap(new: Path, old: Path) -> None:
    """`new` takes the name of `old`, which may not be there, and `old` that of `new`."""
    if not old.exists():
        os.rename(new, old)
    elif not exchanged(new, old):
        aside = new.with_name(new.name + ".old")
        os.rename(old, aside)
        try:
            os.rename(new, old)
        except BaseException:
            os.rename(aside, old)
            raise


def exchanged(one: Path, other: Path) -> bool:
    """Whether the system has exchanged the two names in one step."""
    libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if not hasattr(libc, "renameat2"):
        return False
    paths = AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other)
    return libc.renameat2(*paths, RENAME_EXCHANGE) == 0


def sync(path: Path) -> None:
    """What is known of a file's content, or of a folder's names, is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_LOCKS:  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


@contextmanager
def workplace(target: Path) -> Iterator[Path]:
    """A folder beside the target, gone after the block, and with it what killed writers of the target have left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_remains(target)
    folder, descriptor = _locked_folder(target)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remains(target: Path) -> list[Path]:
    """The folders in which somebody is writing the target, or was."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part")
    try:
        return [place for place in target.parent.iterdir() if pattern.fullmatch(place.name)]
    except OSError:
        return []


def remove_remains(target: Path) -> None:
    """Removes those whose writer is no more: nobody holds their lock."""
    for place in remains(target):
        with contextlib.suppress(OSError):  # another one removes it too, or it is not ours to remove
            descriptor = os.open(place, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(descriptor)


def _locked_folder(target: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that locks it."""
    while True:
        folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError):  # removed between its making and its lock
            descriptor = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return folder, descriptor
            os.close(descriptor)


# One writer at a time ---------------------------------------------------------------------------------------------


class Lock:
    """The right to write an output for as long as it takes; with Lock(path): ... Ends with release or the process.

    file: the one that is locked, whose content says whose it is; by default `.name.lock` beside the output. Raises
    InUseError where another process, or
    another Lock of this one, has it; PermissionError where the folder cannot be written.
    """

    descriptor = -1  # of the lock file

    def __init__(self, path: Path, file: Path | None = None):
        path = written_through(path)
        self.file = file or path.with_name(f".{path.name}.lock")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = _locked_file(path, self.file)
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def release(self) -> None:
        """Twice is no error."""
        descriptor, self.descriptor = self.descriptor, -1  # first, so that a signal in between closes nothing twice
        if descriptor >= 0:
            self.file.unlink(missing_ok=True)
            os.close(descriptor)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


def _locked_file(path: Path, file: Path) -> int:
    """The descriptor of the lock file of `path`, locked."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise InUseError(
                f"{path} is being written by {owner or 'another process'}; wait until it has ended, or give another "
                "path"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            warnings.warn(f"{path.parent} knows no locks: see to it that nobody else writes {path}", stacklevel=4)
            return descriptor
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # its last owner removed it in between

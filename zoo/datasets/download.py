"""Benchmarks' files without the benchmarks: D4RL, OGBench, and through its own library Minari. Only when asked for.

A file is whole or not there: it grows as NAME.part beside its place, goes on where it stopped, and takes its name when
its size is the server's, its content is what its suffix says, and its rows are the catalogue's. Its SHA-256 is written
beside it (NAME.sha256), and compared whenever it is read.
"""

from __future__ import annotations

import fnmatch
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from zoo.datasets.checks import DatasetNotFoundError, DatasetValueError
from zoo.datasets.readers import d4rl, minari, ogbench

CHUNK = 1 << 20
STALL = 30.0  # seconds without a byte, after which a connection is given up
TRIES = 5  # in a row without progress
MAGIC = {".hdf5": b"\x89HDF\r\n\x1a\n", ".h5": b"\x89HDF\r\n\x1a\n", ".npz": b"PK"}

# Rows of D4RL's files (arXiv 2004.07219 and the published files).
ROWS = {
    **{f"halfcheetah-{kind}-v2": 1_000_000 for kind in ("random", "medium", "expert", "full-replay")},
    "halfcheetah-medium-replay-v2": 202_000,
    "halfcheetah-medium-expert-v2": 2_000_000,
    "hopper-medium-v2": 1_000_000,
    "hopper-medium-replay-v2": 402_000,
    "hopper-medium-expert-v2": 1_999_906,
    "walker2d-medium-v2": 1_000_000,
    "walker2d-medium-replay-v2": 302_000,
    "walker2d-medium-expert-v2": 1_999_995,
    "pen-human-v1": 5_000,
    "door-human-v1": 6_729,
    "hammer-human-v1": 11_310,
    "relocate-human-v1": 9_942,
}

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where the server says


@dataclass(frozen=True)
class Remote:
    """One file to fetch. rows: what the catalogue knows of its rows, None where nothing."""

    name: str
    url: str
    path: Path
    rows: int | None = None


def remotes(names: tuple[str, ...], mirror: str | None = None) -> list[Remote]:
    """The files of D4RL ids, patterns of them (antmaze-*), and OGBench ids.

    mirror: a folder on another server that has the files under their names.
    Raises DatasetNotFoundError for a name that is in no catalogue.
    """
    found = []
    for name in names:
        ids = [known for known in d4rl.CATALOG if fnmatch.fnmatchcase(known, name)]
        for known in ids:
            file = d4rl.CATALOG[known]
            place = d4rl.folders()[0] / file.file_name
            found.append(Remote(known, _at(mirror, file.url), place, ROWS.get(known)))
        if not ids and ogbench.ID.fullmatch(name):
            url = ogbench.url_of(name)
            found.append(Remote(name, _at(mirror, url), ogbench.folders()[0] / url.rsplit("/", 1)[-1]))
        elif not ids:
            raise DatasetNotFoundError(
                f"no catalogue has {name!r}: there are D4RL's ids, such as hopper-medium-v2 or antmaze-*, OGBench's, "
                "such as antmaze-medium-navigate-v0, and Minari's, such as mujoco/hopper/medium-v0."
            )
    return found


def download(names: tuple[str, ...], mirror: str | None = None, progress: Progress | None = None) -> Iterator[Path]:
    """Fetches each dataset that is not there yet, and gives its path. Raises as fetch, remotes and Minari's library."""
    plain = tuple(name for name in names if "/" not in name)
    for remote in remotes(plain, mirror):
        if remote.path.is_file():
            check_hash(remote.path)
        else:
            fetch(remote, progress)
        yield remote.path
    for name in names:
        if "/" in name:
            yield _minari(name)


def _at(mirror: str | None, url: str) -> str:
    return url if mirror is None else f"{mirror.rstrip('/')}/{url.rsplit('/', 1)[-1]}"


def _minari(name: str) -> Path:
    package = minari.package(f"downloading {name}")
    if minari.find_folder(name) is None:
        package.download_dataset(name)
    folder = minari.find_folder(name)
    if folder is None:
        raise DatasetNotFoundError(f"Minari has no dataset {name!r}; `minari list remote` shows them.")
    return folder


def fetch(remote: Remote, progress: Progress | None = None, stall: float = STALL, wait: float = 1.0) -> Path:
    """The file under its name, when all of it is there and it is what it should be. Returns the path.

    Goes on with an earlier part where the server has the same file still. Tries again after a cut or a stall, so long
    as bytes come. Raises DatasetNotFoundError where the server has no such file, DatasetValueError for one that is not
    what it should be, ConnectionError where nothing comes.
    """
    part = remote.path.with_name(remote.path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            total = _receive(remote.url, part, progress, stall)
            break
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, DatasetNotFoundError | DatasetValueError):
                raise
            now = part.stat().st_size if part.is_file() else 0
            failures = 0 if now > before else failures + 1
            if failures == TRIES:
                raise ConnectionError(
                    f"{remote.url} gave nothing {TRIES} times ({error}). {now:,} bytes are kept in {part}: the same "
                    "command goes on; --mirror URL takes the file from elsewhere."
                ) from error
            time.sleep(wait * 2**failures)
    try:
        _check(remote, part, total)
    except DatasetValueError:
        part.unlink()
        _about(part).unlink(missing_ok=True)
        raise
    digest = _sha256(part)
    os.replace(part, remote.path)
    _about(part).unlink(missing_ok=True)
    remote.path.with_name(remote.path.name + ".sha256").write_text(f"{digest}  {remote.path.name}\n")
    return remote.path


def check_hash(path: Path) -> None:
    """Raises DatasetValueError where the file is not the one whose hash was written beside it; else nothing."""
    beside = path.with_name(path.name + ".sha256")
    if beside.is_file() and (known := beside.read_text().split()) and _sha256(path) != known[0]:
        raise DatasetValueError(
            f"{path} has changed since it was downloaded: its SHA-256 is not that of {beside.name}. Remove both and "
            "download it again."
        )


def _about(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _receive(url: str, part: Path, progress: Progress | None, stall: float) -> int | None:
    """Appends what is missing. Returns the size that the server states, None where it states none."""
    about = _about(part)
    known = json.loads(about.read_text()) if about.is_file() and part.is_file() else {}
    have = part.stat().st_size if known.get("url") == url else 0
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if known.get("tag"):
            request.add_header("If-Range", known["tag"])  # the rest of the same file, or all of another one
    try:
        answer = urllib.request.urlopen(request, timeout=stall)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing, or the part is not of this file
            size = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if size.isdigit() and int(size) == have:
                return have
            part.unlink()
            raise ConnectionError(f"{have:,} bytes are not of this file") from error
        if error.code in (404, 403, 410):
            raise DatasetNotFoundError(
                f"{url} is not there ({error}). --mirror URL takes it from elsewhere."
            ) from error
        raise
    with answer:
        if answer.status != 206:
            have = 0
        stated = answer.headers.get("Content-Length")
        total = None if stated is None else have + int(stated)
        about.write_text(json.dumps({"url": url, "tag": answer.headers.get("ETag")}))
        with part.open("ab" if have else "wb") as file:
            while chunk := answer.read1(CHUNK):  # what has come: a stall loses none of it
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"cut after {have:,} of {total:,} bytes")
    return total


def _check(remote: Remote, part: Path, total: int | None) -> None:
    """Raises DatasetValueError where the bytes are not the file that was asked for."""
    size = part.stat().st_size
    with part.open("rb") as file:
        start = file.read(64)
    magic = MAGIC.get(remote.path.suffix, b"")
    if not start.startswith(magic):
        what = "a web page" if start.lstrip()[:1] == b"<" else f"something else ({start[:16]!r}...)"
        raise DatasetValueError(
            f"{remote.url} gave {what} in place of {remote.path.name}: a login, a notice, or a moved file. Open it "
            "in a browser, or take the file from elsewhere with --mirror URL."
        )
    if total is not None and size != total:
        raise DatasetValueError(f"{remote.url} gave {size:,} bytes and had stated {total:,}: download it again.")
    try:
        rows = _rows(part, remote.path.suffix)
    except (OSError, KeyError, ValueError) as error:
        raise DatasetValueError(f"{remote.url} gave a damaged file of {size:,} bytes ({error}): try again.") from error
    if remote.rows is not None and rows != remote.rows:
        raise DatasetValueError(
            f"{remote.url} gave {rows:,} rows, {remote.name} has {remote.rows:,}: it is another dataset, or a part."
        )


def _rows(path: Path, suffix: str) -> int:
    if suffix == ".npz":
        with path.open("rb") as file, np.load(file) as arrays:
            return len(arrays["actions"])
    with h5py.File(path) as file:
        return len(file["actions"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

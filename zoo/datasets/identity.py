"""Which data these are: where they lie, the hash of their content, and whether they are a benchmark's.

provenance holds it: source (the id that they were asked for by) or else path (absolute), sha256 (of the file's
content), and benchmark (the dataset that they are known to be).
"""

import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

from zoo.datasets.dataset import EMBEDDED, OfflineDataset
from zoo.datasets.readers import d4rl, minari
from zoo.datasets.sources import Source


def origin_of(source: Source, sha256: str = "") -> dict[str, str]:
    """source, or else path, and sha256 of what was located. sha256: where the reader has computed it."""
    place = {"path": str(source.path.absolute())} if source.name is None else {"source": source.name}
    return place | {"sha256": sha256 or file_hash(source)}


def origin_of_packed(folder: Path) -> dict[str, str]:
    """path and sha256 of a packed folder. The hash is of all but the wide rows, which may not fit memory."""
    folder, digest = folder.expanduser().absolute(), hashlib.sha256()
    for path in [folder / "dataset.json", *sorted(folder.glob("*.npy"))]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {"path": str(folder), "sha256": digest.hexdigest()}


def file_hash(source: Source) -> str:
    """SHA-256 of the file, of a Minari dataset that of its main file."""
    path = source.path
    if source.format == "minari":
        path = (minari.data_folder(path) or path) / "main_data.hdf5"
    if not path.is_file():  # Minari's other storage: a folder of files
        digest = hashlib.sha256()
        for part in sorted(path.parent.rglob("*")):
            if part.is_file():
                digest.update(part.name.encode() + part.read_bytes())
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def benchmark_of(source: Source, sha256: str, dataset: OfflineDataset) -> str | None:
    """The benchmark's dataset that the data are known to be, by one of three kinds of evidence; else None.

    They were asked for by an id and lie where that benchmark's tool puts them; they are an embedded set's bytes; or the
    file has D4RL's own name and no attributes, which D4RL's files have none of (agents compare the sizes too). A file
    that we wrote from a benchmark's says so itself (dataset.provenance).
    """
    if source.name is not None:
        return source.name
    for name in EMBEDDED:
        if sha256 == _embedded_hash(name):
            return name
    if "benchmark" in dataset.provenance:
        return str(dataset.provenance["benchmark"])
    file = d4rl.BY_FILE_NAME.get(source.path.name)
    foreign = set(dataset.provenance) - {"file", "sha256", "mode", "rows_in_file"}
    if source.format == "d4rl" and file is not None and not foreign:
        return file.name
    return None


@cache
def _embedded_hash(name: str) -> str:
    path = Path(str(resources.files("zoo.datasets") / "embedded" / f"{name}.hdf5"))
    return hashlib.sha256(path.read_bytes()).hexdigest()

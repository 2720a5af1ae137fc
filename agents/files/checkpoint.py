"""One zip a checkpoint: config.json and safetensors, written whole or not at all. No pickle.

config.json holds the class, the config, what the agent knows of its dataset, the counters, and a SHA-256 of every
other entry. state.safetensors holds parameters and buffers, optimizers.safetensors the moments, rng.safetensors the
generators, and replay.safetensors the online transitions, where there are any.
"""

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from zoo.export.files import write_whole

FORMAT = 2  # 2: ASPC's alpha_lr in the unit of its paper
Tensors = dict[str, dict[str, Tensor]]  # entry name without suffix -> tensor name -> tensor


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def with_suffix(path: str | os.PathLike) -> Path:
    path = Path(path)
    return path if path.suffix == ".zip" else path.with_name(path.name + ".zip")


def existing(path: str | os.PathLike) -> Path:
    """The file that is meant, with or without its suffix. Raises FileNotFoundError."""
    path = Path(path) if Path(path).exists() else with_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; agent.save(path) writes one")
    return path


def write_checkpoint(path: str | os.PathLike, config: dict[str, Any], tensors: Tensors) -> Path:
    """Writes the file beside its final place, then renames it. Returns the path, which always ends in .zip."""
    path = with_suffix(path)
    entries = {
        f"{name}.safetensors": tensors_to_bytes({k: v.detach().cpu().contiguous() for k, v in group.items()})
        for name, group in tensors.items()
        if group
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()}
    entries["config.json"] = json.dumps({"format": FORMAT, **config, "sha256": hashes}, indent=2).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo(name), content)  # no clock in it: equal agents give equal files
    write_whole(path, archive.getbuffer())
    return path


def read_checkpoint(path: str | os.PathLike) -> tuple[dict[str, Any], Tensors]:
    """The config and the tensors of a file. Raises FileNotFoundError, or CheckpointError with the reason."""
    path = existing(path)
    try:
        with zipfile.ZipFile(path) as file:
            check_members(path, file.infolist())
            entries = {name: file.read(name) for name in file.namelist()}
    except CheckpointError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        OverflowError,
        ValueError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint ({error}); it is damaged or cut off, use another copy"
        ) from error
    config = _read_config(path, entries)
    if foreign := sorted(entries.keys() - config["sha256"].keys() - {"config.json"}):
        raise CheckpointError(
            f"{path} has entries that no checksum names, {', '.join(foreign)[:200]}; use another copy"
        )
    for name, expected in config["sha256"].items():
        if name not in entries:
            raise CheckpointError(f"{path} lacks its entry {name}; it is damaged, use another copy")
        if hashlib.sha256(entries[name]).hexdigest() != expected:
            raise CheckpointError(
                f"{path}: the content of {name} does not match its checksum; it is damaged, use another copy"
            )
    try:
        return config, {n.removesuffix(".safetensors"): tensors_from_bytes(entries[n]) for n in config["sha256"]}
    except (SafetensorError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its tensors cannot be read ({error}); use another copy") from error


def check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raises CheckpointError for members that are not as write_checkpoint stores them, or larger than the file is."""
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
        raise CheckpointError(f"{path} is compressed or encrypted, and checkpoints are not; use another copy")
    if len({member.filename for member in members}) < len(members):
        raise CheckpointError(f"{path} has two entries of one name; it is damaged, use another copy")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise CheckpointError(f"{path} declares more than it holds; it is damaged, use another copy")


def _read_config(path: Path, entries: dict[str, bytes]) -> dict[str, Any]:
    try:
        config = dict(json.loads(entries["config.json"]))
        version, hashes = config["format"], dict(config["sha256"])
        if type(version) is not int or not isinstance(config["class"], str):
            raise TypeError(f"format {version!r}, class {config['class']!r}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has no readable config.json; it is not a checkpoint of an agent") from error
    if version > FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {version}, this version reads up to {FORMAT}: upgrade offline-agent-zoo"
        )
    return config | {"sha256": hashes}


def check_tensors(path: str | os.PathLike, label: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises CheckpointError that names every tensor missing, superfluous or of another shape."""
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is not known to this agent" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        if found[name].shape != expected[name].shape:
            problems.append(f"{name} has shape {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}")
    if problems:
        raise CheckpointError(f"{path}: {label} does not fit the agent: {'; '.join(problems)}")

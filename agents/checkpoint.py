"""One zip a checkpoint: config.json and safetensors, written whole or not at all. No pickle.

config.json holds the class, the config, what the agent knows of its dataset, the counters, and a SHA-256 of every
other entry. state.safetensors holds parameters and buffers, optimizers.safetensors the moments, rng.safetensors the
generators, and replay.safetensors the online transitions, where there are any.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from agents.spec import DataSpec

if TYPE_CHECKING:
    from agents.base import Agent

    AgentType = TypeVar("AgentType", bound=Agent)

FORMAT = 1
Tensors = dict[str, dict[str, Tensor]]  # entry name without suffix -> tensor name -> tensor
EXTRA = "_extra_state"  # where torch's state_dict keeps what get_extra_state returns


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


def with_suffix(path: str | os.PathLike) -> Path:
    path = Path(path)
    return path if path.suffix == ".zip" else path.with_name(path.name + ".zip")


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


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """The file appears under its name only when all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_checkpoint(path: str | os.PathLike) -> tuple[dict[str, Any], Tensors]:
    """The config and the tensors of a file. Raises FileNotFoundError, or CheckpointError with the reason."""
    path = Path(path) if Path(path).exists() else with_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; agent.save(path) writes one")
    try:
        with zipfile.ZipFile(path) as file:
            entries = {name: file.read(name) for name in file.namelist()}
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint ({error}); it is damaged or cut off, use another copy"
        ) from error
    config = _read_config(path, entries)
    for name, expected in config["sha256"].items():
        if name not in entries:
            raise CheckpointError(f"{path} lacks its entry {name}; it is damaged, use another copy")
        if hashlib.sha256(entries[name]).hexdigest() != expected:
            raise CheckpointError(
                f"{path}: the content of {name} does not match its checksum; it is damaged, use another copy"
            )
    return config, {name.removesuffix(".safetensors"): tensors_from_bytes(entries[name]) for name in config["sha256"]}


def _read_config(path: Path, entries: dict[str, bytes]) -> dict[str, Any]:
    try:
        config = json.loads(entries["config.json"])
        version, _ = config["format"], config["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has no readable config.json; it is not a checkpoint of an agent") from error
    if version > FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {version}, this version reads up to {FORMAT}: upgrade offline-agent-zoo"
        )
    return config


def check_tensors(path: str | os.PathLike, label: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises CheckpointError that names every tensor missing, superfluous or of another shape."""
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is not known to this agent" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        if found[name].shape != expected[name].shape:
            problems.append(f"{name} has shape {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}")
    if problems:
        raise CheckpointError(f"{path}: {label} does not fit the agent: {'; '.join(problems)}")


def agent_tensors(agent: Agent) -> Tensors:
    """Everything of the agent that is a tensor: state, optimizer moments, generators, online transitions."""
    state = {name: value for name, value in agent.state_dict().items() if not name.endswith(EXTRA)}
    moments = {
        f"{name}/{index}/{key}": value
        for name, optimizer in agent.optimizers.items()
        for index, moment in optimizer.state_dict()["state"].items()
        for key, value in moment.items()
    }
    generators = {name: draws.generator.get_state() for name, draws in agent.generators().items()}
    groups = {"state": state, "optimizers": moments, "rng": generators}
    if agent.replay is not None:
        groups["replay"] = {"rows": agent.replay.rows[: agent.replay.size], "next": torch.tensor(agent.replay.next)}
    return groups


def load_agent_tensors(agent: Agent, tensors: Tensors, path: str | os.PathLike = "checkpoint") -> None:
    """The inverse of agent_tensors. Raises CheckpointError where names or shapes do not fit."""
    own = agent_tensors(agent)
    for group in ("state", "rng"):
        check_tensors(path, f"{group}.safetensors", tensors.get(group, {}), own[group])
    extra = {name: value for name, value in agent.state_dict().items() if name.endswith(EXTRA)}
    agent.load_state_dict({**tensors["state"], **extra})
    for name, draws in agent.generators().items():
        draws.generator.set_state(tensors["rng"][name])
    for name, optimizer in agent.optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.get("optimizers", {}).items():
            owner, index, moment = key.split("/")
            if owner == name:
                state.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if "replay" in tensors:
        agent.replay = agent.new_replay()
        agent.replay.restore(tensors["replay"]["rows"], int(tensors["replay"]["next"]))


def save_agent(agent: Agent, path: str | os.PathLike) -> Path:
    extra = {name: value for name, value in agent.state_dict().items() if name.endswith(EXTRA)}
    config = {
        "class": type(agent).__name__,
        "seed": agent.seed,
        "population": agent.population,
        "dtype": str(agent.dtype).removeprefix("torch."),
        "precision": agent.precision,
        "config": dataclasses.asdict(agent.config),
        "dataset": dataclasses.asdict(agent.spec),
        "counters": extra,
    }
    return write_checkpoint(path, config, agent_tensors(agent))


def load_agent(cls: type[AgentType], path: str | os.PathLike, device: str | torch.device) -> AgentType:
    config, tensors = read_checkpoint(path)
    if config["class"] != cls.__name__:
        raise CheckpointError(
            f"{path} holds a {config['class']}, not a {cls.__name__}: "
            f"use {config['class']}.load, or zoo.load for any agent"
        )
    known = cls.Config.names()
    unknown = sorted(set(config["config"]) - set(known))
    if unknown:
        raise CheckpointError(
            f"{path} has settings that this version of {cls.__name__} does not know: {', '.join(unknown)}"
        )
    agent = cls(
        DataSpec.from_json(config["dataset"]),
        seed=config["seed"],
        population=config["population"],
        device=device,
        dtype=getattr(torch, config["dtype"]),
        precision=config["precision"],
        **config["config"],
    )
    load_agent_tensors(agent, tensors, path)
    agent.load_state_dict({**agent.state_dict(), **config["counters"]})
    return agent

"""An agent to and from the tensors and the settings of a checkpoint; a member of a population to an agent."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from zoo.agents.core.compute import choose_device
from zoo.agents.core.divergence import check_agent
from zoo.agents.core.learner import Learner, paper
from zoo.agents.core.spec import DataSpec
from zoo.agents.files.bounded import check_population, of_a_stranger
from zoo.agents.files.checkpoint import (
    CheckpointError,
    Tensors,
    check_tensors,
    existing,
    read_checkpoint,
    write_checkpoint,
)
from zoo.export.files import write_whole

LearnerType = TypeVar("LearnerType", bound=Learner)

LATER = {"predicting"}  # streams that older checkpoints do not have
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LIMITS = ("policy.observation_low", "policy.observation_high")  # earlier versions had no limits: a new agent's stand in
EXTRA = "_extra_state"  # where torch's state_dict keeps what get_extra_state returns


def agent_tensors(agent: Learner) -> Tensors:
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
        groups["replay"] = {
            "rows": agent.replay.rows[: agent.replay.size],
            "next": torch.tensor(agent.replay.next),
            "capacity": torch.tensor(agent.replay.capacity),
        }
    if memory := agent.memory():
        groups["memory"] = memory
    return groups


def load_agent_tensors(agent: Learner, tensors: Tensors, path: str | os.PathLike = "checkpoint") -> None:
    """The inverse of agent_tensors. Raises CheckpointError where names or shapes do not fit."""
    state = tensors.get("state", {})
    missing = {name: value for name, value in agent.state_dict().items() if name in LIMITS and name not in state}
    tensors = {**tensors, "state": state | missing}
    for group, expected in expected_tensors(agent, tensors).items():
        check_tensors(path, f"{group}.safetensors", tensors.get(group, {}), expected)
    extra = {name: value for name, value in agent.state_dict().items() if name.endswith(EXTRA)}
    agent.load_state_dict({**tensors["state"], **extra})
    for name, draws in agent.generators().items():
        if name in tensors["rng"]:
            draws.set_state(tensors["rng"][name])
    for name, optimizer in agent.optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.get("optimizers", {}).items():
            owner, index, moment = key.split("/")
            if owner == name:
                moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    try:
        agent.restore_memory(tensors.get("memory", {}))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if "replay" in tensors:
        restore_replay(agent, tensors["replay"], path)


def expected_tensors(agent: Learner, found: Tensors) -> Tensors:
    """What a checkpoint of this agent must hold: moments of every optimizer that has begun, and any replay's rows."""
    own = agent_tensors(agent)
    begun = {key.split("/")[0] for key in found.get("optimizers", {})}
    moments = {
        f"{name}/{index}/{key}": parameter if key != "step" else parameter.new_zeros(())
        for name, optimizer in agent.optimizers.items()
        if name in begun
        for index, parameter in enumerate(optimizer.parameters)
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
    saved = found.get("rng", {})
    streams = {
        name: saved.get(name, state)  # any device's
        for name, state in own["rng"].items()
        if name in saved or name not in LATER
    }
    expected = {"state": own["state"], "rng": streams, "optimizers": moments}
    if "replay" in found:
        rows, capacity = found["replay"].get("rows", ()), found["replay"].get("capacity", torch.zeros(()))
        size = min(len(rows), int(capacity)) if capacity.dim() == 0 else 0
        expected["replay"] = {
            "rows": torch.empty(size, agent.layout.width),
            "next": torch.empty(()),
            "capacity": torch.empty(()),
        }
    return expected


def save_agent(agent: Learner, path: str | os.PathLike) -> Path:
    """Raises NotFiniteError for an agent that has diverged: the file stays what it was."""
    check_agent(agent)
    extra = {name: value for name, value in agent.state_dict().items() if name.endswith(EXTRA)}
    config = {
        "class": type(agent).__name__,
        "module": type(agent).__module__,
        "paper": paper(type(agent)).__name__,
        "seed": agent.seed,
        "population": agent.population,
        "dtype": str(agent.dtype).removeprefix("torch."),
        "precision": agent.precision,
        "preset": agent.preset,
        "config": dataclasses.asdict(agent.config),
        "dataset": dataclasses.asdict(agent.spec),
        "counters": extra,
    }
    return write_checkpoint(path, config, agent_tensors(agent))


def save_replay(agent: Learner, path: str | os.PathLike) -> Path:
    """The online transitions in a .safetensors file, for load_replay. Raises ValueError if there are none."""
    if agent.replay is None:
        raise ValueError("there are no online transitions before finetune_online")
    content = tensors_to_bytes({name: value.cpu() for name, value in agent_tensors(agent)["replay"].items()})
    path = replay_path(path)
    write_whole(path, content)
    return path


def load_replay(agent: Learner, path: str | os.PathLike) -> None:
    """Raises FileNotFoundError, or CheckpointError for a file that is damaged or of another agent's rows."""
    path = replay_path(path)
    try:
        saved = tensors_from_bytes(path.read_bytes())
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another copy") from error
    check_tensors(path, "replay buffer", saved, expected_tensors(agent, {"replay": saved})["replay"])
    restore_replay(agent, saved, path)


def restore_replay(agent: Learner, saved: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Raises CheckpointError for a place or a size that no buffer has."""
    capacity, place = int(saved["capacity"]), int(saved["next"])
    if not len(saved["rows"]) <= capacity or not 0 <= place <= capacity:
        raise CheckpointError(
            f"{path}: a buffer of {capacity} rows has {len(saved['rows'])} and goes on at {place}; it is damaged"
        )
    agent.replay = agent.new_table(capacity)
    agent.replay.restore(saved["rows"], place)


def replay_path(path: str | os.PathLike) -> Path:
    """Where the file is. Stable-Baselines3's callbacks ask for .pkl, which this is not."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name.removesuffix(".pkl") + ".safetensors")


def load_agent(cls: type[LearnerType], path: str | os.PathLike, device: str | torch.device) -> LearnerType:
    config, tensors = read_checkpoint(path)
    if config["class"] != cls.__name__:
        raise CheckpointError(
            f"{path} holds a {config['class']}, not a {cls.__name__}: "
            f"use {config['class']}.load, or zoo.load for any agent"
        )
    where = choose_device(device)
    check_population(path, config.get("population"), tensors.get("state", {}))
    with of_a_stranger(existing(path)):
        return build_agent(cls, config, tensors, path, where)


def build_agent(
    cls: type[LearnerType], config: dict[str, Any], tensors: Tensors, path: str | os.PathLike, device: torch.device
) -> LearnerType:
    """The agent of what read_checkpoint has found. Raises CheckpointError, or whatever a damaged config leads to."""
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
        dtype=DTYPES[config["dtype"]],
        precision=config["precision"],
        **cls.Config.upgrade(config["config"], config["format"]),
    )
    agent.preset = config.get("preset")  # older checkpoints do not say
    load_agent_tensors(agent, tensors, path)
    for name, counters in config["counters"].items():
        whole = all(type(count) is int and 0 <= count < 2**53 for count in counters.values())
        if not (name.endswith(EXTRA) and whole):
            raise CheckpointError(f"{path}: its counters are no whole numbers; it is damaged, use another copy")
    agent.load_state_dict({**agent.state_dict(), **config["counters"]})
    return agent


def member(agent: LearnerType, index: int) -> LearnerType:
    """Agent.member: what has the population's axis is sliced, what members share is copied."""
    if agent.population is None or not 0 <= index < agent.population:
        raise IndexError(f"member {index} of a population of {agent.population}")
    settings = {name: getattr(agent.config.member(index), name) for name in agent.config.names()}
    single = type(agent)(
        agent.spec, seed=agent.seed, device=agent.device, dtype=agent.dtype, precision=agent.precision, **settings
    )
    single.preset = agent.preset
    own, theirs = agent_tensors(single), agent_tensors(agent)
    shapes = expected_tensors(single, theirs)
    for group, tensors in theirs.items():
        for name, tensor in tensors.items():
            sliced = tensor.shape != shapes.get(group, own.get(group, {}))[name].shape
            own.setdefault(group, {})[name] = (tensor[index] if sliced else tensor).clone()
    load_agent_tensors(single, own)
    single.set_extra_state(agent.get_extra_state())
    return single

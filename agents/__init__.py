"""The agents, one file for each paper, and the loader for a checkpoint of any of them."""

import os

import torch

from agents.base import Agent
from agents.batch import Batch
from agents.checkpoint import CheckpointError, read_checkpoint
from agents.pars import PARS, PARSConfig
from agents.spec import DataSpec
from agents.td3bc import TD3BC, TD3BCConfig

AGENTS: dict[str, type[Agent]] = {"TD3BC": TD3BC, "PARS": PARS}


def load(path: str | os.PathLike, device: str | torch.device = "auto") -> Agent:
    """The agent of a checkpoint, of whatever class it is. Raises CheckpointError for one that is not known."""
    name = read_checkpoint(path)[0]["class"]
    if name not in AGENTS:
        raise CheckpointError(f"{path} holds a {name}; this version knows {', '.join(AGENTS)}")
    return AGENTS[name].load(path, device=device)


__all__ = [
    "AGENTS",
    "PARS",
    "TD3BC",
    "Agent",
    "Batch",
    "CheckpointError",
    "DataSpec",
    "PARSConfig",
    "TD3BCConfig",
    "load",
]

"""Offline Agent Zoo: offline-RL agents from logged data to a file that a robot runs."""

from agents import (
    AGENTS,
    ASAC,
    ASPC,
    AWAC,
    CAR,
    CQL,
    CQLSA,
    IQL,
    PARS,
    SPOT,
    TD3,
    TD3BC,
    TD3BCSA,
    Agent,
    Batch,
    CheckpointError,
    ReBRAC,
    load,
)
from zoo.arrays import Episode, from_columns, from_episodes
from zoo.datasets import OfflineDataset, load_dataset
from zoo.envs import make_env
from zoo.evaluation import Evaluator, evaluate
from zoo.packed import open_packed
from zoo.sb3_data import from_replay_buffer
from zoo.scores import normalized_score

__version__ = "0.1.0"

__all__ = [
    "AGENTS",
    "ASAC",
    "ASPC",
    "AWAC",
    "CAR",
    "CQL",
    "CQLSA",
    "IQL",
    "PARS",
    "SPOT",
    "TD3",
    "TD3BC",
    "TD3BCSA",
    "Agent",
    "Batch",
    "CheckpointError",
    "Episode",
    "Evaluator",
    "OfflineDataset",
    "ReBRAC",
    "evaluate",
    "from_columns",
    "from_episodes",
    "from_replay_buffer",
    "load",
    "load_dataset",
    "make_env",
    "normalized_score",
    "open_packed",
]

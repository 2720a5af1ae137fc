"""Offline Agent Zoo: offline-RL agents from logged data to a file that a robot runs."""

from agents import AGENTS, PARS, TD3BC, Agent, Batch, CheckpointError, load
from zoo.datasets import OfflineDataset, load_dataset
from zoo.envs import make_env
from zoo.evaluation import evaluate
from zoo.scores import normalized_score

__version__ = "0.1.0"

__all__ = [
    "AGENTS",
    "PARS",
    "TD3BC",
    "Agent",
    "Batch",
    "CheckpointError",
    "OfflineDataset",
    "evaluate",
    "load",
    "load_dataset",
    "make_env",
    "normalized_score",
]

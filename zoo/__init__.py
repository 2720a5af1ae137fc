"""Offline Agent Zoo: offline-RL agents from logged data to a file that a robot runs.

Names are handed on when they are asked for, so that importing a part, such as zoo.datasets, never imports torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.agents import (
        AGENTS,
        ASAC,
        ASPC,
        AWAC,
        BC,
        CAR,
        CQL,
        CQLSA,
        EDAC,
        FQL,
        IQL,
        PARS,
        RLPD,
        SACN,
        SPOT,
        TD3,
        TD3BC,
        TD3BCSA,
        Agent,
        Batch,
        CalQL,
        CheckpointError,
        DiffusionQL,
        ReBRAC,
        load,
    )
    from zoo.datasets.dataset import OfflineDataset
    from zoo.datasets.load import load_dataset, read_logs
    from zoo.datasets.packed import open_packed
    from zoo.datasets.readers.arrays import Episode, from_columns, from_episodes
    from zoo.datasets.readers.sb3 import from_replay_buffer
    from zoo.evaluation.envs import make_env
    from zoo.evaluation.rollouts import Evaluator, evaluate
    from zoo.evaluation.scores import normalized_score

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # onnxruntime reads it when it is imported; "0" in the environment wins

__version__ = "0.1.0"

__all__ = [
    "AGENTS",
    "ASAC",
    "ASPC",
    "AWAC",
    "BC",
    "CAR",
    "CQL",
    "CQLSA",
    "EDAC",
    "FQL",
    "IQL",
    "PARS",
    "RLPD",
    "SACN",
    "SPOT",
    "TD3",
    "TD3BC",
    "TD3BCSA",
    "Agent",
    "Batch",
    "CalQL",
    "CheckpointError",
    "DiffusionQL",
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
    "read_logs",
]

# Where the names are that are not zoo.agents'.
_HOMES = {
    "Episode": "zoo.datasets.readers.arrays",
    "Evaluator": "zoo.evaluation.rollouts",
    "OfflineDataset": "zoo.datasets.dataset",
    "evaluate": "zoo.evaluation.rollouts",
    "from_columns": "zoo.datasets.readers.arrays",
    "from_episodes": "zoo.datasets.readers.arrays",
    "from_replay_buffer": "zoo.datasets.readers.sb3",
    "load_dataset": "zoo.datasets.load",
    "make_env": "zoo.evaluation.envs",
    "normalized_score": "zoo.evaluation.scores",
    "open_packed": "zoo.datasets.packed",
    "read_logs": "zoo.datasets.load",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "zoo.agents")), name)
    globals()[name] = value  # asked for once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

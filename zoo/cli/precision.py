"""zoo precision: an exported policy in half precision and in 8-bit integers."""

import json
import platform
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from zoo.cli.arguments import check_counts


@dataclass(frozen=True)
class Precision:
    """Write an exported policy in fp16 and int8 beside it, and print what that costs and gains.

    Args:
        directory: of zoo export; fp16/policy.onnx and int8/policy.onnx go there.
        dataset: the one of the training, by name or path; its observations set the integers' ranges.
        episodes: of each policy, reset seeds from 100 on; 0: no environment.
        trust: import the module and pass the arguments that the file names for its environment.
        json: write the figures there too.
    """

    directory: Positional[Path]
    dataset: str
    episodes: int = 20
    json: Path | None = None
    trust: bool = False

    def run(self) -> None:
        print(precision(self))


def precision(command: Precision) -> str:
    """The table of figures, after they are written."""
    import numpy as np
    import onnxruntime

    from zoo.datasets.load import load_dataset
    from zoo.evaluation.envs import make_env
    from zoo.evaluation.rollouts import evaluate
    from zoo.export.files import write_whole
    from zoo.export.precision import figures, table
    from zoo_robot.runtime import OnnxPolicy

    check_counts(command, episodes=0)
    dataset = load_dataset(command.dataset)

    def evaluation(policy: OnnxPolicy) -> np.ndarray:
        return evaluate(policy, lambda: make_env(dataset, trust=command.trust), command.episodes, seed=100)

    rows = figures(command.directory, dataset.observations, evaluation if command.episodes else None)
    if command.json is not None:
        about = {
            "dataset": dataset.name,
            "machine": platform.processor() or platform.machine(),
            "onnxruntime": onnxruntime.__version__,
            "provider": "cpu",
            "threads": 1,
            "rows": rows,
        }
        write_whole(command.json, json.dumps(about, indent=2).encode())
    return table(rows)

"""From a checkpoint to a bundle, with what is known of its returns."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from agents import Agent, load
from export.disagreement import Disagreement
from export.guard import write_guard
from zoo.callbacks import EPISODES, read_curve
from zoo.datasets import load_dataset
from zoo.scores import REFERENCES, normalized_score

STUDENT = 2.262  # 97.5 % quantile of Student's t with 9 degrees of freedom


def export_report(
    checkpoint: Path,
    directory: Path,
    evaluation_samples: int | None,
    contract: Path | None,
    guard: float | None = None,
    dataset: str | None = None,
) -> str:
    """Exports a checkpoint; returns what was checked and the hash of the contract, as text.

    guard: the quantile of a disagreement.onnx, calibrated on `dataset`, by default the one of the training.
    """
    agent = load(checkpoint)
    data = None if guard is None else load_dataset(dataset or agent.spec.name)
    scores = known_scores(agent, checkpoint.parent / "evaluations.csv", evaluation_samples)
    folder = agent.export_onnx(directory, evaluation_samples, contract, scores)
    report = json.loads((folder / "report.json").read_text())
    digest = hashlib.sha256((folder / "contract.json").read_bytes()).hexdigest()
    lines = [json.dumps(report, indent=2), f"contract.json has the SHA-256 {digest}"]
    if guard is not None and data is not None:
        calibration = Disagreement(write_guard(agent, data, folder, guard)).metadata["calibration"]
        lines.append(
            f"disagreement.onnx: threshold {calibration['threshold']:.4g}, median {calibration['median']:.4g} on "
            f"{calibration['rows']:,} rows; it refuses the actor in {calibration['policy_alarms']:.2%} of their states"
        )
    lines.append(f"exported to {folder}; on the robot: python -m export.runtime verify {folder}")
    return "\n".join(lines)


def known_scores(agent: Agent, evaluations: Path, evaluation_samples: int | None = None) -> list[dict[str, Any]] | None:
    """The evaluation of exactly this agent in the run's file, with a 95 % interval of its mean return; None without.

    evaluation_samples: of the export; the run evaluated the agent's own number, and another one is another policy.
    The interval is Student's over the episodes of one policy. It says nothing of other training seeds.
    """
    points = [p for p in read_curve(evaluations) if (p.timesteps, p.online) == (agent.num_timesteps, agent.online)]
    if not points or evaluation_samples not in (None, agent.config.evaluation_samples):
        return None
    mean, std = points[-1].return_mean, points[-1].return_std  # that of all episodes, not the estimate from a sample
    half = STUDENT * std / np.sqrt(EPISODES - 1)
    interval = [mean - half, mean + half]
    score: dict[str, Any] = {
        "environment": agent.spec.env_id,
        "timesteps": agent.num_timesteps,
        "episodes": EPISODES,
        "mean": mean,
        "interval": interval,
    }
    if agent.spec.name in REFERENCES:
        score["normalized"] = float(normalized_score(agent.spec.name, mean))
        score["normalized_interval"] = normalized_score(agent.spec.name, interval).tolist()
    return [score]

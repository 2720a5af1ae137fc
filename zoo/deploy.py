"""From a checkpoint to a bundle, with what is known of its returns."""

import hashlib
import json
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from agents import Agent, load
from export.disagreement import Disagreement
from export.guard import write_guard
from zoo.callbacks import read_curve
from zoo.packed import open_dataset
from zoo.scores import REFERENCES, normalized_score

FEWEST = 5  # episodes that an interval is made of


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
    data = None if guard is None else open_dataset(dataset or agent.spec.name)
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
    """The evaluation of exactly this agent in the run's file, with a 95 % interval of its mean return.

    None where the file has none, or one of fewer than FEWEST episodes.
    evaluation_samples: of the export; the run evaluated the agent's own number, and another one is another policy.
    The interval is Student's over the episodes of one policy. It says nothing of other training seeds.
    """
    points = [p for p in read_curve(evaluations) if (p.timesteps, p.online) == (agent.num_timesteps, agent.online)]
    if not points or evaluation_samples not in (None, agent.config.evaluation_samples):
        return None
    mean, std, episodes = points[-1].return_mean, points[-1].return_std, points[-1].episodes
    if episodes < FEWEST:
        return None
    half = student(episodes - 1) * std / np.sqrt(episodes - 1)  # std is that of the episodes, not the estimate of more
    interval = [mean - half, mean + half]
    score: dict[str, Any] = {
        "environment": agent.spec.env_id,
        "timesteps": agent.num_timesteps,
        "episodes": episodes,
        "mean": mean,
        "interval": interval,
    }
    if agent.spec.name in REFERENCES:
        score["normalized"] = float(normalized_score(agent.spec.name, mean))
        score["normalized_interval"] = normalized_score(agent.spec.name, interval).tolist()
    return [score]


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t by its expansion, within 0.3 % from 4 degrees of freedom on.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(0.975)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))

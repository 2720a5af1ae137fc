"""What is known of an agent's returns, for the contract of its bundle."""

from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from zoo.agents import Agent
from zoo.evaluation.callbacks import read_curve
from zoo.evaluation.scores import SUCCESS, has_score, normalized_score, references

FEWEST = 5  # episodes that an interval is made of


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
    half = student(episodes - 1) * std / (episodes - 1) ** 0.5  # std is that of the episodes, not the estimate of more
    interval = [mean - half, mean + half]
    score: dict[str, Any] = {
        "environment": agent.spec.env_id,
        "timesteps": agent.num_timesteps,
        "episodes": episodes,
        "mean": mean,
        "interval": interval,
    }
    if has_score(agent.spec.name, mean):
        if references(agent.spec.name) == SUCCESS:
            interval = np.clip(interval, 0.0, 1.0).tolist()
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

"""What a bundle says of a policy beside its networks. No agent is known here: whoever has a Policy may fill it in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Description:
    """Where a policy comes from, and the units that it was trained in.

    agent: name of the algorithm. summary, paper: a line about it and its source, None where unknown.
    config: every setting. dataset: name, env_id and provenance of the data. counters: updates and env_steps.
    action_low, action_high: the action box, (A,), in the units of the environment.
    normalizes: whether the policy's mean and deviation of the observations are those of the data.
    stated: names, units, ranges and the control rate that the data state, in the shape of zoo.export.stated.
    history, delay: what the policy takes: so many observations, the newest first, then so many past actions.
    evaluation_samples: candidates that the critics choose from, where an export does not say otherwise; 1 is none.
    """

    agent: str
    summary: str | None
    paper: str | None
    seed: int
    config: Mapping[str, Any]
    dataset: Mapping[str, Any]
    counters: Mapping[str, int]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    normalizes: bool
    evaluation_samples: int = 1
    stated: Mapping[str, Any] = field(default_factory=dict)
    history: int = 1
    delay: int = 0

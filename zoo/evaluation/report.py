"""Returns and scores in words, each labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.agents import load
from zoo.evaluation.callbacks import Point, lost_return
from zoo.evaluation.protocols import counts_successes
from zoo.evaluation.rollouts import Rollouts
from zoo.evaluation.scores import has_score, normalized_score, references, successes


def curve_summary(name: str, curve: list[Point], last: int) -> list[str]:
    """The last evaluation, the mean of the last k and the best, of the phase, offline or online, that came last."""
    phase = [point for point in curve if point.online == curve[-1].online]
    tail = phase[-last:]
    best = max(phase, key=lambda point: point.return_mean)
    rows = [
        (f"last, at step {phase[-1].timesteps:,}", phase[-1].return_mean),
        (f"mean of the last {len(tail)}", float(np.mean([point.return_mean for point in tail]))),
        (f"best of {len(phase)}, at step {best.timesteps:,}", best.return_mean),
    ]
    lines = [f"  {label:<32} return {value:.1f}{_score(name, value)}" for label, value in rows]
    lines.append("  The best is chosen with hindsight, by the episodes that it is reported on.")
    told = lost_return(curve) if curve[-1].online else None
    return [*lines, f"  {told[0].upper()}{told[1:]}."] if told else lines


def open_policy(
    path: Path, evaluation_samples: int | None
) -> tuple[Any, str, str | None, dict[str, Any], dict[str, Any]]:
    """The policy, the name, environment and provenance of its dataset, and what its predict takes."""
    if path.is_dir() or path.suffix == ".onnx":
        from zoo_robot.runtime import OnnxPolicy

        policy = OnnxPolicy(path)
        dataset = policy.metadata["dataset"]
        return policy, dataset["name"], dataset["env_id"], dataset["provenance"], {}
    agent = load(path)
    spec = agent.spec
    return agent, spec.name, spec.env_id, spec.provenance, {"evaluation_samples": evaluation_samples}


def episodes_summary(name: str, result: Rollouts) -> list[str]:
    """Return, success where the environment tells it, and score. name: of the dataset."""
    returns = result.returns
    lines = [f"return {returns.mean():.1f} ± {returns.std():.1f}, from {returns.min():.1f} to {returns.max():.1f}"]
    if result.successes is not None:
        lines.append(f"success {100 * result.successes.mean():.1f}%")
    if counts_successes(name):
        lines.append("score: the success, as OGBench has it (over 50 episodes of each task)")
    elif references(name) is None:
        lines.append(f"no reference score is known for {name}")
    else:
        zero, hundred = references(name) or (0.0, 1.0)
        reached = successes(name, returns)
        mean = float((returns if reached is None else reached).mean())
        if not has_score(name, mean):
            return [*lines, f"no score: {name} counts successes, and these rewards do not say which episodes are some"]
        score = normalized_score(name, mean)
        lines.append(f"score {score:.1f} on the scale of {name}: 0 is a return of {zero:g}, 100 of {hundred:g}")
    return lines


def _score(name: str, value: float) -> str:
    return f"  score {normalized_score(name, value):.1f}" if has_score(name, value) else ""

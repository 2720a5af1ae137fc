"""What zoo evaluate prints: returns and scores, each labelled, and the environment that they were measured in."""

from __future__ import annotations

import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agents import load
from zoo.callbacks import Point, read_curve
from zoo.envs import make_env, recorded_kwargs
from zoo.evaluation import Rollouts, rollouts
from zoo.protocols import counts_successes, environment_note
from zoo.scores import normalized_score, references

FEW = 20  # episodes that are over before another process would have started


def evaluation_report(
    path: Path,
    env: str | None,
    episodes: int,
    seed: int,
    evaluation_samples: int | None,
    last: int,
    workers: int | None = None,
) -> str:
    """Episodes of a checkpoint or an exported bundle, and the curve of its run where evaluations.csv lies beside it.

    env: a Gymnasium id in place of the dataset's. last: k, of the mean of the last k evaluations of the curve. workers:
    of zoo.evaluation.Evaluator; by default this process alone for FEW episodes, one for each core for more.
    """
    if last < 1:
        raise ValueError(f"--last must be at least 1, got {last}")
    policy, name, trained_in, provenance, keywords = _open(path, evaluation_samples)
    env_id = env or trained_in
    if env_id is None:
        raise ValueError(f"{path} names no environment; give --env, a Gymnasium id")
    kwargs = {} if env else recorded_kwargs(name, provenance)
    workers = 1 if workers is None and episodes <= FEW else workers
    result = rollouts(policy, partial(make_env, env_id, **kwargs), episodes, seed, workers=workers, **keywords)
    lines = [f"{path}: {episodes} episodes of {env_id}, reset seeds {seed} to {seed + episodes - 1}"]
    lines += _of_episodes(name, result)
    curve_file = path.parent / "evaluations.csv"
    curve = read_curve(curve_file)
    if curve:
        lines += ["", f"{curve_file}: the evaluations during training", *curve_summary(name, curve, last)]
    note = environment_note(name, env_id)
    if note:
        lines += ["", *textwrap.wrap(f"environment: {env_id}. {note}", 100)]
    return "\n".join(lines)


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
    return [*lines, "  The best is chosen with hindsight, by the episodes that it is reported on."]


def _open(path: Path, evaluation_samples: int | None) -> tuple[Any, str, str | None, dict[str, Any], dict[str, Any]]:
    """The policy, the name, environment and provenance of its dataset, and what its predict takes."""
    if path.is_dir() or path.suffix == ".onnx":
        from export.runtime import OnnxPolicy

        policy = OnnxPolicy(path)
        dataset = policy.metadata["dataset"]
        return policy, dataset["name"], dataset["env_id"], dataset["provenance"], {}
    agent = load(path)
    spec = agent.spec
    return agent, spec.name, spec.env_id, spec.provenance, {"evaluation_samples": evaluation_samples}


def _of_episodes(name: str, result: Rollouts) -> list[str]:
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
        score = normalized_score(name, float(returns.mean()))
        lines.append(f"score {score:.1f} on the scale of {name}: 0 is a return of {zero:g}, 100 of {hundred:g}")
    return lines


def _score(name: str, value: float) -> str:
    return "" if references(name) is None else f"  score {normalized_score(name, value):.1f}"

"""The log of a control loop (zoo_robot.runlog) as transitions. docs/control.md states the rule that this file keeps.

A transition goes from a tick with a sound observation to the next such tick. It is kept where

- as many ticks lie between them as usual in the run (its stride: 1 where every tick has a new observation), and none of
  these ticks is missing in the log, so that every transition spans the same time, and
- the same action was written in all of them.

Its action is the one that was written, whoever chose it: the policy, the limits, a hold, or the safe action. The robot
did it, and the observation after it is its effect. Anything else cuts the episode. A transition that begins in a state
which `done` called terminal is left out, for there the robot is put back on its feet.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.dataset import OfflineDataset
from zoo_robot.runlog import MARKER, Run, read_log

Judge = Callable[[Array, Array, Array], Array]  # observations (N, O), actions (N, A), next_observations (N, O) -> (N,)


@dataclass(frozen=True)
class Steps:
    """Where the transitions of a run begin and end, places in its rows (N,), and what was left out, by reason."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    cuts: Mapping[str, int]


def read_runlog(path: str | Path, reward: Judge, done: Judge | None = None) -> OfflineDataset:
    """Every run of a log, by the rule above. A run begins a new episode.

    reward, done: of all transitions at once, in the units of the robot; without done nothing is terminal.
    The action box is the policy's, widened where the loop's limits allow more. Its warnings say what was left out.
    Raises FileNotFoundError, LogError, or DatasetValueError where no transition is left or reward and done give other
    shapes.
    """
    path = Path(path).expanduser()
    log = read_log(path)
    sizes = {(run.about["observation_size"], run.about["action_size"]) for run in log.runs}
    if len(sizes) > 1:
        raise DatasetValueError(f"{path.name} has runs of different sizes (O, A): {sorted(sizes)}. Record them apart.")
    parts: list[dict[str, Array]] = []
    cuts: dict[str, int] = {}
    for run in log.runs:
        steps = steps_of(run)
        columns, resetting = transitions(path.name, run, steps, reward, done)
        for reason, count in {**steps.cuts, "reset": resetting}.items():
            cuts[reason] = cuts.get(reason, 0) + count
        parts += [columns] if len(columns["rewards"]) else []
    if not parts:
        raise DatasetValueError(
            f"{path.name} has no transition: {told(cuts)}. It needs ticks with a sound observation one after the other."
        )
    whole: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    about = log.runs[-1].about
    policy = about["policy"] or {}
    notes: tuple[str, ...] = (f"left out of {path.name}: {told(cuts)}",) if any(cuts.values()) else ()
    if log.damaged:
        notes += (f"{path.name}: {log.damaged:,} bytes are damaged or cut off and were left out",)
    return OfflineDataset.from_arrays(
        **whole,
        action_space=action_box(log.runs),
        name=path.stem,
        env_id=(policy.get("dataset") or {}).get("env_id"),
        provenance={
            "algorithm_name": f"{policy.get('agent', 'unknown policy')} on a robot",
            "log": path.name,
            "log_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "control_rate_hz": float(about["rate"]),
            "runs": len(log.runs),
        },
        stated=stated_of(policy, float(about["rate"])),
        warnings=notes,
    )


def stated_of(policy: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """Names and units of the contract that the policy ran under, in the shape of zoo.export.stated."""
    stated: dict[str, Any] = {"control_rate_hz": rate}
    for title, keys in (("observations", ("name", "unit", "low", "high")), ("actions", ("name", "unit"))):
        entries = policy.get(title) or []
        known = [{k: e[k] for k in keys if e.get(k) not in (None, "unknown")} for e in entries]
        stated |= {title: known} if any(known) else {}
    return stated


def is_runlog(path: Path) -> bool:
    """Whether a file is the log of a control loop."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MARKER)) == MARKER


def steps_of(run: Run) -> Steps:
    """The transitions that a run's ticks make, before any reward."""
    rows = run.rows
    seen = np.flatnonzero(run.observed)
    starts, ends = seen[:-1], seen[1:]
    if not len(starts):
        return Steps(starts, ends, {})
    span = rows["tick"][ends] - rows["tick"][starts]
    values, counts = np.unique(span, return_counts=True)
    stride = values[counts.argmax()]
    missing = (span != stride) | (ends - starts != span)
    changes = np.append(0, np.cumsum((rows["written"][1:] != rows["written"][:-1]).any(-1)))
    changed = changes[ends - 1] != changes[starts]
    kept = ~missing & ~changed
    cuts = {"gap": int(missing.sum()), "changed action": int((changed & ~missing).sum())}
    return Steps(starts[kept], ends[kept], cuts)


def transitions(owner: str, run: Run, steps: Steps, reward: Judge, done: Judge | None) -> tuple[dict[str, Array], int]:
    """Columns of OfflineDataset.from_arrays, and how many transitions began in a terminal state and were left out."""
    rows, starts, ends = run.rows, steps.starts, steps.ends
    columns: dict[str, Array] = {
        "observations": rows["observation"][starts],
        "actions": rows["written"][starts].astype(np.float32),
        "next_observations": rows["observation"][ends],
    }
    rewards = judged(owner, "reward", reward, columns)
    terminal = judged(owner, "done", done, columns) > 0.5 if done is not None else np.zeros(len(starts), bool)
    follows = np.append(False, starts[1:] == ends[:-1])[: len(starts)]
    resetting = follows & np.append(False, terminal[:-1])[: len(starts)]
    kept = ~resetting
    last = np.append(~follows[kept][1:], True)[: int(kept.sum())]
    ended = terminal[kept]
    columns = {name: column[kept] for name, column in columns.items()}
    columns |= {"rewards": rewards[kept], "terminations": ended, "truncations": (last & ~ended)}
    return columns, int(resetting.sum())


def judged(owner: str, name: str, judge: Judge, columns: Mapping[str, Array]) -> Array:
    """The user's function on all transitions, checked. It gets copies."""
    given = [columns[key].copy() for key in ("observations", "actions", "next_observations")]
    values = np.asarray(judge(*given))
    count = len(columns["actions"])
    if values.shape != (count,) or values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise DatasetValueError(
            f"{owner}: {name} must give one finite number for each of {count} transitions, of observations (N, O), "
            f"actions (N, A), next_observations (N, O); got shape {values.shape}, dtype {values.dtype}"
        )
    return values


def action_box(runs: tuple[Run, ...]) -> Box:
    """The policy's box, and the loop's where it is wider."""
    low = [run.about["limits"]["low"] for run in runs]
    high = [run.about["limits"]["high"] for run in runs]
    for run in runs:
        actions = (run.about["policy"] or {}).get("actions")
        if actions:
            low.append([action["low"] for action in actions])
            high.append([action["high"] for action in actions])
    return Box(np.min(low, 0).astype(np.float32), np.max(high, 0).astype(np.float32))


def told(cuts: Mapping[str, int]) -> str:
    """What was left out, in words."""
    words = {
        "gap": "{} steps over a gap",
        "changed action": "{} steps with more than one action",
        "reset": "{} steps out of a terminal state",
    }
    return ", ".join(words[name].format(count) for name, count in cuts.items() if count) or "nothing"


def function(text: str) -> Callable[..., Any]:
    """ "package.module:function", looked for in the current folder too. Raises ValueError that says what is wrong."""
    module, colon, name = text.partition(":")
    if not (colon and module and name):
        raise ValueError(f"a function is given as package.module:function, got {text!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{text}: there is no module {error.name!r} here or installed") from error
    except AttributeError as error:
        raise ValueError(f"{text}: {module} has no {name!r}") from error
    if not callable(found):
        raise ValueError(f"{text} is {found!r}, not a function")
    result: Callable[..., Any] = found
    return result

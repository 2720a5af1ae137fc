"""contract.json: what a robot must know of a policy, for people and programs. docs/contract.md explains every field.

A user states what no dataset knows, names, units, sensor ranges and the control rate, in a TOML file or a mapping of
the same shape:

    control_rate_hz = 125.0
    observations = [{name = "height of the torso", unit = "m", low = 0.0, high = 2.0}, {}, {}]
    actions = [{name = "torque of the hip", unit = "N m", low = -1.0, high = 1.0}]

Everything may be left out; a list has one entry, maybe empty, for each dimension.
"""

import hashlib
import json
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch

from zoo.export.description import Description
from zoo.policies import Policy

FORMAT = 2  # of the contract and of the metadata inside the files; zoo_robot.runtime reads it
KEYS = ("control_rate_hz", "observations", "actions")
DIMENSION = ("name", "unit", "low", "high")

Dimension = dict[str, Any]  # name: str or None, unit: str, low and high: float or None
Stated = str | os.PathLike | Mapping[str, Any]


class ContractError(ValueError):
    """What was stated of a robot cannot be so; the message says where, and what was expected."""


def whole_contract(
    policy: Policy, about: Description, samples: int, stated: Stated | None, scores: Sequence[Mapping] | None
) -> dict[str, Any]:
    """The contract of a policy, less what is known only of written files.

    stated: a TOML file or a mapping, see above. scores: evaluations of the policy as it is, None where none are known.
    Raises ContractError for a statement that does not fit the policy.
    """
    mean, std = (tensor.float().tolist() for tensor in (policy.observation_mean, policy.observation_std))
    config = strict(about.config)
    return {
        "format": FORMAT,
        "agent": about.agent,
        "summary": about.summary,
        "paper": about.paper,
        "seed": about.seed,
        "config": config,
        "config_sha256": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "weights_sha256": weights_sha256(policy),
        "dataset": strict(about.dataset),
        "counters": dict(about.counters),
        "scores": None if scores is None else [checked_score(score) for score in scores],
        "observation_size": len(mean),
        "action_size": len(about.action_low),
        **stated_of(policy, about, stated),
        "normalizer": {"mean": mean, "std": std},
        "evaluation_samples": samples,
        "search_noise": getattr(policy.actor, "search_noise", None),  # None: the actor's own distribution
        "versions": {module.__name__: str(module.__version__) for module in (torch, onnx, onnxscript, onnxruntime)},
    }


def weights_sha256(policy: Policy) -> str:
    """Of every parameter and buffer, by name: what tells two policies of the same settings apart."""
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode() + values.tobytes())
    return digest.hexdigest()


def stated_of(policy: Policy, about: Description, stated: Stated | None) -> dict[str, Any]:
    """control_rate_hz, observations and actions, complete and checked against the policy."""
    owner, values = read_stated(stated)
    rate = values.get("control_rate_hz")
    if rate is not None and not (is_number(rate) and rate > 0):
        raise ContractError(f"{owner}: control_rate_hz must be a positive number of Hz, got {rate!r}")
    means = policy.observation_mean.tolist()
    observations = dimensions(owner, "observations", values.get("observations"), len(means))
    actions = dimensions(owner, "actions", values.get("actions"), len(about.action_low))
    if about.normalizes:
        check_means(owner, observations, means)
    set_box(owner, actions, about.action_low, about.action_high)
    return {"control_rate_hz": rate, "observations": observations, "actions": actions}


def read_stated(stated: Stated | None) -> tuple[str, dict[str, Any]]:
    """What errors call it, and its values. Raises FileNotFoundError, or ContractError for other keys."""
    if stated is None or isinstance(stated, Mapping):
        owner, values = "contract", dict(stated or {})
    else:
        path = Path(stated)
        if not path.is_file():
            raise FileNotFoundError(f"no contract at {path}; give a TOML file with {', '.join(KEYS)}")
        try:
            owner, values = str(path), tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ContractError(f"{path} is not a TOML file: {error}") from error
    if unknown := sorted(set(values) - set(KEYS)):
        raise ContractError(f"{owner}: unknown {', '.join(unknown)}; it may state {', '.join(KEYS)}")
    return owner, values


def dimensions(owner: str, name: str, entries: Any, size: int) -> list[Dimension]:
    """One complete entry for each dimension, in the order of the vector; what is not stated is None or "unknown"."""
    if entries is None:
        entries = [{}] * size
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ContractError(f"{owner}: {name} must be a list of tables, one for each dimension, got {entries!r}")
    if len(entries) != size:
        raise ContractError(
            f"{owner}: {name} has {len(entries)} entries for the agent's {size} dimensions; {{}} is an unknown one"
        )
    complete = []
    for index, entry in enumerate(entries):
        label = f"{owner}: {name}[{index}]"
        if unknown := sorted(set(entry) - set(DIMENSION)):
            raise ContractError(f"{label} has unknown {', '.join(unknown)}; it may have {', '.join(DIMENSION)}")
        for key in ("name", "unit"):
            if not isinstance(entry.get(key, "-"), str) or not entry.get(key, "-").strip():
                raise ContractError(f"{label}: {key} must be a text, got {entry[key]!r}; leave it out where unknown")
        for key in ("low", "high"):
            if key in entry and not is_number(entry[key]):
                raise ContractError(f"{label}: {key} must be a finite number, got {entry[key]!r}; leave it out if none")
        low, high = entry.get("low"), entry.get("high")
        if low is not None and high is not None and not low < high:
            raise ContractError(f"{label}: low must be below high, got low={low}, high={high}")
        complete.append({"name": entry.get("name"), "unit": entry.get("unit", "unknown"), "low": low, "high": high})
    names = [entry["name"] for entry in complete if entry["name"] is not None]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise ContractError(f"{owner}: {name} has two dimensions of the name {twice[0]!r}; give each its own")
    return complete


def check_means(owner: str, observations: list[Dimension], means: Sequence[float]) -> None:
    """A mean of the data outside the sensor's range is another unit, or another order of the dimensions."""
    for index, (entry, mean) in enumerate(zip(observations, means, strict=True)):
        low = -math.inf if entry["low"] is None else entry["low"]
        high = math.inf if entry["high"] is None else entry["high"]
        if not low <= mean <= high:
            raise ContractError(
                f"{owner}: observations[{index}] ({entry['name'] or 'no name'}) lies in [{low:g}, {high:g}], but its "
                f"mean in the training data is {mean:g}: check the unit and the order of the dimensions"
            )


def set_box(owner: str, actions: list[Dimension], low: Sequence[float], high: Sequence[float]) -> None:
    """The box of the training is the box of the policy: a statement may repeat it, and another one is a mistake."""
    for index, (entry, *box) in enumerate(zip(actions, low, high, strict=True)):
        for key, own in zip(("low", "high"), box, strict=True):
            if entry[key] is not None and not np.isclose(entry[key], own, rtol=1e-6, atol=1e-6):
                raise ContractError(
                    f"{owner}: actions[{index}] ({entry['name'] or 'no name'}) has {key}={entry[key]:g}, the agent was "
                    f"trained with {own:g}: check the unit and the order; a tighter limit belongs to the control loop"
                )
            entry[key] = own


def checked_score(score: Mapping[str, Any]) -> dict[str, Any]:
    needed = {"environment", "episodes", "mean", "interval"}
    if not needed <= score.keys() or len(score["interval"]) != 2:
        raise ContractError(f"a score needs {', '.join(sorted(needed))} (low, high), got {dict(score)}")
    values: dict[str, Any] = strict(score)
    return values


def strict(value: Any) -> Any:
    """The same with "inf", "-inf" and "nan" for floats that JSON does not know."""
    if isinstance(value, Mapping):
        return {name: strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

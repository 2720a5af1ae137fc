"""contract.json: what a robot must know of a policy, for people and programs. docs/contract.md explains every field.

Names, units, sensor ranges and the control rate come from the data, where they state them, and from what a user states
beside or in place of them (zoo.export.stated).
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch

from zoo.export.description import Description
from zoo.export.stated import ContractError, Dimension, Stated, complete, overridden, read_stated
from zoo.policies import Policy

FORMAT = 2  # of the contract and of the metadata inside the files; zoo_robot.runtime reads it


def whole_contract(
    policy: Policy, about: Description, samples: int, stated: Stated | None, scores: Sequence[Mapping] | None
) -> dict[str, Any]:
    """The contract of a policy, less what is known only of written files.

    stated: a TOML file or a mapping, see zoo.export.stated. scores: evaluations of the policy as it is, None where none
    are known.
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
        "observation_size": sent_size(policy, about),
        "action_size": len(about.action_low),
        **stated_of(policy, about, stated),
        **({} if about.history == 1 and about.delay == 0 else {"history": about.history, "delay": about.delay}),
        "normalizer": {"mean": mean, "std": std},
        "observed": observed(policy),
        "evaluation_samples": samples,
        "generative": policy.generative,  # then one candidate takes noise too
        "noise_size": policy.noise_size,  # standard normal numbers that one candidate is made of
        "search_noise": getattr(policy.actor, "search_noise", None),  # None: the actor's own distribution
        "versions": {module.__name__: str(module.__version__) for module in (torch, onnx, onnxscript, onnxruntime)},
    }


def observed(policy: Policy) -> dict[str, Any] | None:
    """What the networks see at most, and the dimensions that they do not see; None for policies without limits."""
    if not policy.limited:
        return None
    low, high = (tensor.float().tolist() for tensor in (policy.observation_low, policy.observation_high))
    return {"low": low, "high": high, "constant": policy.constant}


def weights_sha256(policy: Policy) -> str:
    """Of every parameter and buffer, by name: what tells two policies of the same settings apart."""
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        if name in ("observation_low", "observation_high") and not policy.limited:
            continue  # earlier versions had none: their bundles keep their hash
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode() + values.tobytes())
    return digest.hexdigest()


def stated_of(policy: Policy, about: Description, stated: Stated | None) -> dict[str, Any]:
    """control_rate_hz, observations and actions, complete and checked against the policy.

    What the data state holds where nothing else was stated.
    """
    owner, values = read_stated(stated)
    means = policy.observation_mean.tolist()
    sizes = sent_size(policy, about), len(about.action_low)
    means = means[: sizes[0]]  # the newest observation's
    by_data = complete(f"data of {about.dataset['name']}", about.stated, *sizes)
    by_person = complete(owner, values, *sizes)
    if about.normalizes:
        check_means(owner, by_person["observations"], means)
    set_box(owner, by_person["actions"], about.action_low, about.action_high)
    return overridden(by_data, by_person)


def sent_size(policy: Policy, about: Description) -> int:
    """Numbers of one observation as a robot sends it; what the policy takes may hold the past too."""
    return (len(policy.observation_mean) - about.delay * len(about.action_low)) // about.history


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

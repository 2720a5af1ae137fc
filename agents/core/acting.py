"""From observations in numpy to actions in numpy, with every check on the way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zoo.agents.core.finite import NotFiniteError, members_of
from zoo.agents.core.learner import Learner


@torch.no_grad()
def predict(agent: Learner, observation: np.ndarray, deterministic: bool, evaluation_samples: int | None) -> np.ndarray:
    """Agent.predict without Stable-Baselines3's state."""
    rows = check_observation(agent, observation)
    samples = agent.config.evaluation_samples if evaluation_samples is None else evaluation_samples
    if samples < 1:
        raise ValueError(f"evaluation_samples must be at least 1, got {samples}")
    policy = agent.policy
    candidates = rows.new_empty(*rows.shape[:-1], samples, policy.noise_size)
    if samples > 1 or policy.generative:
        actions = policy.search(rows, agent.predicting.normal("evaluation", candidates))
    elif deterministic:
        actions = policy(rows)
    else:
        actions = policy.sample(rows, agent.predicting.normal("sample", candidates.squeeze(-2)))
    result = actions.to("cpu", torch.float32).numpy().reshape(*observation.shape[:-1], agent.spec.action_size)
    if not np.isfinite(result).all():
        members = f" of members {members_of(result)}" if agent.lead else ""
        raise NotFiniteError(
            f"the policy's action{members} is not finite: training has diverged, take an earlier checkpoint"
        )
    return result


Memory = tuple[np.ndarray, ...]  # the rows of the past (..., width), and the actions taken in them (..., A)


def predict_from(
    agent: Learner,
    observation: np.ndarray,
    state: Memory | None,
    episode_start: np.ndarray | None,
    deterministic: bool,
    evaluation_samples: int | None,
) -> tuple[np.ndarray, Memory]:
    """Agent.predict of an agent with history or delay. state: of the call before; None begins episodes."""
    stack = agent.stack
    assert stack is not None
    if observation.shape[-1:] != (stack.size,):
        raise ValueError(
            f"observation must have {stack.size} numbers, as the environment sends it, got {observation.shape}"
        )
    if not np.isfinite(observation).all():
        bad = np.flatnonzero(~np.isfinite(observation).reshape(-1, stack.size).all(0)).tolist()
        raise ValueError(f"observation has NaN or infinite entries in dimensions {bad}; expected finite numbers")
    rows = stack.begin(observation)
    if state is not None:
        before, taken = state
        going_on = stack.next(before, taken, observation)
        first = np.zeros(rows.shape[:-1], bool) if episode_start is None else np.asarray(episode_start, bool)
        rows = np.where(np.broadcast_to(first, rows.shape[:-1])[..., np.newaxis], rows, going_on)
    actions = predict(agent, rows, deterministic, evaluation_samples)
    return actions, (rows, actions)


def check_observation(agent: Learner, observation: np.ndarray) -> Tensor:
    """Rows (*lead, n, O) on the agent's device. Raises TypeError or ValueError that says what was expected."""
    size, lead = agent.spec.observation_size, len(agent.lead)
    if agent.sight is not None and agent.stack is None and observation.shape[-1:] == (len(agent.sight),):
        observation = as_seen(agent, observation)
    if observation.dtype.kind not in "fiu":
        raise TypeError(f"observation must hold numbers, got dtype {observation.dtype}")
    fits = observation.ndim in (lead + 1, lead + 2) and observation.shape[-1] == size
    if not fits or observation.shape[:lead] != agent.lead:
        one = ", ".join(map(str, (*agent.lead, size))) + ("" if lead else ",")
        batch = ", ".join(map(str, (*agent.lead, "n", size)))
        raise ValueError(f"observation must have shape ({one}) or ({batch}), got {observation.shape}")
    with np.errstate(over="ignore"):  # a number that float32 cannot hold is refused below
        observation = observation.astype(str(agent.dtype).removeprefix("torch."))
    if not np.isfinite(observation).all():
        bad = np.flatnonzero(~np.isfinite(observation).reshape(-1, size).all(0)).tolist()
        raise ValueError(f"observation has NaN or infinite entries in dimensions {bad}; expected finite {agent.dtype}")
    rows = torch.as_tensor(observation, device=agent.device)
    return rows.unsqueeze(-2) if observation.ndim == lead + 1 else rows


def as_seen(agent: Learner, observation: np.ndarray) -> np.ndarray:
    """What a robot sends, (..., O of the actor), at its place in (..., O); the rest is 0, and not looked at."""
    whole = np.zeros((*observation.shape[:-1], agent.spec.observation_size), observation.dtype)
    whole[..., list(agent.sight or ())] = observation
    return whole

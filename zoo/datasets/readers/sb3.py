"""The replay buffer of a Stable-Baselines3 learner as a dataset."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.dataset import OfflineDataset, Provenance

UNITS = ("scaled", "environment")


def from_replay_buffer(
    buffer: ReplayBuffer,
    *,
    actions: str | None = None,
    name: str = "replay-buffer",
    env_id: str | None = None,
    provenance: Provenance | None = None,
) -> OfflineDataset:
    """Every transition in the buffer, one parallel environment after the other, oldest first.

    actions: the units of the buffer's actions. SB3's learners store them "scaled" to [-1, 1], whatever the
    action space; a buffer that you filled yourself holds what you gave it, "environment". It has to be said
    wherever the two differ. Where the buffer ends an unfinished episode is truncated.
    Raises DatasetValueError for a buffer whose flags mix time limits with terminations, for dictionary
    observations, discrete actions and an empty buffer.
    """
    if isinstance(buffer, DictReplayBuffer) or not isinstance(buffer, ReplayBuffer):
        raise DatasetValueError(
            f"{name} is a {type(buffer).__name__}, expected a ReplayBuffer of flat observations. "
            "Wrap the environment in gymnasium.wrappers.FlattenObservation before training."
        )
    box = buffer.action_space
    if not isinstance(box, Box):
        raise DatasetValueError(f"{name} has actions in {box}, expected a Box: the agents' actions are continuous.")
    if buffer.optimize_memory_usage or not buffer.handle_timeout_termination:
        raise DatasetValueError(
            f"{name} does not know which ends were time limits: it was made with optimize_memory_usage=True or "
            "handle_timeout_termination=False. Collect again with SB3's defaults, or give the flags yourself in "
            "zoo.from_columns."
        )
    size = buffer.size()
    if size == 0:
        raise DatasetValueError(f"{name} is empty. Let the learner collect first.")

    oldest = buffer.pos if buffer.full else 0
    order = (oldest + np.arange(size)) % buffer.buffer_size

    def by_env(column: Array) -> Array:
        """(size, envs, ...) to (envs * size, ...), each environment's rows in time order."""
        rows = column[order].swapaxes(0, 1)
        return rows.reshape(-1, *rows.shape[2:])

    ends = by_env(buffer.dones) > 0.5
    terminations = ends & ~(by_env(buffer.timeouts) > 0.5)
    truncations = ends & ~terminations
    truncations[size - 1 :: size] |= ~ends[size - 1 :: size]  # the last row of each environment
    return OfflineDataset.from_arrays(
        observations=by_env(buffer.observations),
        actions=_in_env_units(by_env(buffer.actions), box, actions, name),
        rewards=by_env(buffer.rewards),
        next_observations=by_env(buffer.next_observations),
        terminations=terminations,
        truncations=truncations,
        action_space=box,
        name=name,
        env_id=env_id,
        provenance=provenance,
    )


def _in_env_units(actions: Array, box: Box, units: str | None, name: str) -> Array:
    if units not in (None, *UNITS):
        raise DatasetValueError(f"{name}: actions must be 'scaled' or 'environment', got {units!r}")
    if (box.low == -1.0).all() and (box.high == 1.0).all():
        return actions
    if units is None:
        raise DatasetValueError(
            f"{name}: the action box is {box}, so the units of the stored actions matter: pass actions='scaled' for "
            "the buffer of an SB3 learner, actions='environment' for one filled with the environment's own."
        )
    if units == "environment":
        return actions
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)  # so that a bound comes out as itself
    return low + 0.5 * (actions.astype(np.float64) + 1.0) * (high - low)

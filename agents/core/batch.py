"""What an update sees of the data."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions, columns first; every tensor may carry leading population dimensions.

    The optional columns are there when the agent's `columns` ask for them.
    """

    observations: Tensor  # (..., B, O), normalised
    actions: Tensor  # (..., B, A), in [-1, 1]
    rewards: Tensor  # (..., B), raw
    next_observations: Tensor  # (..., B, O), normalised
    terminations: Tensor  # (..., B), 1 where the environment itself ended; a time limit is 0
    next_actions: Tensor | None = None  # (..., B, A), the data's own action at next_observations, in [-1, 1]
    next_action_valid: Tensor | None = None  # (..., B), 0 where the data have no next action
    trusted: Tensor | None = None  # (..., B), 1 in the sub-dataset that an agent chose to imitate
    floor: Tensor | None = None  # (..., B), a return that the behaviour reached from there, -inf where none is known
    leaves: Tensor | None = None  # (..., B), long: where an agent that draws rows by weight keeps the row's own

    def rows(self, where: slice) -> "Batch":
        """Some of the rows."""
        columns = self._asdict().items()
        return Batch(**{k: v[..., where, :] if k in WIDE else v[..., where] for k, v in columns if v is not None})

    def followed_by(self, other: "Batch") -> "Batch":
        """The rows of both, which have the same columns."""
        mine, theirs = self._asdict(), other._asdict()
        return Batch(
            **{k: torch.cat([v, theirs[k]], dim=-2 if k in WIDE else -1) for k, v in mine.items() if v is not None}
        )


WIDE = frozenset({"observations", "actions", "next_observations", "next_actions"})  # columns with an axis of their own
COLUMNS = Batch._fields[:5]
# Columns that no dataset has, and what they hold until the agent fills them in.
CHOSEN = {"trusted": 1.0, "floor": -math.inf}

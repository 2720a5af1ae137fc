"""What an update sees of the data."""

from typing import NamedTuple

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


COLUMNS = Batch._fields

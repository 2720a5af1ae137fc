"""BVFT: which of several critics fits the data best, by comparing them in pairs.

Xie and Jiang 2021, "Batch Value-function Approximation with Only Realizability", arXiv 2008.04990, algorithm 1; used to
choose among policies with their own critics by Zhang and Jiang 2021, "Towards Hyperparameter-free Policy Selection for
Offline Reinforcement Learning", arXiv 2110.14000, section 3.

For critics i and j: cut the rows into cells in which both critics are constant up to the resolution; project the
Bellman backup of i onto functions that are constant on the cells, which is the mean of r + gamma Q_i(s', pi_i(s')) in
each; the error E(i, j) is the root mean squared distance between Q_i and that projection. A critic's loss is its worst
pair, max_j E(i, j). The right critic has a small error whatever its opponent; a wrong one has an opponent that shows
it.

Here Q_i is asked about its own policy's next action, so that it is judged as an evaluation of pi_i; errors are in the
units of the data's rewards, and the resolution is a share of the range that the critics' opinions span. Several
resolutions are tried, and the smallest loss of each critic counts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESOLUTIONS = (0.1, 0.05, 0.02, 0.01)  # widths of a cell, in ranges of all opinions


def losses(q: Array, backups: Array, resolutions: Sequence[float] = RESOLUTIONS) -> Array:
    """The loss of each of K critics, (K,), less is better.

    q: (K, N), opinions of the data's own actions. backups: (K, N), r + gamma (1 - terminated) Q_i(s', pi_i(s')).
    """
    if q.shape != backups.shape or q.ndim != 2:
        raise ValueError(f"q and backups must both be (K, N), got {q.shape} and {backups.shape}")
    low, high = np.quantile(q, [0.005, 0.995])
    span = max(float(high - low), 1e-12)
    found = np.full((len(resolutions), len(q)), np.inf)
    for row, width in enumerate(resolutions):
        cells = np.clip(np.floor((q - low) / (width * span)), -1, np.ceil(1.0 / width)).astype(np.int64) + 1
        for i in range(len(q)):
            pairs = [pair_error(q[i], backups[i], cells[i], cells[j]) for j in range(len(q)) if j != i]
            found[row, i] = max(pairs)
    return found.min(0)


def pair_error(q: Array, backup: Array, own: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """E(i, j): q, backup (N,) of critic i; own, other (N,): the cell of each row in the eyes of i and of j."""
    cell = own * (int(other.max()) + 1) + other
    _, cell = np.unique(cell, return_inverse=True)
    counts = np.bincount(cell)
    projected = (np.bincount(cell, weights=backup) / counts)[cell]
    return float(np.sqrt(np.square(q - projected).mean()))

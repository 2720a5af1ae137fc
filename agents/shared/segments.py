"""Where one stretch of time ends in logged data: what an algorithm may add up rewards over."""

import numpy as np

from zoo.agents.core.spec import Dataset

JUMP = 1e-6  # distance between a row's successor and the next row above which they are different states
CHUNK = 100_000  # rows looked at in one go


def segment_ends(dataset: Dataset) -> np.ndarray:
    """Rows (N,) bool that end a segment: a terminal, an episode's last row, or a row before a jump.

    An episode may hold several segments: the ant of D4RL's mazes walks on after a success, which is a terminal. Rule of
    SSAR's code (arXiv 2505.19923). Where most rows jump, as in thinned data, a jump says nothing about time: only the
    flags count.
    """
    episodes = dataset.column("episode_ids")
    inside = np.append(episodes[1:] == episodes[:-1], False)
    jumps = inside & _jumps(dataset)
    if 2 * np.count_nonzero(jumps) > np.count_nonzero(inside):
        jumps[:] = False
    return ~inside | dataset.column("terminations").astype(bool) | jumps


def segment_ids(dataset: Dataset) -> np.ndarray:
    """The number of each row's segment, (N,): 0, 0, ..., 1, 1, ..."""
    return np.append(0, np.cumsum(segment_ends(dataset)[:-1]))


def _jumps(dataset: Dataset) -> np.ndarray:
    """Rows (N,) bool whose successor is not the next row; the last row has none."""
    observations, successors = dataset.column("observations"), dataset.column("next_observations")
    jumps = np.zeros(len(dataset), dtype=bool)
    for start in range(0, len(dataset) - 1, CHUNK):
        stop = min(start + CHUNK, len(dataset) - 1)
        gaps = observations[start + 1 : stop + 1] - successors[start:stop]
        jumps[start:stop] = np.linalg.norm(gaps, axis=1) > JUMP
    return jumps

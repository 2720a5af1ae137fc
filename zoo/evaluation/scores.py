"""Reference returns and the normalised score: 0 is a random policy, or nothing, and 100 the reference.

Sources: the table of Farama-Foundation/D4RL (Fu et al. 2020, arXiv 2004.07219, appendix); for MOOD, whose scores are
percentages of a target, zoo.collecting.mood.rewards. OGBench counts successes, see zoo.evaluation.protocols.
"""

from __future__ import annotations

import difflib
import re
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.collecting.mood.rewards import TARGETS

LOCOMOTION = {  # family -> (random, expert), the same for all datasets and versions
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
}
ADROIT = {
    "pen": (96.262799, 3076.8331017826877),
    "door": (-56.512833, 2880.5693087298737),
    "hammer": (-274.856578, 12794.134825156867),
    "relocate": (-6.425911, 4233.877797728884),
}
MAZE2D = {
    "maze2d-open-v0": (0.01, 20.66),
    "maze2d-umaze-v0": (0.94, 62.6),
    "maze2d-medium-v0": (5.77, 85.14),
    "maze2d-large-v0": (4.83, 191.99),
    "maze2d-umaze-v1": (23.85, 161.86),
    "maze2d-medium-v1": (13.13, 277.39),
    "maze2d-large-v1": (6.7, 273.99),
    "maze2d-open-dense-v0": (11.17817, 27.166538620695782),
    "maze2d-umaze-dense-v1": (68.537689, 193.66285642381482),
    "maze2d-medium-dense-v1": (44.264742, 297.4552547777125),
    "maze2d-large-dense-v1": (30.569041, 303.4857382709002),
}
SUCCESS = (0.0, 1.0)  # AntMaze: the return is 1 for reaching the goal
SUBTASKS = (0.0, 4.0)  # kitchen: the return counts finished sub-tasks


def _references() -> dict[str, tuple[float, float]]:
    table = dict(MAZE2D)
    for family, reference in LOCOMOTION.items():
        for data in ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert"):
            table |= {f"{family}-{data}-v{version}": reference for version in (0, 1, 2)}
    for family, reference in ADROIT.items():
        for data in ("human", "cloned", "expert"):
            table |= {f"{family}-{data}-v{version}": reference for version in (0, 1)}
    for maze in ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse"):
        table |= {f"antmaze-{maze}-v{version}": SUCCESS for version in (0, 1, 2)}
    table |= {f"antmaze-ultra-{data}-v0": SUCCESS for data in ("play", "diverse")}
    table |= {f"kitchen-{data}-v0": SUBTASKS for data in ("complete", "partial", "mixed")}
    # Collected in Hopper-v5; the references were measured in Hopper-v2: a scale, not a D4RL result.
    table["hopper-medium-replay"] = LOCOMOTION["hopper"]
    return table


REFERENCES = _references()  # dataset id -> (return of a random policy, return of the expert)
MOOD = re.compile(r"mood-(?P<domain>[a-z]+)-(?P<task>[a-z_]+)-.+")  # names of zoo data mood's sets


def references(name: str) -> tuple[float, float] | None:
    """The returns that score 0 and 100 on a dataset's scale; None for a name without one."""
    mood = MOOD.fullmatch(name)
    if mood and mood["task"] in TARGETS.get(mood["domain"], {}):
        return 0.0, TARGETS[mood["domain"]][mood["task"]]
    return REFERENCES.get(name)


@overload
def normalized_score(name: str, returns: float) -> float: ...
@overload
def normalized_score(name: str, returns: ArrayLike) -> NDArray[np.float64]: ...
def normalized_score(name: str, returns: ArrayLike) -> float | NDArray[np.float64]:
    """100 * (return - random) / (expert - random), in the shape of returns; not clipped.

    returns: undiscounted sums of raw rewards over whole episodes. The mean score of episodes is the score of
    the mean.
    Raises KeyError for a name without references: another benchmark's scale would give numbers that mean
    nothing. AntMaze's scale counts successes, which not all returns are: see has_score and successes.
    """
    scale = references(name)
    if scale is None:
        close = difflib.get_close_matches(name, REFERENCES, n=3)
        hint = f"close names with one: {', '.join(close)}. " if close else ""
        raise KeyError(f"no reference returns for dataset {name!r}; {hint}Report its raw returns instead.")
    random, expert = scale
    score: float | NDArray[np.float64] = 100.0 * (np.asarray(returns, dtype=np.float64) - random) / (expert - random)
    return score


def has_score(name: str, value: float) -> bool:
    """Whether a mean return has a score on the name's scale. On AntMaze's it is a share of successes: one outside 0 and
    1 is of rewards -1/0, or of an environment that goes on at the goal.
    """
    scale = references(name)
    return scale is not None and (scale != SUCCESS or 0.0 <= value <= 1.0)


def successes(name: str, returns: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """1 for each episode that reached AntMaze's goal, (episodes,): its return is positive, also where the environment
    goes on there. None for names with another scale, and where returns are negative: rewards of -1/0 do not say.
    """
    if references(name) != SUCCESS or np.min(returns) < 0.0:
        return None
    return (returns > 0.0).astype(np.float64)

"""Signs of trouble in a trained agent, in words, from the data and its own log: no simulator needed.

Each sign has a threshold with a reason. None of them proves that a policy is good; each is a reason not to run one yet.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.selection.candidates import Candidate

Array = NDArray[np.float64]
ROWS, NEIGHBOURS = 1_000, 5_000  # of the data: rows that are judged, and rows that they are compared with
EDGE = 0.99  # of the half box
MOST = 1_000_000  # rows whose returns are looked at
RISE = 3.0  # of the critic's loss, from the first quarter of a training to the last
FEWEST_POINTS = 8  # of a log that a trend is read from


@dataclass(frozen=True)
class Sign:
    """bad: a reason not to run the policy. text: what was found, the threshold, and what it means."""

    name: str
    bad: bool
    text: str


def signs(agent: Any, dataset: Any, log: Path | None = None) -> list[Sign]:
    """Of one agent, on the OfflineDataset of its training. log: its progress.csv, for the trend of a loss."""
    judged = Candidate("", agent)
    rows = np.linspace(0, len(dataset) - 1, min(ROWS, len(dataset))).astype(np.int64)
    observations, logged = (dataset.column(name)[rows] for name in ("observations", "actions"))
    actions = judged.actions(observations)
    found = [promises(judged.q(observations, actions), returns_to_go(dataset, judged.gamma))] if judged.values else []
    found += [
        edge(actions, logged, dataset.action_space.low, dataset.action_space.high),
        away(dataset, observations, actions, rows),
    ]
    losses = read_losses(log) if log is not None else []
    return found + ([rising(losses)] if len(losses) >= FEWEST_POINTS else [])


def promises(q: Array, returns: Array) -> Sign:
    """q (N,): of the policy's own actions. returns: discounted, from every row of the data on.

    Threshold: the largest return that any row of the data had. A policy may do better than the average row, but not on
    average better than the best one: then the critics believe in something that nobody has seen.
    """
    mean, best = float(q.mean()), float(returns.max())
    bad = mean > best
    more = "beyond" if bad else "within"
    return Sign(
        "promised value",
        bad,
        f"the critics promise {mean:.4g} on average, {more} the {best:.4g} that the best row of the data led to",
    )


def edge(actions: NDArray[Any], logged: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> Sign:
    """actions, logged: (N, A).

    Threshold: half of all components at the edge of the box, and twice as many as in the data: an actor there follows
    its critics as far as they go, and they were hardly ever asked there.
    """
    centre, half = (high + low) / 2, (high - low) / 2
    own, theirs = (float((np.abs((each - centre) / half) > EDGE).mean()) for each in (actions, logged))
    text = f"{own:.0%} of its action components are at the box's edge, {theirs:.0%} of the data's"
    return Sign("edge of the box", own > 0.5 and own > 2 * theirs, text)


def away(dataset: Any, observations: NDArray[Any], actions: NDArray[Any], rows: NDArray[np.int64]) -> Sign:
    """How far (s, pi(s)) is from the nearest logged pair, in deviations of the data.

    Threshold: half of the pairs farther than 95 % of the logged pairs are from their own nearest neighbour: then it
    acts where the data say nothing.
    """
    near = np.linspace(0, len(dataset) - 1, min(NEIGHBOURS, len(dataset))).astype(np.int64)
    known = np.concatenate([dataset.column(name)[near] for name in ("observations", "actions")], axis=1)
    mean, spread = known.mean(0), known.std(0) + 1e-6
    known = (known - mean) / spread
    itself = rows[:, None] == near  # a row is not its own neighbour, nor that of the policy's action in its state

    def nearest(done: NDArray[Any]) -> Array:
        pairs = (np.concatenate([observations, done], axis=1) - mean) / spread
        return np.sqrt(np.where(itself, np.inf, squared(pairs, known)).min(1))

    usual = float(np.quantile(nearest(dataset.column("actions")[rows]), 0.95))
    own = float(np.median(nearest(actions)))
    text = f"{own:.3g} to the nearest logged action in the median; 95 % of the logged ones have {usual:.3g} or less"
    return Sign("distance to the data", own > usual, text)


def squared(one: Array, other: Array) -> Array:
    """Squared distances (n, m) of rows (n, d) and (m, d)."""
    distances = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2.0 * one @ other.T
    return np.maximum(distances, 0.0)


def rising(losses: Sequence[float]) -> Sign:
    """losses: of the critic, in the order of the log.

    Threshold: each quarter of the training above the one before, and the last one three times the first. A loss grows
    with the values that are learned; one that never stops is a critic that runs after itself.
    """
    quarters = [float(np.mean(part)) for part in np.array_split(np.asarray(losses), 4)]
    bad = all(after > before for before, after in pairwise(quarters)) and quarters[-1] > RISE * quarters[0]
    means = ", ".join(f"{value:.3g}" for value in quarters)
    kept = ": it keeps rising" if bad else ""
    return Sign("critic's loss", bad, f"its mean in the quarters of the training: {means}{kept}")


def read_losses(log: Path) -> list[float]:
    """The critic's loss at every point of Stable-Baselines3's progress.csv; none where it is not there."""
    if not log.is_file():
        return []
    with log.open(newline="") as file:
        return [float(row["critic/loss"]) for row in csv.DictReader(file) if row.get("critic/loss")]


def returns_to_go(dataset: Any, gamma: float) -> Array:
    """The discounted return from each row on, (N,).

    An episode that was cut off goes on with its own mean reward, for its last rows would else look poor. Of larger data
    the first MOST rows.
    """
    names = ("rewards", "episode_ids", "terminations")
    rewards, episodes, terminations = (np.asarray(dataset.column(name)[:MOST]) for name in names)
    rewards = rewards.astype(np.float64)
    mean = np.bincount(episodes, weights=rewards) / np.bincount(episodes)
    out, after = np.empty(len(rewards)), 0.0
    last = np.append(episodes[1:] != episodes[:-1], True)
    for i in range(len(rewards) - 1, -1, -1):
        if terminations[i]:
            after = 0.0
        elif last[i]:
            after = mean[episodes[i]] / (1.0 - gamma)
        after = rewards[i] + gamma * after
        out[i] = after
    return out


def told(found: Sequence[Sign]) -> str:
    """A line for each sign, the bad ones marked, and a last one that says what to do."""
    lines = [f"{'!' if sign.bad else ' '} {sign.name}: {sign.text}" for sign in found]
    count = sum(sign.bad for sign in found)
    if count:
        lines.append(f"{count} sign{'s' if count > 1 else ''} of trouble: do not run this policy before you know why")
    return "\n".join(lines)

"""Candidates in order, by several methods, and how far the order may be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from zoo.selection import bvft, fqe
from zoo.selection.candidates import Candidate, first_rows

Array = NDArray[np.float64]
METHODS = ("fqe", "bvft", "td-error", "first-q", "action-distance")
ROWS = 20_000  # of the data that the cheap methods look at, evenly spread
ALIKE = 0.95  # confidence with which one candidate is called better than another


@dataclass(frozen=True)
class Ranking:
    """scores (K,): more is better. deviation (K,): of each score, None where the method has none. unit: in words."""

    method: str
    names: tuple[str, ...]
    scores: Array
    unit: str
    deviation: Array | None = None

    @property
    def order(self) -> NDArray[np.int64]:
        """Indices, the best first."""
        return np.argsort(-self.scores, kind="stable")

    def alike(self) -> NDArray[np.bool_]:
        """(K,): which candidates the method cannot tell from the best one; by itself the best alone."""
        best = int(self.order[0])
        if self.deviation is None:
            return np.arange(len(self.scores)) == best
        apart = np.hypot(self.deviation, self.deviation[best])
        gap = self.scores[best] - self.scores
        return (gap <= stats.norm.ppf(0.5 + ALIKE / 2) * apart) | (gap == 0.0)

    def __str__(self) -> str:
        alike = self.alike()
        lines = [f"{self.method}: {self.unit}"]
        for rank, index in enumerate(self.order, 1):
            spread = "" if self.deviation is None else f" ± {1.96 * self.deviation[index]:.4g}"
            if np.isneginf(self.scores[index]):
                lines.append(f"{rank:>3}   {'no critics':>12}{'':<14} {self.names[index]}")
                continue
            mark = "=" if alike[index] and rank > 1 else " "
            lines.append(f"{rank:>3} {mark} {self.scores[index]:>12.5g}{spread:<14} {self.names[index]}")
        return "\n".join(lines)


def rank(
    candidates: Sequence[Candidate],
    dataset: Any,
    methods: Sequence[str] = METHODS,
    config: fqe.FQEConfig | None = None,
    device: str = "auto",
    progress_bar: bool = False,
) -> list[Ranking]:
    """One ranking for each method, in their order. Raises ValueError for a method that is not known.

    fqe: the value of the first observations by fitted Q evaluation. bvft: the pairwise loss of the candidates' own
    critics. td-error: their mean squared Bellman error on these data. first-q: what they promise themselves at the
    first observations. action-distance: how far their actions are from the logged ones, in half boxes.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"there is no method {unknown[0]!r}; choose of {', '.join(METHODS)}")
    names = tuple(candidate.name for candidate in candidates)
    rankings = {}
    if "fqe" in methods:
        c = config or fqe.FQEConfig()
        values = fqe.evaluate(dataset, [each.actions for each in candidates], c, device, progress_bar)
        unit = f"discounted return (gamma {c.gamma:g}) from the data's first observations, 95 % interval"
        rankings["fqe"] = Ranking("fqe", names, values.mean, unit, values.deviation)
    if cheap := [method for method in methods if method != "fqe"]:
        facts = opinions(candidates, dataset)
        for method in cheap:
            rankings[method] = CHEAP[method](names, facts)
    return [rankings[method] for method in methods]


@dataclass(frozen=True)
class Opinions:
    """What candidates say of the data, all (K, ...) and in units of the rewards.

    q: of the logged actions (K, N). backups: r + gamma (1 - terminated) q(s', pi(s')) (K, N). first: of their own
    actions at the first observations (K, S). distance: of their actions from the logged ones, in half boxes (K, N).
    values (K,): who learned values; of others q, backups and first are 0, and methods that ask for them rank them last.
    """

    q: Array
    backups: Array
    first: Array
    distance: Array
    values: NDArray[np.bool_]

    def ranked(self, scores: Array) -> Array:
        """Scores (K,) of all, from those of the candidates with values (V,)."""
        found = np.full(len(self.values), -np.inf)
        found[self.values] = scores
        return found


def opinions(candidates: Sequence[Candidate], dataset: Any) -> Opinions:
    rows = np.linspace(0, len(dataset) - 1, min(ROWS, len(dataset))).astype(np.int64)
    obs, actions, following, rewards, over = (
        dataset.column(name)[rows]
        for name in ("observations", "actions", "next_observations", "rewards", "terminations")
    )
    begin = dataset.column("observations")[first_rows(dataset.column("episode_ids"))]
    half = (dataset.action_space.high - dataset.action_space.low) / 2.0
    found: dict[str, list[Array]] = {"q": [], "backups": [], "first": [], "distance": []}
    for each in candidates:
        found["distance"].append(np.linalg.norm((each.actions(obs) - actions) / half, axis=1))
        if not each.values:
            found["q"].append(np.zeros(len(obs)))
            found["backups"].append(np.zeros(len(obs)))
            found["first"].append(np.zeros(len(begin)))
            continue
        next_q = each.q(following, each.actions(following))
        found["q"].append(each.q(obs, actions))
        found["backups"].append(rewards + each.gamma * (1.0 - over) * next_q)
        found["first"].append(each.q(begin, each.actions(begin)))
    columns = {name: np.stack(rows).astype(np.float64) for name, rows in found.items()}
    return Opinions(**columns, values=np.array([each.values for each in candidates]))


def by_bvft(names: tuple[str, ...], facts: Opinions) -> Ranking:
    q, backups = facts.q[facts.values], facts.backups[facts.values]
    losses = bvft.losses(q, backups) if len(q) > 1 else np.zeros(len(q))
    return Ranking("bvft", names, facts.ranked(0.0 - losses), "minus the loss of its worst pair")


def by_td_error(names: tuple[str, ...], facts: Opinions) -> Ranking:
    errors = np.square(facts.q - facts.backups)
    deviation = errors.std(1, ddof=1) / np.sqrt(errors.shape[1])
    scores = facts.ranked(-errors.mean(1)[facts.values])
    return Ranking("td-error", names, scores, "minus the mean squared Bellman error", deviation)


def by_first_q(names: tuple[str, ...], facts: Opinions) -> Ranking:
    scores = facts.ranked(facts.first.mean(1)[facts.values])
    return Ranking("first-q", names, scores, "its own critics at the first observations")


def by_distance(names: tuple[str, ...], facts: Opinions) -> Ranking:
    deviation = facts.distance.std(1, ddof=1) / np.sqrt(facts.distance.shape[1])
    return Ranking(
        "action-distance", names, -facts.distance.mean(1), "minus the distance to the logged action", deviation
    )


CHEAP = {"bvft": by_bvft, "td-error": by_td_error, "first-q": by_first_q, "action-distance": by_distance}


def agreement(ranking: Ranking, returns: Array) -> tuple[float, float]:
    """Spearman's rank correlation with the true returns (K,), and regret@1: what the choice loses of the best return,
    as a share of the distance between the best and the worst."""
    span = float(returns.max() - returns.min())
    regret = float(returns.max() - returns[ranking.order[0]])
    return float(stats.spearmanr(ranking.scores, returns).statistic), regret / span if span > 0.0 else 0.0

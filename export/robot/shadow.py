"""A new policy on the log of an old one, before it may move the robot: replay and shadow. Needs runtime.py, runlog.py.

replay asks whether a policy gives the actions of its own log again, bit for bit.
shadow asks a new bundle for its action in every logged state, and looks for the usual mistakes between two pieces of
software: joints in another order, a sign, a unit or scale, a lag. Each is a hypothesis: "if this were undone, the new
policy would do what the old one did". A hypothesis that explains most of the difference is reported.
"""

from __future__ import annotations  # Python 3.9 reads this file

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from .control import Limits
from .disagreement import Disagreement
from .inspection import Finding, read_contract
from .runlog import Run
from .runtime import OnnxPolicy

# What is left of the difference's variance where a hypothesis explains it. Between two honest policies of one task
# the best wrong hypothesis leaves more; examples/robot_loop/mistakes.py measures both.
EXPLAINED = 0.3
NO_DIFFERENCE = 0.02  # half boxes, standard deviation: below it there is nothing to explain
MOST_MISTAKES = 4  # that are looked for, one after the other
LAGS = (1, 2, 3)  # ticks
# Factors by which people are wrong. A factor of 2 is not among them: an honest policy may be twice as bold.
FACTORS = {
    "degrees and radians": 180.0 / np.pi,
    "a factor of 1000": 1000.0,
    "a factor of 100": 100.0,
    "revolutions per minute and radians per second": 60.0 / (2.0 * np.pi),
    "g and metres per square second": 9.80665,
    "a factor of 4": 4.0,
}
ROWS = 512  # that hypotheses of the observations are tried on
MANY = 0.05  # of the ticks: above it limit hits and alarms are bad
EDGE = 1e-3  # of the box: nearer than this is at its edge
FAR = 6.0  # standard deviations: an observation whose median is so far from the training data has another unit

Predict = Callable[[np.ndarray], np.ndarray]  # (n, O) -> (n, A)
Change = Callable[[np.ndarray], np.ndarray]  # of some columns, (n, k) -> (n, k)


@dataclass(frozen=True)
class Mistake:
    """A hypothesis that explains a difference. left: share of the difference's variance that it leaves."""

    text: str
    left: float


# Replay -----------------------------------------------------------------------------------------------------------


def replay(policy: OnnxPolicy, run: Run) -> Finding:
    """Whether the policy gives the logged actions again: the same bits, tick by tick, noise included."""
    if run.about["noise_state"] is not None:
        policy.noise_state = run.about["noise_state"]
    compared, different, largest, remembers = 0, 0, 0.0, run.about.get("memory", False)
    policy.reset()
    for row, observed in zip(run.rows, run.observed):  # noqa: B905, not in Python 3.9
        action = policy.predict(row["observation"]).astype(np.float64) if observed else None
        if remembers:
            policy.wrote(row["written"])
        if action is not None and np.isfinite(row["wanted"]).all():
            compared += 1
            different += not np.array_equal(action, row["wanted"])
            largest = max(largest, float(np.abs(action - row["wanted"]).max()))
    if not different:
        return Finding(compared == 0, f"replay: the same bits in all of {compared} answers")
    dropped = _dropped(run)
    why = (
        f"; {dropped} ticks were dropped, and the noise with them" if dropped and policy.evaluation_samples > 1 else ""
    )
    text = f"replay: {different} of {compared} answers differ, by up to {largest:.3g}"
    return Finding(True, f"{text}: another policy, or another processor or onnxruntime{why}")


def _dropped(run: Run) -> int:
    numbers = run.rows["number"]
    return int(numbers[-1] + 1 - len(numbers)) if len(numbers) else 0


# Shadow -----------------------------------------------------------------------------------------------------------


def shadow(old: Path, new: Path, run: Run) -> list[Finding]:
    """What the new bundle would have done on the old one's log; bad where it looks like a mistake."""
    before, after = OnnxPolicy(old, providers="cpu"), OnnxPolicy(new, providers="cpu")
    sizes = (run.about["observation_size"], run.about["action_size"])
    for name, policy in (("OLD", before), ("NEW", after)):
        if (policy.observation_size, policy.action_size) != sizes:
            its = (policy.observation_size, policy.action_size)
            return [Finding(True, f"{name} has sizes (O, A) = {its}, the log {sizes}: they do not belong together")]
    answered = run.answered
    if answered.sum() < 2:
        return [Finding(True, f"the log has {int(answered.sum())} answered ticks: too few to compare anything")]
    if before.input_size > sizes[0] or after.input_size > sizes[0]:
        return [
            Finding(True, "a policy with history or delay cannot be asked about single states: use replay, and diff")
        ]
    rows = run.rows[answered]
    obs, wanted = rows["observation"].astype(np.float32), rows["wanted"]
    findings = [replay(before, run)]
    names = (run.names("observations"), run.names("actions"))
    box = (before.low, before.high)
    if findings[0].bad:  # then the log may be at fault
        found = mistakes(asked(actor(old, before)), obs, wanted, box, names, rows["tick"], least=1e-4)
        findings += _told("OLD beside its own log", found)
    actions = asked(after)(obs)
    findings += list(differences(actions, wanted, after, names[1]))
    findings += list(distances(new, obs, names[0]))
    findings += list(limit_hits(actions, run, answered))
    findings += list(edges(actions, wanted, box, names[1]))
    findings += list(alarms(old, new, obs, actions))
    return findings + _told("NEW", mistakes(asked(actor(new, after)), obs, wanted, box, names, rows["tick"]))


def actor(directory: Path, policy: OnnxPolicy) -> OnnxPolicy:
    """The policy without its candidates, where it has some: hypotheses ask thousands of times."""
    if policy.evaluation_samples == 1 or not (directory / "actor.onnx").is_file():
        return policy
    return OnnxPolicy(directory / "actor.onnx", providers="cpu")


def asked(policy: OnnxPolicy) -> Predict:
    """The policy as a function: the same observations give the same actions, whatever was asked before."""
    start = policy.noise_state

    def predict(obs: np.ndarray) -> np.ndarray:
        policy.noise_state = start
        return policy.predict(obs).astype(np.float64)

    return predict


def differences(actions: np.ndarray, wanted: np.ndarray, policy: OnnxPolicy, names: Sequence[str]) -> Iterator[Finding]:
    """A line for each dimension of the actions, in half boxes."""
    half = (policy.high - policy.low) / 2
    for j, name in enumerate(names):
        apart = np.abs(actions[:, j] - wanted[:, j]) / half[j]
        spread = min(actions[:, j].std(), wanted[:, j].std())
        together = np.corrcoef(actions[:, j], wanted[:, j])[0, 1] if spread > 1e-9 else np.nan
        yield Finding(
            False,
            f"{name}: {np.median(apart):.3g} half boxes apart in the median, p99 {np.quantile(apart, 0.99):.3g}, "
            f"at most {apart.max():.3g}; correlation {together:.3f}",
        )


def distances(new: Path, obs: np.ndarray, names: Sequence[str]) -> Iterator[Finding]:
    """Observations whose median is far from the mean of the new policy's training data, where that is known."""
    normalizer = read_contract(new).get("normalizer")
    if normalizer is None:
        return
    mean, std = np.array(normalizer["mean"]), np.array(normalizer["std"])
    if not mean.any() and (std == 1.0).all():
        return  # the agent does not normalise
    far = np.abs(np.median(obs, 0) - mean) / std
    for i in np.flatnonzero(far > FAR).tolist():
        yield Finding(True, f"{names[i]}: its median is {far[i]:.3g} deviations from the mean of NEW's training data")


def limit_hits(actions: np.ndarray, run: Run, answered: np.ndarray) -> Iterator[Finding]:
    """How often the loop would have limited the new actions, each after the action that was really written before."""
    bounds = run.about["limits"]
    limits = Limits(bounds["low"], bounds["high"], bounds["safe"], bounds["max_rate"])
    last = np.vstack([limits.safe, run.rows["written"][:-1]])[answered]
    hits = [
        not np.array_equal(limits.apply(action, before, 1.0 / run.about["rate"]), action)
        for action, before in zip(actions, last)  # noqa: B905, not in Python 3.9
    ]
    share, before = float(np.mean(hits)), float(run.rows["limited"][answered].mean())
    yield Finding(share > before + MANY, f"limits: NEW is limited in {share:.2%} of the ticks, OLD was in {before:.2%}")


def edges(
    actions: np.ndarray, wanted: np.ndarray, box: tuple[np.ndarray, np.ndarray], names: Sequence[str]
) -> Iterator[Finding]:
    """Actions that are at the edge of their box much more often than before: too large, as of another unit."""
    low, high = (edge + sign * EDGE * (box[1] - box[0]) for edge, sign in zip(box, (1, -1)))  # noqa: B905
    now, before = (((values <= low) | (values >= high)).mean(0) for values in (actions, wanted))
    for j in np.flatnonzero(now > before + 0.5).tolist():
        yield Finding(
            True, f"action {names[j]} is at the edge of its box in {now[j]:.0%} of the ticks, OLD's in {before[j]:.0%}"
        )


def alarms(old: Path, new: Path, obs: np.ndarray, actions: np.ndarray) -> Iterator[Finding]:
    """What the guards say of the new actions in the logged states."""
    for name, directory in (("OLD", old), ("NEW", new)):
        if (directory / "disagreement.onnx").is_file():
            guard = Disagreement(directory)
            pairs = zip(obs[:ROWS], actions[:ROWS])  # noqa: B905, not in Python 3.9
            share = float(np.mean([not guard(o, a) <= guard.threshold for o, a in pairs]))
            yield Finding(share > MANY, f"guard: that of {name} refuses {share:.2%} of NEW's actions")


def _told(whose: str, found: Sequence[Mistake]) -> list[Finding]:
    if not found:
        return [Finding(False, f"{whose}: no sign of joints in another order, a sign, a unit, a scale or a lag")]
    return [
        Finding(True, f"{whose}: {mistake.text}; undone, {mistake.left:.1%} of the difference is left")
        for mistake in found
    ]


# Mistakes ---------------------------------------------------------------------------------------------------------


def mistakes(
    predict: Predict,
    obs: np.ndarray,
    wanted: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    names: tuple[Sequence[str], Sequence[str]],
    ticks: np.ndarray,
    least: float = NO_DIFFERENCE,
) -> list[Mistake]:
    """What explains that the actions of `predict` on obs (n, O) are not `wanted` (n, A).

    Greedy: the best hypothesis is undone, and what is left is looked at again. box: low and high (A,). names: of the
    observations and of the actions. ticks (n,): tell which rows follow each other. least: a smaller difference is none.
    """
    low, high = (np.asarray(edge, np.float64) for edge in box)
    few = np.unique(np.linspace(0, len(obs) - 1, ROWS).astype(int))
    target = (wanted - (high + low) / 2) / ((high - low) / 2)  # the box is now [-1, 1]
    undone: list[Change] = []

    def answers(given: np.ndarray) -> np.ndarray:
        made = (predict(given.astype(np.float32)) - (high + low) / 2) / ((high - low) / 2)
        for change in undone:
            made = change(made)
        return made

    found: list[Mistake] = []
    seen = obs.astype(np.float64)
    while len(found) < MOST_MISTAKES:
        made = answers(seen)
        options = [
            *_of_time(made, target, ticks, least),
            *_of_actions(made, target, names[1], least),
            *_of_observations(answers, seen[few], target[few], names[0], least),
        ]
        best = min(options, key=lambda option: option.left)
        if best.left > EXPLAINED:
            break
        found.append(Mistake(best.text, best.left))
        if best.silenced is not None:
            undone.append(_scale_by(best.silenced, 0.0))
            target = _scale_by(best.silenced, 0.0)(target)
        elif best.actions is not None:
            undone.append(best.actions)
        elif best.observations is not None:
            seen = best.observations(seen)
        else:  # a lag: the rows would have to be paired anew
            break
    return found


@dataclass(frozen=True)
class Hypothesis:
    """A mistake, the share of the difference that it leaves, and what undoes it.

    actions, observations: changes of (n, A) and (n, O). silenced: an action that was clipped and cannot be had back.
    """

    text: str
    left: float
    actions: Change | None = None
    observations: Change | None = None
    silenced: int | None = None


def _left(was: np.ndarray, made: np.ndarray, target: np.ndarray, least: float) -> float:
    """Share of the difference between `was` and `target` that `made` leaves; infinite where it was at most `least`.

    A difference is the variance of (n, A) or (n,) over the rows: honest policies often differ by a constant.
    """
    before = float((was - target).var(0).mean())
    return float((made - target).var(0).mean()) / before if before > least**2 else np.inf


def _of_time(made: np.ndarray, target: np.ndarray, ticks: np.ndarray, least: float) -> Iterator[Hypothesis]:
    stride = int(np.median(np.diff(ticks)))
    for lag in LAGS:
        earlier, later = slice(None, -lag), slice(lag, None)
        pairs = np.flatnonzero(ticks[later] - ticks[earlier] == lag * stride)
        for text, own, its in (("late", later, earlier), ("early", earlier, later)):
            if len(pairs) > 10:
                left = _left(target[own][pairs], target[its][pairs], made[own][pairs], least)
                yield Hypothesis(f"actions are {lag} observation{'s' * (lag > 1)} {text}", left)


def _of_actions(made: np.ndarray, target: np.ndarray, names: Sequence[str], least: float) -> Iterator[Hypothesis]:
    for j, name in enumerate(names):
        own, its = made[:, j], target[:, j]
        yield Hypothesis(f"action {name} has the other sign", _left(own, -own, its, least), actions=_scale_by(j, -1.0))
        for text, factor in FACTORS.items():
            for by, size in ((factor, "large"), (1.0 / factor, "small")):
                mistaken = np.clip(by * its, -1.0, 1.0)  # what the wanted action would have become
                yield Hypothesis(f"action {name} is too {size}: {text}", _left(its, mistaken, own, least), silenced=j)
    for j, k in combinations(range(len(names)), 2):
        own, its = made[:, [j, k]], target[:, [j, k]]
        text = f"actions {names[j]} and {names[k]} are in each other's place"
        yield Hypothesis(text, _left(own, own[:, ::-1], its, least), actions=_swap(j, k))


def _of_observations(
    answers: Predict, seen: np.ndarray, target: np.ndarray, names: Sequence[str], least: float
) -> Iterator[Hypothesis]:
    made = answers(seen)

    def tried(text: str, change: Change) -> Hypothesis:
        return Hypothesis(f"observation{text}", _left(made, answers(change(seen)), target, least), observations=change)

    for i, name in enumerate(names):
        yield tried(f" {name} has the other sign", _scale_by(i, -1.0))
        for text, factor in FACTORS.items():
            yield tried(f" {name} is too small: {text}", _scale_by(i, factor))
            yield tried(f" {name} is too large: {text}", _scale_by(i, 1.0 / factor))
    for i, k in combinations(range(len(names)), 2):
        yield tried(f"s {names[i]} and {names[k]} are in each other's place", _swap(i, k))


def _scale_by(column: int, factor: float) -> Change:
    def scaled(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[:, column] *= factor
        return changed

    return scaled


def _swap(i: int, k: int) -> Change:
    def swapped(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[:, [i, k]] = values[:, [k, i]]
        return changed

    return swapped

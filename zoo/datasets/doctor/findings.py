"""What can be wrong with a recording: one function a defect, from a Recording to its findings.

`error`: agents would learn something wrong, or the file cannot be used. `warning`: most likely a mistake of the
recording. `note`: worth knowing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from zoo.datasets.checks import TOLERANCE, Array, DatasetError, check_columns, slack
from zoo.datasets.doctor.delay import estimate
from zoo.datasets.doctor.recording import FLOATS, ORDER, Finding, Recording, Rows, name_rows
from zoo.datasets.doctor.signals import SIGNALS
from zoo.datasets.episodes import JUMP

NEEDED = ("observations", "actions", "rewards", "terminals")

STRIDE = 10.0  # a step this many times the 90th percentile of its component is a jump; real Hopper steps reach 6
ALONE = 3.0  # times as large as the steps beside it: accelerating arms reach 2, resets begin at 9
SPREAD = 10.0  # rewards this many times the range of their middle 98% away from the median are outliers
FIT_ROWS = 20_000  # rows that the reward fit looks at
EXPLAINED = 0.5  # part of the rewards' variance that a fit must explain to have a say about their alignment
BETTER = 4.0  # how many times smaller the error of a shifted fit must be; aligned real data have it 10 times larger


def examine(recording: Recording) -> list[Finding]:
    """The findings of all checks, errors first. Where the columns do not fit together, that alone."""
    findings = list(misshapen(recording))
    if findings:
        return findings
    findings += not_finite(recording)
    if findings:
        recording = _without_infinities(recording)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns that are NaN throughout
        findings += [finding for check in (*CHECKS, *SIGNALS) for finding in check(recording)]
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))


def _without_infinities(recording: Recording) -> Recording:
    """inf as NaN, which no later comparison takes for a defect of its own."""
    columns = dict(recording.columns)
    for key in FLOATS:
        if key in columns and columns[key].dtype.kind == "f":
            columns[key] = np.where(np.isfinite(columns[key]), columns[key], np.nan)
    return replace(recording, columns=columns)


# Checks --------------------------------------------------------------------------------------------------------------


def misshapen(recording: Recording) -> Iterator[Finding]:
    """Missing columns, wrong ranks, unequal lengths: nothing else can be looked at."""
    missing = [key for key in NEEDED if key not in recording.columns]
    if missing:
        yield Finding(
            "error",
            f"columns are missing: {', '.join(missing)}",
            f"the file has {', '.join(recording.columns) or 'nothing'}",
            len(missing),
            "Agents learn from observations, actions, rewards and terminals.",
            "Rename the columns to these names, or record what is missing.",
        )
        return
    shapes = ", ".join(f"{key} {column.dtype}{list(column.shape)}" for key, column in recording.columns.items())
    try:
        check_columns(recording.name, {key: np.zeros(column.shape, bool) for key, column in recording.columns.items()})
    except DatasetError as error:
        yield Finding("error", "columns do not fit together", shapes, 1, str(error), "Export every column again.")
        return
    words = [key for key, column in recording.columns.items() if column.dtype.kind not in "fiub"]
    if words:
        meaning = f"{', '.join(words)} hold something else than numbers."
        yield Finding("error", "columns are not numeric", shapes, len(words), meaning, "Store numbers.")
    elif not {np.size(recording.action_low), np.size(recording.action_high)} <= {
        1,
        recording.columns["actions"].shape[1],
    }:
        meaning = "The attributes action_low and action_high have another number of components than the actions."
        yield Finding("error", "the action box does not fit the actions", shapes, 1, meaning, "Mend the attributes.")


def not_finite(recording: Recording) -> Iterator[Finding]:
    for key, column in recording.columns.items():
        rows = np.flatnonzero(~np.isfinite(column).reshape(len(column), -1).all(axis=1))
        if len(rows):
            yield Finding(
                "error",
                f"{key} hold NaN or inf",
                name_rows(rows),
                len(rows),
                "One such number makes every weight of a network NaN within a step.",
                _mend(key, recording.flag("terminals")[rows]),
            )


def _mend(key: str, terminal: Array) -> str:
    """What to do about rows of this column that are not finite. terminal: (n,), whether each ends in a failure."""
    if key == "next_observations" and terminal.all():
        return (
            "These rows are terminal, and what follows a terminal state is never used: put the row's own observations "
            "there. Keep the rows: they are the failures that the agent learns from."
        )
    if key == "next_observations" and terminal.any():
        return "Of terminal rows put the row's own observations there and keep them; repair the others from the log."
    return "Repair the rows from the log, or drop them and end the episode before them."


def outside_box(recording: Recording) -> Iterator[Finding]:
    actions = recording.columns["actions"]
    margin = slack(recording.action_low, recording.action_high, TOLERANCE)
    outside = (actions < recording.action_low - margin) | (actions > recording.action_high + margin)
    rows = np.flatnonzero(outside.any(axis=1))
    if len(rows):
        low, high = np.nanmin(actions), np.nanmax(actions)
        yield Finding(
            "error",
            "actions outside the box",
            f"{name_rows(rows)}; actions reach from {low:g} to {high:g}, the box is "
            f"[{np.min(recording.action_low):g}, {np.max(recording.action_high):g}]",
            len(rows),
            "An actor's output ends in a tanh: it can neither imitate nor be compared with such an action.",
            "If the robot's limits are wider, say so: action_space=Box(low, high), or the file attributes action_low "
            "and action_high. If the robot clipped its commands, store what it executed.",
        )


def wide_floats(recording: Recording) -> Iterator[Finding]:
    wide = [key for key in FLOATS if key in recording.columns and recording.columns[key].dtype == np.float64]
    if wide:
        yield Finding(
            "note",
            "float64 columns",
            ", ".join(wide),
            len(wide),
            "Agents compute in float32, so loading rounds them; the file is twice as large as needed.",
            "Store float32.",
        )
    for key in wide:
        column = recording.columns[key].reshape(len(recording.columns[key]), -1)
        moves = np.diff(column, axis=0) != 0.0  # (N - 1, k)
        lost = moves & (np.diff(column.astype(np.float32), axis=0) == 0.0)
        blind = np.flatnonzero(lost.sum(axis=0) > 0.5 * moves.sum(axis=0))
        if len(blind):
            yield Finding(
                "warning",
                f"{key} move less than float32 can hold",
                recording.parts(key, blind),
                int(lost[:, blind].any(axis=1).sum()),
                "More than half of their steps vanish in float32: the agent does not see them move. Time stamps and "
                "absolute encoder counts are like that.",
                "Subtract an offset, such as the value at the episode's start, before storing float32.",
            )


def no_timeouts(recording: Recording) -> Iterator[Finding]:
    if "timeouts" not in recording.columns:
        yield Finding(
            "error",
            "time limits are not recorded",
            "the key timeouts (truncations) is missing",
            1,
            "Without it the row before a reset looks like any other, and values are carried over from one episode "
            "into the next.",
            "Store timeouts, True where an episode was cut rather than failed. For a fixed limit pass "
            "max_episode_steps to load_dataset.",
        )


def unmarked_limits(recording: Recording) -> Iterator[Finding]:
    """Unmarked ends after always the same number of steps."""
    rows, lengths = _unmarked(recording)
    limit = _common(lengths)
    if limit:
        yield Finding(
            "error",
            f"episodes end after {limit} steps without a flag",
            name_rows(rows),
            len(rows),
            "The next row starts elsewhere: these are time limits that were not recorded as timeouts.",
            "Set timeouts to True in these rows.",
        )


def teleports(recording: Recording) -> Iterator[Finding]:
    rows, lengths = _unmarked(recording)
    if len(rows) and not _common(lengths):
        stored = "next_observations" in recording.columns
        what = "next_observations is not the next row's observation" if stored else "the state jumps"
        yield Finding(
            "warning" if stored else "error",
            "teleports inside episodes",
            f"{what} in {name_rows(rows)}",
            len(rows),
            "Rows are lost, out of order, or from another episode. "
            + (
                "load_dataset cuts the episode there."
                if stored
                else f"The step is more than {STRIDE:g} times as large as 90% of all; values are carried across it."
            ),
            "Find the lost rows, or mark the row before each jump as a time-out.",
        )


def limits_as_terminals(recording: Recording) -> Iterator[Finding]:
    terminals = recording.flag("terminals") & ~recording.flag("timeouts")
    last = np.flatnonzero(recording.ends)
    lengths = np.diff(np.append(-1, last))
    failed = lengths[terminals[last]]  # steps of the episodes that end in a terminal
    limit = int(lengths.max())
    at_limit, almost = int((failed == limit).sum()), int(((failed >= 0.95 * limit) & (failed < limit)).sum())
    if at_limit >= 3 and at_limit > 3 * almost:
        rows = last[terminals[last] & (lengths == limit)]
        yield Finding(
            "warning",
            f"{at_limit} episodes terminate after exactly {limit} steps, and none is longer",
            name_rows(rows),
            at_limit,
            "This looks like a time limit stored as a terminal. Values are not carried past terminals, so states near "
            "the limit are learned as worth little.",
            "Where nothing failed in these rows, set terminals to False and timeouts to True.",
        )


def many_terminals(recording: Recording) -> Iterator[Finding]:
    terminals = recording.flag("terminals")
    part = terminals.mean()
    if part > 0.1:
        yield Finding(
            "error" if part > 0.5 else "warning",
            f"{part:.0%} of the rows are terminals",
            name_rows(np.flatnonzero(terminals)),
            int(terminals.sum()),
            "A terminal is a state without a future. "
            + ("More than half: masks (1 = goes on) may be stored in place of terminals." if part > 0.5 else ""),
            "Store True only where the task failed or was finished.",
        )


def duplicates(recording: Recording) -> Iterator[Finding]:
    parts = [recording.columns[key].astype(np.float32) for key in ("observations", "actions")]
    rows = np.ascontiguousarray(np.column_stack([*parts, recording.columns["rewards"].astype(np.float32)]))
    keys = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    first = np.unique(keys, return_index=True)[1]
    repeated = np.delete(np.arange(len(keys)), first)
    if len(repeated):
        yield Finding(
            "warning" if len(repeated) > 0.01 * len(keys) else "note",
            "duplicated transitions",
            name_rows(repeated),
            len(repeated),
            f"{len(repeated) / len(keys):.1%} of the rows repeat an earlier observation, action and reward. They are "
            "drawn more often than they happened, and a split for validation leaks.",
            "If a log was written twice, drop the copies. D4RL's Adroit cloned sets are like this on purpose.",
        )


def constants(recording: Recording) -> Iterator[Finding]:
    for key, meaning in (
        (
            "observations",
            "A dead sensor, or another task's: the policy will ignore it, whatever it reads later.",
        ),
        ("actions", "The motor never moved: what it does is unknown, and the agent may use it all the same."),
    ):
        column = recording.columns[key]
        still = np.flatnonzero(np.nanmax(column, axis=0) == np.nanmin(column, axis=0))
        if len(still) and len(column) > 1:
            fix = "Leave these components out, or repair the recording."
            where, parts = recording.parts(key, still), tuple(f"{key}[{i}]" for i in still)
            yield Finding("warning", f"constant {key}", where, len(still), meaning, fix, parts)
    rewards = recording.columns["rewards"]
    same = np.nanmax(rewards) == np.nanmin(rewards)
    if same and (rewards[0] == 0 or not recording.flag("terminals").any()):
        yield Finding(
            "error",
            f"all rewards are {rewards[0]:g}",
            "rewards",
            len(rewards),
            "Every action is worth the same: there is nothing to learn.",
            "Compute the rewards of the task, and store them.",
        )


def reward_outliers(recording: Recording) -> Iterator[Finding]:
    rewards = recording.columns["rewards"].astype(np.float64)
    low, median, high = np.nanquantile(rewards, (0.01, 0.5, 0.99))
    far = np.abs(rewards - median) > SPREAD * (high - low)
    if high > low and far.any():  # a sparse reward has no range to compare with
        rows = np.flatnonzero(far)
        yield Finding(
            "warning",
            "reward outliers",
            f"{name_rows(rows)}; up to {rewards[rows[np.abs(rewards[rows]).argmax()]]:g}, where 98% lie in "
            f"[{low:g}, {high:g}]",
            len(rows),
            "The critic's squared error follows such a reward and forgets the rest.",
            "If it is a glitch of a sensor, repair it. If the task is like this, scale or clip it knowingly.",
        )


def shifted_rewards(recording: Recording) -> Iterator[Finding]:
    """Rewards that the transition of a neighbouring row explains much better than their own does."""
    errors = {shift: _fit_error(recording, shift) for shift in (-1, 0, 1)}
    best = min(errors, key=lambda shift: errors[shift])
    ratio = errors[0] / errors[best]
    if best and errors[best] < 1.0 - EXPLAINED and ratio > BETTER:
        late = best == -1
        yield Finding(
            "error",
            f"rewards are one step {'late' if late else 'early'}",
            f"all rows: a reward fits the row {'before' if late else 'after'} its own {ratio:.0f} times better",
            len(recording.columns["rewards"]),
            "Row t must hold the reward of its own action. Credit goes to the wrong action throughout.",
            f"Move the rewards by one row inside each episode, {'up' if late else 'down'}: dm_env's and many loggers' "
            "first row is the reset, whose reward belongs to nothing.",
        )


def delayed_actions(recording: Recording) -> Iterator[Finding]:
    """Actions whose effect comes ticks later, see doctor/delay.py."""
    columns = recording.columns
    if not {"observations", "actions"} <= columns.keys():
        return
    obs, actions = (np.asarray(columns[key], np.float64) for key in ("observations", "actions"))
    if obs.ndim != 2 or actions.ndim != 2 or len(obs) != len(actions):
        return
    episode_ids = np.append(0, np.cumsum(recording.ends[:-1]))
    whole = np.append(episode_ids[1:] == episode_ids[:-1], False)  # rows whose successor is the next one
    found = estimate(obs[whole], np.roll(obs, -1, 0)[whole], actions[whole], episode_ids[whole])
    if found.ticks:
        yield Finding(
            "warning",
            f"actions act {found.ticks} row{'s' * (found.ticks > 1)} late",
            f"actions; {found}",
            found.ticks,
            "The state changes as the action of an earlier row says, not that of its own. Either the robot needs this "
            "time, or the recording pairs actions with the wrong observations.",
            f"If it is the robot, train with delay={found.ticks} (--set delay={found.ticks}); if it is the recording, "
            "move the actions.",
        )


def fragments(recording: Recording) -> Iterator[Finding]:
    last = np.flatnonzero(recording.ends)
    lengths = np.diff(np.append(-1, last))
    timeouts = recording.flag("timeouts")
    inner = np.arange(len(last)) < len(last) - 1  # where a recording stops is no defect
    limit = _common(lengths[timeouts[last] & inner], part=0.5)
    short = last[inner & timeouts[last] & (lengths < limit)]
    if len(short):
        yield Finding(
            "warning",
            f"episodes cut before the time limit of {limit} steps",
            name_rows(short),
            len(short),
            "They are fragments: their returns and lengths say nothing about the policy. Values are learned rightly, "
            "so long as they are marked as time-outs.",
            "Leave them out of statistics of episodes and of filters by return.",
        )
    single = last[inner & (lengths == 1)]
    if len(single):
        yield Finding(
            "warning",
            "episodes of a single step",
            name_rows(single),
            len(single),
            "Most often a flag that is set twice, or in the row after the end.",
            "Look at the flags of these rows and of the ones before.",
        )
    if not any(recording.flag(key)[-1] for key in recording.episode_ends) and recording.episode_ends:
        yield Finding(
            "note",
            "the last episode has no end",
            f"row {len(timeouts) - 1}, after {lengths[-1]} steps",
            1,
            "The recording stopped in an episode: load_dataset counts its last row as truncated.",
            "Nothing, if that is what happened.",
        )


CHECKS: tuple[Callable[[Recording], Iterator[Finding]], ...] = (
    outside_box,
    no_timeouts,
    unmarked_limits,
    teleports,
    limits_as_terminals,
    many_terminals,
    shifted_rewards,
    delayed_actions,
    reward_outliers,
    constants,
    duplicates,
    fragments,
    wide_floats,
)


# What several checks ask ----------------------------------------------------------------------------------------------


def _unmarked(recording: Recording) -> tuple[Rows, Rows]:
    """Rows before a jump that no flag marks, and the length of the piece that each of them ends."""
    ends = recording.ends
    inside = ~ends[:-1]
    obs = recording.columns["observations"].astype(np.float64)
    if "next_observations" in recording.columns:
        jumps = np.linalg.norm(obs[1:] - recording.columns["next_observations"][:-1], axis=1) > JUMP
    else:
        steps = np.abs(np.diff(obs, axis=0))  # (N - 1, O)
        if not inside.any():
            return np.empty(0, np.int64), np.empty(0, np.int64)
        usual = np.nanquantile(steps[inside], 0.9, axis=0)
        largest = np.where(inside, (steps[:, usual > 0.0] / usual[usual > 0.0]).max(axis=1, initial=0.0), 0.0)
        beside = np.maximum(np.append(0.0, largest[:-1]), np.append(largest[1:], 0.0))
        # A fast motion has fast neighbours; a jump stands alone.
        jumps = (largest > STRIDE) & (largest > ALONE * beside) & (beside > 0.0)
    jumps = np.append(jumps & inside, False)
    boundaries = np.flatnonzero(ends | jumps)
    lengths = np.diff(np.append(-1, boundaries))
    return np.flatnonzero(jumps), lengths[jumps[boundaries]]


def _common(lengths: Rows, part: float = 0.8) -> int:
    """The longest of the lengths, where at least two and this part of them equal it; else 0."""
    at_longest = np.count_nonzero(lengths == lengths.max()) if len(lengths) else 0
    return int(lengths.max()) if at_longest >= max(2, part * len(lengths)) else 0


def _fit_error(recording: Recording, shift: int) -> float:
    """Part of the rewards' variance that a quadratic of the row `shift` away leaves, on rows it was not fitted to.

    1.0 where there is too little to fit.
    """
    columns, ends = recording.columns, recording.ends
    # Rows with both neighbours in their episode and no end among the three: failures are often rewarded differently.
    inner = np.flatnonzero(~ends[2:] & ~ends[1:-1] & ~ends[:-2]) + 1
    inner = inner[:: max(1, len(inner) // FIT_ROWS)]
    row = inner + shift
    linear = np.column_stack([columns["observations"][row], columns["actions"][row], recording.successors[row]])
    rewards = columns["rewards"][inner].astype(np.float64)
    sound = np.isfinite(linear).all(axis=1) & np.isfinite(rewards)
    linear, rewards = linear[sound].astype(np.float64), rewards[sound]
    if len(rewards) < 10 * 2 * linear.shape[1] or rewards.var() == 0.0:
        return 1.0
    linear = (linear - linear.mean(axis=0)) / (linear.std(axis=0) + 1e-9)
    features = np.column_stack([linear, np.square(linear), np.ones(len(linear))])
    fitted, kept = features[::2], features[1::2]
    weights = np.linalg.lstsq(fitted, rewards[::2], rcond=None)[0]
    error = np.square(rewards[1::2] - kept @ weights).mean() / rewards[1::2].var()
    return float(max(error, 1e-9))

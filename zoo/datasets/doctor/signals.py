"""What can be wrong with single signals and with the clock: spikes, held values, copies, limits, time stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from zoo.datasets.doctor.recording import Finding, Recording, name_rows

SPIKE = 8.0  # both steps beside a row this many times the 99th percentile: real impacts reach 3
FEW = 0.002  # part of the rows above which large steps are the signal's way
NARROW = 0.05  # part of the action box that is used, below which units may be mixed up
MAIN = 0.995  # part of the rows that share a value, from which on a dimension is nearly constant
HELD = 0.05  # part of the rows with the action before's
STALE = 0.005  # part of the rows with the observation before's
JITTER = 0.1  # standard deviation of the time steps, as a part of their median
GAP = 2.5  # times the median time step: a message is missing
RATE = 0.05  # part by which the rate may differ from the stated one
ALIKE = 1e-5  # 1 - correlation, below which a dimension is another one in other units
SAMPLE = 20_000  # rows that are compared pairwise


def spikes(recording: Recording) -> Iterator[Finding]:
    """Values that leave and return at once, in steps that the dimension never makes."""
    inside = ~recording.ends[:-1]
    for key in ("observations", "actions"):
        column = recording.columns[key].astype(np.float64)
        steps = np.where(inside[:, None], np.diff(column, axis=0), 0.0)  # (N - 1, k)
        usual = np.quantile(np.abs(steps), 0.99, axis=0)
        many = np.array([len(np.unique(values)) > 10 for values in column.T])  # no switch
        usual = np.where((usual == 0) & many, np.nanstd(column, axis=0), usual)  # still inside an episode
        there, back = steps[:-1], steps[1:]
        away = np.minimum(np.abs(there), np.abs(back)) > SPIKE * usual
        away &= (np.sign(there) != np.sign(back)) & (usual > 0)
        for i in np.flatnonzero(away.any(axis=0)).tolist():
            rows = np.flatnonzero(away[:, i]) + 1
            if len(rows) <= max(1, FEW * len(column)):
                yield Finding(
                    "warning",
                    f"spikes in {recording.part(key, i)}",
                    f"{name_rows(rows)}; {column[rows[0], i]:g} between {column[rows[0] - 1, i]:g} and "
                    f"{column[rows[0] + 1, i]:g}",
                    len(rows),
                    f"Both steps are more than {SPIKE:g} times as large as 99% of this dimension's: a glitch of the "
                    "sensor or of the bus, that stretches its range and its normalisation.",
                    "Replace the values by the mean of their neighbours, or cut the episode there.",
                    (f"{key}[{i}]",),
                )


def narrow_actions(recording: Recording) -> Iterator[Finding]:
    actions = recording.columns["actions"]
    box = np.broadcast_to(np.asarray(recording.action_high) - recording.action_low, actions.shape[1:])
    used = (np.nanmax(actions, axis=0) - np.nanmin(actions, axis=0)) / box
    for i in np.flatnonzero((used < NARROW) & (used > 0)).tolist():
        yield Finding(
            "warning",
            f"{recording.part('actions', i)} uses {used[i]:.1%} of its box",
            f"sent {np.nanmin(actions[:, i]):g} to {np.nanmax(actions[:, i]):g} of a box {box[i]:g} wide",
            1,
            "Limits and data may have different units (degrees and radians, N m and mN m). The policy may use the "
            "whole box, of which the data show almost nothing.",
            "State the limits in the unit of the data; if the box is right, make it as small as the task needs.",
            (f"actions[{i}]",),
        )


def outside_limits(recording: Recording) -> Iterator[Finding]:
    """Observations beyond the sensor's stated range."""
    obs = recording.columns["observations"]
    for i, (low, high) in enumerate(recording.limits):
        column = obs[:, i]
        rows = np.flatnonzero((column < low) | (column > high))
        if len(rows):
            yield Finding(
                "warning",
                f"{recording.part('observations', i)} leaves its stated range",
                f"{name_rows(rows)}; {np.nanmin(column):g} to {np.nanmax(column):g}, stated {low:g} to {high:g}",
                len(rows),
                "The unit, the order of the dimensions or the stated range is wrong, or the sensor failed.",
                "Mend the map, or the rows.",
                (f"observations[{i}]",),
            )


def nearly_constant(recording: Recording) -> Iterator[Finding]:
    """Dimensions that have one value almost always, or move by less than a hundred-thousandth of it."""
    for key in ("observations", "actions"):
        column = recording.columns[key]
        for i in range(column.shape[1]):
            values, counts = np.unique(column[:, i], return_counts=True)
            if len(values) < 2:
                continue
            spread, size = float(np.nanstd(column[:, i], dtype=np.float64)), float(np.nanmax(np.abs(column[:, i])))
            if counts.max() > MAIN * len(column) or spread < 1e-5 * size:
                yield Finding(
                    "warning",
                    f"{recording.part(key, i)} is nearly constant",
                    f"{values[counts.argmax()]:g} in {counts.max() / len(column):.1%} of the rows, standard deviation "
                    f"{spread:.3g}",
                    int(len(column) - counts.max()),
                    "Normalised by its small deviation, what little it moves becomes enormous, and on the robot any "
                    "other value is far outside the data.",
                    "Leave it out, unless its rare values matter; if an offset hides what moves, subtract it.",
                    (f"{key}[{i}]",),
                )


def copies(recording: Recording) -> Iterator[Finding]:
    """Observations that are another one, or another one in other units."""
    obs = recording.columns["observations"]
    rows = np.linspace(0, len(obs) - 1, min(len(obs), SAMPLE)).astype(np.int64)
    some = obs[rows].astype(np.float64)
    moving = np.flatnonzero(some.std(axis=0) > 1e-9 * (1 + np.abs(some).max(axis=0)))
    if len(rows) < 10 or len(moving) < 2:
        return
    alike = np.abs(np.corrcoef(some[:, moving], rowvar=False)) > 1.0 - ALIKE
    for first, second in zip(*np.nonzero(np.triu(alike, 1)), strict=True):
        i, j = moving[first], moving[second]
        equal = np.array_equal(obs[:, i], obs[:, j])
        yield Finding(
            "warning",
            f"{recording.part('observations', j)} {'duplicates' if equal else 'is a multiple of'} "
            f"{recording.part('observations', i)}",
            f"observations {i} and {j}, all rows",
            len(obs),
            "One column was recorded twice, perhaps in another unit, and the one that should be there may be missing.",
            "Look where the columns come from; leave the copy out.",
            (f"observations[{i}]", f"observations[{j}]"),
        )


def held_actions(recording: Recording) -> Iterator[Finding]:
    actions = recording.columns["actions"]
    inside = ~recording.ends[:-1]
    same = (actions[1:] == actions[:-1]).all(axis=1) & inside
    low, high = np.asarray(recording.action_low), np.asarray(recording.action_high)
    free = np.any((actions > low) & (actions < high), axis=1)[1:]  # an action at its limits may well stay there
    rows = np.flatnonzero(same & free) + 1
    moving = (np.nanmax(actions, axis=0) > np.nanmin(actions, axis=0)).any()
    if moving and len(rows) > HELD * inside.sum():
        yield Finding(
            "warning",
            "actions are held",
            name_rows(rows),
            len(rows),
            f"{len(rows) / max(inside.sum(), 1):.0%} of the rows repeat the action before exactly. The commands come "
            "less often than the rows, or the log holds the last one when none arrives.",
            "Record at the rate of the commands: in a map of a bag, tick = the command's topic.",
            ("actions",),
        )


def held_observations(recording: Recording) -> Iterator[Finding]:
    obs = recording.columns["observations"]
    inside = ~recording.ends[:-1]
    rows = np.flatnonzero((obs[1:] == obs[:-1]).all(axis=1) & inside) + 1
    moving = (np.nanmax(obs, axis=0) > np.nanmin(obs, axis=0)).any()
    if moving and len(rows) > STALE * inside.sum():
        yield Finding(
            "warning",
            "observations are held: messages were dropped",
            name_rows(rows),
            len(rows),
            f"{len(rows) / max(inside.sum(), 1):.1%} of the rows repeat the observation before exactly, in every "
            "dimension. The agent learns that these actions do nothing.",
            "Drop the rows and cut the episodes there, or record at the rate at which observations come.",
            ("observations",),
        )


def interleaved(recording: Recording) -> Iterator[Finding]:
    """Rows whose successor stands two to eight rows later: several recordings in turn."""
    obs = recording.columns["observations"].astype(np.float64)
    if len(obs) < 50:
        return
    if "next_observations" in recording.columns:
        following = recording.columns["next_observations"]
        jump = np.flatnonzero(~recording.ends[:-1] & (following[:-1] != obs[1:].astype(following.dtype)).any(axis=1))
        found = {}
        for lag in range(2, 9):
            early = jump[jump < len(obs) - lag]
            found[lag] = int((following[early] == obs[early + lag].astype(following.dtype)).all(axis=1).sum())
        lag = max(found, key=lambda key: found[key])
        if len(jump) < 0.1 * len(obs) or found[lag] < 0.5 * len(jump):
            return
    else:
        scale = obs.std(axis=0) + 1e-9
        near = [float(np.median((np.abs(obs[k:] - obs[:-k]) / scale).mean(axis=1))) for k in range(1, 9)]
        lag = int(np.argmin(near)) + 1
        if lag == 1 or near[lag - 1] > 0.3 * near[0]:
            return
    yield Finding(
        "error",
        f"{lag} recordings are interleaved",
        f"most rows are followed by the row {lag} later",
        len(obs),
        "Neighbouring rows belong to different robots or runs: successors and returns are of nobody.",
        'Give the map the column that tells them apart, episode = "...", which brings their rows together.',
        ("observations",),
    )


def twice_recorded(recording: Recording) -> Iterator[Finding]:
    ends = np.flatnonzero(recording.ends)
    starts = np.append(0, ends[:-1] + 1)
    parts = np.ascontiguousarray(np.column_stack([recording.columns["observations"], recording.columns["actions"]]))
    seen: dict[bytes, int] = {}
    again = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if end - start < 2:
            continue
        key = parts[start : end + 1].tobytes()
        if key in seen:
            again.append(number)
        seen.setdefault(key, number)
    if again:
        rows = starts[again]
        yield Finding(
            "warning",
            f"{len(again)} episodes are there twice",
            f"episodes {', '.join(map(str, again[:5]))}, from {name_rows(rows)} on",
            len(again),
            "They are drawn twice as often, and what is held out for validation is also trained on.",
            "Keep one of each: the same file may have been imported twice.",
        )


def coarse(recording: Recording) -> Iterator[Finding]:
    """float32 columns whose steps are as small as float32 can make them there."""
    for key in ("observations",):
        column = recording.columns[key]
        if column.dtype != np.float32:
            continue  # wide_floats looks at float64
        for i in range(column.shape[1]):
            values = column[:, i]
            size = float(np.nanmax(np.abs(values)))
            steps = np.abs(np.diff(values.astype(np.float64)))
            steps = steps[steps > 0]
            grain = float(np.spacing(np.float32(size)))
            if len(steps) > 10 and size > 1e3 and np.median(steps) <= 2 * grain:
                yield Finding(
                    "warning",
                    f"{recording.part(key, i)} is too large for float32",
                    f"values up to {size:g} move in steps of {grain:g}, the smallest that float32 has there",
                    len(steps),
                    "Its finer motion is lost already: positions become a few, clocks stand still.",
                    "Subtract an offset, such as the value at the episode's start, before storing float32.",
                    (f"{key}[{i}]",),
                )


def no_terminations(recording: Recording) -> Iterator[Finding]:
    """Nothing terminates, and the cuts come after differing numbers of steps: no limit does that."""
    timeouts = recording.flag("timeouts")
    if recording.flag("terminals").any() or "timeouts" not in recording.columns:
        return
    lengths = np.diff(np.append(-1, np.flatnonzero(recording.ends)))
    if len(lengths) < 5 or not timeouts.any():
        return
    commonest = int(np.unique(lengths, return_counts=True)[1].max())
    if commonest < 0.3 * len(lengths):
        yield Finding(
            "warning",
            "every end is stored as a time-out",
            f"{len(lengths)} episodes of {lengths.min()} to {lengths.max()} steps, without a terminal",
            len(lengths),
            "A time limit ends episodes after one number of steps; these differ. Where they failed or finished, values "
            "are carried on past the end: the agent does not learn that failing is bad.",
            "Set terminals in the rows where the task failed or was finished, and timeouts only at the limit.",
        )


def clock(recording: Recording) -> Iterator[Finding]:
    """Time stamps that run back, jump, jitter, or do not have the stated rate."""
    if recording.times is None or len(recording.times) < 3:
        return
    times = np.asarray(recording.times, np.float64)
    inside = ~recording.ends[:-1]
    steps = np.diff(times)[inside]
    rows = np.flatnonzero(inside) + 1
    usual = float(np.median(steps)) if len(steps) else 0.0
    back = rows[steps <= 0]
    if len(back):
        yield Finding(
            "error" if len(back) > 0.01 * len(steps) else "warning",
            "the clock steps back or stands still",
            name_rows(back),
            len(back),
            "The clock was set while recording, or rows are out of order or doubled.",
            "Record with a clock that only goes forward; sort the rows, or cut the episodes there.",
        )
    if usual <= 0:
        return
    gaps = rows[steps > GAP * usual]
    if len(gaps):
        yield Finding(
            "warning",
            "messages are missing: the clock jumps",
            f"{name_rows(gaps)}; up to {steps.max():.4g} s, where {usual:.4g} s is usual",
            len(gaps),
            "A transition across a gap is longer than the others: more happens in it than an action does in a step.",
            "Cut the episodes there: gap_s in the map.",
        )
    sound = steps[(steps > 0) & (steps <= GAP * usual)]
    if len(sound) and sound.std() > JITTER * usual:
        yield Finding(
            "warning",
            "the rate jitters",
            f"steps of {np.quantile(sound, 0.05):.4g} to {np.quantile(sound, 0.95):.4g} s (5% to 95%), "
            f"{usual:.4g} s usual",
            len(sound),
            "Transitions last differently long, and the same action does more in a longer one.",
            "Record from a real-time loop, or resample to the control rate.",
        )
    if recording.rate is not None and abs(usual * recording.rate - 1.0) > RATE:
        yield Finding(
            "warning",
            f"the rate is {1 / usual:.4g} Hz, stated are {recording.rate:g} Hz",
            "the time column",
            len(steps),
            "The policy would be run at another rate than its data have, or the time is in another unit than seconds.",
            "Mend control_rate_hz or time in the map.",
        )


SIGNALS: tuple[Callable[[Recording], Iterator[Finding]], ...] = (
    spikes,
    narrow_actions,
    outside_limits,
    nearly_constant,
    copies,
    held_actions,
    held_observations,
    interleaved,
    twice_recorded,
    coarse,
    no_terminations,
    clock,
)

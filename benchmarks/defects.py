"""What the doctor finds: defects planted one at a time in sound recordings, with recall and precision.

python benchmarks/defects.py             prints the table of docs/own-data.md
python benchmarks/defects.py FILE...     the same on other HDF5 files, whose episodes terminate

The recordings are the first 8,000 rows of the embedded Hopper set with a clock, and an arm's log (examples/arm).
Recall: in how many recordings a planted defect is found. False alarms: findings that no defect explains, beside those
of the sound recording.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.doctor.findings import examine
from zoo.datasets.doctor.recording import Recording

Columns = dict[str, np.ndarray]
ROWS, RATE = 8_000, 50.0


@dataclass(frozen=True)
class Defect:
    """plant changes columns in place, or returns others; also a "times" column and the keywords of a Recording.

    titles: beginnings or parts of the titles that name it; also: of findings that are its consequences.
    """

    name: str
    plant: Callable[[Columns, np.random.Generator], Mapping[str, Any] | None]
    titles: tuple[str, ...]
    also: tuple[str, ...] = ()


def ends_of(columns: Columns) -> np.ndarray:
    return np.flatnonzero((columns["terminals"] > 0.5) | (columns["timeouts"] > 0.5))


def inside_of(columns: Columns) -> np.ndarray:
    """Rows at least three rows away from every end."""
    near = np.zeros(len(columns["rewards"]), bool)
    for end in ends_of(columns):
        near[max(0, end - 3) : end + 4] = True
    near[:3] = near[-3:] = True
    return np.flatnonzero(~near)


def moving(columns: Columns) -> int:
    """A dimension that moves smoothly: the one with the smallest step for its spread."""
    obs = columns["observations"].astype(np.float64)
    spread = obs.std(axis=0)
    steps = np.abs(np.diff(obs, axis=0)).mean(axis=0) / np.where(spread > 0, spread, np.inf)
    return int(np.argmin(np.where(spread > 0, steps, np.inf)))


def taken(columns: Columns, rows: np.ndarray) -> Columns:
    return {key: column[rows] for key, column in columns.items()}


def set_both(columns: Columns, index: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """A dimension of observations, and of their successors where they are stored."""
    for key in ("observations", "next_observations"):
        if key in columns:
            columns[key][:, index] = change(columns[key][:, index])


def nan_observation(c: Columns, rng: np.random.Generator) -> None:
    c["observations"][rng.integers(len(c["rewards"])), 0] = np.nan


def infinite_reward(c: Columns, rng: np.random.Generator) -> None:
    c["rewards"][rng.integers(len(c["rewards"]))] = np.inf


def action_outside(c: Columns, rng: np.random.Generator) -> None:
    c["actions"][inside_of(c)[:20], 0] *= 0
    c["actions"][inside_of(c)[:20], 0] += 3 * np.abs(c["actions"][:, 0]).max()


def no_timeouts(c: Columns, rng: np.random.Generator) -> None:
    del c["timeouts"]


def pieces(c: Columns, length: int) -> tuple[Columns, int]:
    """Pieces of one length, one after another, their flags taken away, as one recording."""
    dense(c)
    starts = np.append(0, ends_of(c)[:-1] + 1)
    long = starts[np.diff(np.append(starts, len(c["rewards"]))) > length + 5]
    columns = taken(c, (long[:, None] + np.arange(length)).ravel())
    return columns | {"times": c["times"][: length * len(long)]}, len(long)


def unmarked_limits(c: Columns, rng: np.random.Generator) -> Columns:
    return pieces(c, 60)[0]


def lost_rows(c: Columns, rng: np.random.Generator) -> Columns:
    lost = rng.choice(inside_of(c), 3, replace=False)
    return taken(c, np.delete(np.arange(len(c["rewards"])), (lost[:, None] + np.arange(2)).ravel()))


def shifted_state(c: Columns, rng: np.random.Generator) -> None:
    c.pop("next_observations", None)
    row = int(inside_of(c)[len(inside_of(c)) // 2])
    c["observations"][row:] += 40 * c["observations"].std(axis=0)


def limits_as_terminals(c: Columns, rng: np.random.Generator) -> Columns:
    columns, count = pieces(c, 60)
    columns["terminals"] = np.arange(60 * count) % 60 == 59
    columns["timeouts"] = np.zeros(60 * count, bool)
    return columns


def masks(c: Columns, rng: np.random.Generator) -> None:
    c["terminals"] = ~c["terminals"]


def late_rewards(c: Columns, rng: np.random.Generator) -> None:
    dense(c)
    c["rewards"] = np.roll(c["rewards"], 1)


def early_rewards(c: Columns, rng: np.random.Generator) -> None:
    dense(c)
    c["rewards"] = np.roll(c["rewards"], -1)


def dense(c: Columns) -> None:
    """A reward of the step's own action and state, where a log has a sparse one, which no fit can place."""
    if len(np.unique(c["rewards"])) < 10:
        c["rewards"] = -np.square(c["actions"] / np.abs(c["actions"]).max()).sum(axis=1)


def reward_outlier(c: Columns, rng: np.random.Generator) -> None:
    dense(c)
    c["rewards"][rng.choice(inside_of(c), 3, replace=False)] = 1e4


def dead_sensor(c: Columns, rng: np.random.Generator) -> None:
    set_both(c, moving(c), lambda x: np.full_like(x, 0.25))


def dead_motor(c: Columns, rng: np.random.Generator) -> None:
    c["actions"][:, 1] = 0.0


def doubled_rows(c: Columns, rng: np.random.Generator) -> Columns:
    """A buffer that was flushed twice: a part of every fifth episode is there again, as an episode of its own."""
    ends = ends_of(c)
    starts = np.append(0, ends[:-1] + 1)
    parts = [np.arange(s + 5, e - 5) for s, e in zip(starts, ends, strict=True) if e - s > 30][::5]
    again = taken(c, np.concatenate(parts))
    again["timeouts"][np.cumsum([len(part) for part in parts]) - 1] = True
    return {key: np.concatenate([column, again[key]]) for key, column in c.items()}


def doubled_episodes(c: Columns, rng: np.random.Generator) -> Columns:
    ends = ends_of(c)
    starts = np.append(0, ends[:-1] + 1)
    again = np.concatenate([np.arange(starts[i], ends[i] + 1) for i in (2, 4, 6)])
    return {key: np.concatenate([column, column[again]]) for key, column in c.items()}


def single_steps(c: Columns, rng: np.random.Generator) -> None:
    for end in ends_of(c)[:4]:
        c["terminals"][end - 1] = True


def fragments(c: Columns, rng: np.random.Generator) -> Columns:
    """A limit of 60 steps, and every fourth episode cut at 20 by something else."""
    dense(c)
    starts = np.append(0, ends_of(c)[:-1] + 1)
    long = starts[np.diff(np.append(starts, len(c["rewards"]))) > 65]
    lengths = np.where(np.arange(len(long)) % 4 == 1, 20, 60)
    columns = taken(c, np.concatenate([s + np.arange(n) for s, n in zip(long, lengths, strict=True)]))
    columns["terminals"][:] = columns["timeouts"][:] = False
    columns["timeouts"][np.cumsum(lengths) - 1] = True
    return columns


def unix_time(c: Columns, rng: np.random.Generator) -> None:
    """float64 seconds since 1970 as an observation: float32 moves in steps of 128 s there."""
    for key, shift in (("observations", 0), ("next_observations", 1)):
        if key in c:
            seconds = 1.7e9 + 0.02 * (shift + np.arange(len(c["rewards"])))
            c[key] = np.column_stack([c[key].astype(np.float64), seconds])


def spike(c: Columns, rng: np.random.Generator) -> None:
    row, i = int(rng.choice(inside_of(c))), moving(c)
    value = c["observations"][:, i].max() + 15 * np.abs(np.diff(c["observations"][:, i])).max()
    c["observations"][row, i] = value
    if "next_observations" in c:
        c["next_observations"][row - 1, i] = value


def box_in_other_units(c: Columns, rng: np.random.Generator) -> Mapping[str, Any]:
    return {"action_high": np.abs(c["actions"]).max() * 1000, "action_low": -np.abs(c["actions"]).max() * 1000}


def zero_rewards(c: Columns, rng: np.random.Generator) -> None:
    c["rewards"][:] = 0.0


def terminals_as_timeouts(c: Columns, rng: np.random.Generator) -> Columns:
    """Of the episodes that terminate; those that reach a limit have one length in common."""
    ends = ends_of(c)
    starts = np.append(0, ends[:-1] + 1)
    failed = [np.arange(s, e + 1) for s, e in zip(starts, ends, strict=True) if c["terminals"][e]]
    columns = taken(c, np.concatenate(failed))
    columns["timeouts"] = columns["terminals"].copy()
    columns["terminals"] = np.zeros_like(columns["terminals"])
    return columns


def clock_steps_back(c: Columns, rng: np.random.Generator) -> None:
    c["times"][inside_of(c)[500] :] -= 3.0


def clock_jumps(c: Columns, rng: np.random.Generator) -> None:
    for row in rng.choice(inside_of(c), 5, replace=False):
        c["times"][row:] += 7 / RATE


def jitter(c: Columns, rng: np.random.Generator) -> None:
    c["times"] += rng.uniform(-0.4, 0.4, len(c["times"])) / RATE


def other_rate(c: Columns, rng: np.random.Generator) -> None:
    c["times"] *= 2.0


def dropped_messages(c: Columns, rng: np.random.Generator) -> None:
    """The last observation is repeated where a message did not come: in 3% of the rows."""
    for row in np.sort(rng.choice(inside_of(c), len(c["rewards"]) // 33, replace=False)):
        c["observations"][row] = c["observations"][row - 1]
        if "next_observations" in c:
            c["next_observations"][row - 1] = c["observations"][row]


def held_commands(c: Columns, rng: np.random.Generator) -> None:
    for row in inside_of(c):
        if row % 4:
            c["actions"][row] = c["actions"][row - 1]


def interleaved(c: Columns, rng: np.random.Generator) -> Columns:
    """Two robots into one file, a row of each in turn."""
    half = len(c["rewards"]) // 2
    order = np.stack([np.arange(half), half + np.arange(half)], 1).ravel()
    return taken(c, order)


def copied_dimension(c: Columns, rng: np.random.Generator) -> None:
    i = moving(c)
    for key in ("observations", "next_observations"):
        if key in c:
            c[key] = np.column_stack([c[key], c[key][:, i]])


def copied_in_degrees(c: Columns, rng: np.random.Generator) -> None:
    i = moving(c)
    for key in ("observations", "next_observations"):
        if key in c:
            c[key] = np.column_stack([c[key], np.degrees(c[key][:, i])])


def coarse_position(c: Columns, rng: np.random.Generator) -> None:
    """A position in metres of a national grid, as float32."""
    set_both(c, moving(c), lambda x: (3_948_996.0 + x.astype(np.float64)).astype(np.float32))


def nearly_constant(c: Columns, rng: np.random.Generator) -> None:
    i = moving(c)
    set_both(c, i, lambda x: np.where(np.arange(len(x)) % 1000 == 7, 1.0, 0.0).astype(np.float32))
    if "next_observations" in c:
        c["next_observations"][:-1, i] = c["observations"][1:, i]


def wrong_unit(c: Columns, rng: np.random.Generator) -> Mapping[str, Any]:
    """A dimension in degrees whose range is stated in radians."""
    i = moving(c)
    limits = [(-np.inf, np.inf)] * c["observations"].shape[1]
    limits[i] = (float(c["observations"][:, i].min()), float(c["observations"][:, i].max()))
    set_both(c, i, lambda x: np.degrees(x))
    return {"limits": tuple(limits)}


TELEPORTS = ("teleports inside episodes", "without a flag")
DEFECTS = (
    Defect("NaN in an observation", nan_observation, ("observations hold NaN",)),
    Defect("an infinite reward", infinite_reward, ("rewards hold NaN",)),
    Defect("actions outside the box", action_outside, ("actions outside the box",), ("spikes", "is nearly constant")),
    Defect("no time-outs stored", no_timeouts, ("time limits are not recorded",), (*TELEPORTS, "no end")),
    Defect("time limits without a flag", unmarked_limits, ("episodes end after 60 steps without a flag",), ("no end",)),
    Defect("lost rows", lost_rows, ("teleports inside episodes", "the clock jumps"), ("episodes cut",)),
    Defect("a jump of the whole state", shifted_state, ("teleports inside episodes",), ("is nearly constant",)),
    Defect("time limits stored as terminals", limits_as_terminals, ("terminate after exactly 60",)),
    Defect("masks stored as terminals", masks, ("of the rows are terminals",), ("single step", "no end", "exactly",
           "without a flag")),
    Defect("rewards a row late", late_rewards, ("rewards are one step late",)),
    Defect("rewards a row early", early_rewards, ("rewards are one step early",)),
    Defect("reward outliers", reward_outlier, ("reward outliers",)),
    Defect("a dead sensor", dead_sensor, ("constant observations",)),
    Defect("a dead motor", dead_motor, ("constant actions",)),
    Defect("transitions twice", doubled_rows, ("duplicated transitions",), ("episodes cut",)),
    Defect("episodes twice", doubled_episodes, ("episodes are there twice",), ("duplicated transitions",)),
    Defect("an end flagged twice", single_steps, ("episodes of a single step",)),
    Defect("fragments of episodes", fragments, ("episodes cut before the time limit",)),
    Defect("Unix time as an observation", unix_time, ("move less than float32",), ("float64", "nearly constant")),
    Defect("a spike in one dimension", spike, ("spikes in",)),
    Defect("an action box in other units", box_in_other_units, ("of its box",)),
    Defect("all rewards zero", zero_rewards, ("all rewards are 0",)),
    Defect("terminations stored as time-outs", terminals_as_timeouts, ("every end is stored as a time-out",)),
    Defect("a clock that steps back", clock_steps_back, ("the clock steps back",)),
    Defect("missing messages", clock_jumps, ("messages are missing",)),
    Defect("a rate that jitters", jitter, ("the rate jitters",)),
    Defect("another rate than stated", other_rate, ("the rate is",)),
    Defect("observations that are repeated", dropped_messages, ("observations are held",)),
    Defect("commands that are held", held_commands, ("actions are held",)),
    Defect("interleaved recordings", interleaved, ("recordings are interleaved",), ("teleports", "clock", "single step",
           "limit", "cut", "without a flag", "no end")),
    Defect("a dimension twice", copied_dimension, ("duplicates",)),
    Defect("a dimension in two units", copied_in_degrees, ("is a multiple of",)),
    Defect("a position too large for float32", coarse_position, ("too large for float32",), ("nearly constant",)),
    Defect("a dimension that hardly ever moves", nearly_constant, ("is nearly constant",), ("spikes",)),
    Defect("a range stated in other units", wrong_unit, ("leaves its stated range",)),
)  # fmt: skip


def hopper(name: str = "hopper-medium-replay") -> Recording:
    """The first episodes of the embedded set, all of which end in a fall, with a clock of 50 Hz; or of another one."""
    from zoo.datasets.load import load_dataset

    data = load_dataset(name)
    last = int(np.flatnonzero(data.terminations[:ROWS])[-1]) + 1
    columns = {key: data.column(key)[:last].copy() for key in ("observations", "actions", "rewards")}
    columns["next_observations"] = data.next_observations[:last].copy()
    columns |= {"terminals": data.terminations[:last].copy(), "timeouts": data.truncations[:last].copy()}
    return Recording(data.name, columns, times=np.arange(last) / RATE, rate=RATE)


def arm(folder: Path) -> Recording:
    """The log of examples/arm through its map, without stored successors, with its clock made 50 Hz."""
    from zoo.datasets.doctor.doctor import record

    place = Path(__file__).resolve().parent.parent / "examples" / "arm"
    sys.path.insert(0, str(place))
    import make_log

    make_log.main(folder / "arm.csv")
    found = record(folder / "arm.csv", {"map": place / "map.toml"})
    return replace(found, times=np.arange(len(found.columns["rewards"])) / RATE, rate=RATE, names={}, limits=())


def titles_of(recording: Recording) -> set[str]:
    return {finding.title for finding in examine(recording)}


def outcome(sound: Recording, defect: Defect, usual: set[str]) -> tuple[bool, list[str]]:
    """Whether the defect is found, and the titles of findings that it does not explain, beside the usual ones."""
    columns = {key: column.copy() for key, column in sound.columns.items()} | {"times": sound.times.copy()}
    changed = defect.plant(columns, np.random.default_rng(0)) or {}
    keywords = {key: value for key, value in changed.items() if key in ("action_low", "action_high", "limits")}
    columns = columns if keywords or not changed else dict(changed)
    times = columns.pop("times")
    titles = titles_of(replace(sound, columns=columns, times=times, **keywords))
    found = any(part in title for title in titles for part in defect.titles)
    explained = (*defect.titles, *defect.also)
    return found, sorted(t for t in titles - usual if not any(part in t for part in explained))


def table(recordings: Mapping[str, Recording]) -> str:
    """Markdown: a row for each defect, with the recall and the false alarms over the recordings."""
    lines = ["| planted | " + " | ".join(recordings) + " |", "|---|" + "---|" * len(recordings)]
    hits = alarms = findings = 0
    usual = {name: titles_of(recording) for name, recording in recordings.items()}
    for defect in DEFECTS:
        cells = []
        for name, recording in recordings.items():
            found, false = outcome(recording, defect, usual[name])
            hits, alarms, findings = hits + found, alarms + len(false), findings + found + len(false)
            cells.append(("found" if found else "**missed**") + (f", and {'; '.join(false)}" if false else ""))
        lines.append(f"| {defect.name} | " + " | ".join(cells) + " |")
    total = len(DEFECTS) * len(recordings)
    lines += ["", f"Recall {hits}/{total}, precision {findings - alarms}/{findings}."]
    return "\n".join(lines)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        if sys.argv[1:]:
            print(table({Path(path).stem: hopper(path) for path in sys.argv[1:]}))
        else:
            print(table({"Hopper": hopper(), "arm": arm(Path(temporary))}))

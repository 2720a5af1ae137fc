"""A first map of a file, from its names and ranges. What is guessed is marked, for a person to correct."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.datasets.checks import Array
from zoo.datasets.mapping.expression import names_in
from zoo.datasets.table import Streams, Table

ACTION = re.compile(r"(^|[^a-z])(actions?|act|cmds?|commands?|ctrl|control|targets?|setpoints?|u\d*)([^a-z]|$)")
MOVING = re.compile(r"(^|[^a-z])(tau|torques?|efforts?|voltages?|pwm|throttle|steer\w*)\d*([^a-z]|$)")
REWARD = re.compile(r"(^|[^a-z])(rewards?|rew)([^a-z]|$)")
TERMINATED = re.compile(
    r"(^|[^a-z])(terminat\w*|terminals?|fail\w*|fell|fall|crash\w*|collision|success\w*|reached)([^a-z]|$)"
)
TRUNCATED = re.compile(r"(^|[^a-z])(truncat\w*|time_?outs?|time_?limit)([^a-z]|$)")
EPISODE = re.compile(r"(^|[^a-z])(episodes?|trial|run|demo|trajectory|traj|rollout)(_?(id|ids|index|number|nr))?$")
TIME = re.compile(r"^(time|t|timestamp|stamp|time_s|t_s|seconds|sec|time_ns|time_ms)$")
COUNTER = re.compile(r"(^|[^a-z])(index|step|frame|row|seq|frame_index|task_index|sec|nanosec)$")
UNITS = {
    "rad": "rad", "rads": "rad/s", "rad_s": "rad/s", "deg": "deg", "nm": "N m", "n_m": "N m", "m": "m", "mm": "mm",
    "cm": "cm", "mps": "m/s", "m_s": "m/s", "n": "N", "v": "V", "a": "A", "c": "degC", "degc": "degC", "s": "s",
    "pa": "Pa", "bar": "bar", "hz": "Hz", "kg": "kg", "w": "W", "rpm": "rpm", "m_s2": "m/s^2", "pct": "%",
}  # fmt: skip
IN_BRACKETS = re.compile(r"^(.*\S)\s*[\[(]([^\])\d][^\])]*)[\])]$")  # torque [Nm]
SHOWN = 400  # dimensions that a map lists


def first_map(recording: Table | Streams, file: str) -> str:
    """TOML: a map to correct. Lines with `guess` are guessed from names or ranges."""
    columns = dict(recording.columns)
    known = dict(recording.known) if isinstance(recording, Table) else {}
    numbers = {name: column for name, column in columns.items() if column.dtype.kind in "fiub"}
    roles = _roles(numbers, columns, known)
    lines = [
        f"# A first map of {file}. Correct it, above all what is marked as a guess, then:",
        f"#   zoo data import {file} OUT.hdf5 --map map.toml",
        f"# {_size(recording)}",
        "",
    ]
    rate = known.get("control_rate_hz") or _rate(recording, roles)
    if rate is not None:
        mark = "" if "control_rate_hz" in known else "  # guess: from the times"
        lines.append(f"control_rate_hz = {float(f'{rate:.4g}')!r}{mark}")
    else:
        lines.append("# control_rate_hz = 20.0  # rows a second")
    if isinstance(recording, Streams):
        lines += _ticks(roles, recording)
    lines += _line("time", roles["time"], known, "# time = ...  # a column of seconds")
    lines += _line("episode", roles["episode"], known, 'episode = "file"  # guess: every file is one episode')
    lines += _line("reward", roles["reward"], known, _todo_reward(columns))
    lines += _line("terminated", roles["terminated"], known, _todo_terminated(columns))
    lines += _line("truncated", roles["truncated"], known, "")
    lines += ['# outcome = "next row"  # where reward and flags stand in the row after the action, as dm_env has it']
    for kind in ("observations", "actions"):
        lines += ["", f"{kind} = [" + ("  # guess: by their names" if kind not in known else "")]
        lines += [_entry(kind, name, columns) for name in roles[kind][:SHOWN]]
        lines += ["]"]
    unused = [name for name in columns if name not in _used(roles)]
    if unused:
        lines += ["", "# Columns that are not used: " + ", ".join(unused[:60])]
    return "\n".join(lines) + "\n"


def _size(recording: Table | Streams) -> str:
    if isinstance(recording, Table):
        return f"{len(recording):,} rows, {len(recording.columns)} columns."
    topics = ", ".join(f"{name} ({len(topic.times):,} messages)" for name, topic in recording.topics.items())
    return f"Topics: {topics}."


def _roles(numbers: Mapping[str, Array], columns: Mapping[str, Array], known: Mapping[str, Any]) -> dict[str, Any]:
    lower = {name: name.lower() for name in columns}
    roles: dict[str, Any] = {}
    flags = {name: column for name, column in numbers.items() if _is_flag(column)}
    for key, pattern, among in (
        ("time", TIME, numbers),
        ("episode", EPISODE, columns),
        ("reward", REWARD, numbers),
        ("truncated", TRUNCATED, flags),
        ("terminated", TERMINATED, flags),
    ):
        taken = {roles[other] for other in roles}
        found = [name for name in among if pattern.search(lower[name]) and name not in taken]
        roles[key] = known.get(key) or (found[0] if found else None)
        if key == "terminated" and len(found) > 1 and key not in known:
            roles[key] = " | ".join(name if name.isidentifier() else f"`{name}`" for name in found)
    used = {name for key in roles if roles[key] for name in names_in(roles[key], columns)}
    free = [name for name in numbers if name not in used and not COUNTER.search(lower[name])]
    free = [name for name in free if not (name.endswith("header.stamp") or TIME.search(lower[name]))]
    actions = [name for name in free if ACTION.search(lower[name])] or [n for n in free if MOVING.search(lower[n])]
    roles["actions"] = _columns(known.get("actions")) or actions
    observations = [name for name in free if name not in roles["actions"] and not _is_label(lower[name])]
    roles["observations"] = _columns(known.get("observations")) or observations
    return roles


def _columns(entries: Any) -> list[str]:
    return [entry if isinstance(entry, str) else entry.get("column") or entry["name"] for entry in entries or ()]


def _is_flag(column: Array) -> bool:
    return column.dtype.kind == "b" or bool(np.isin(column[np.isfinite(column)], (0, 1)).all())


def _is_label(name: str) -> bool:
    return any(pattern.search(name) for pattern in (REWARD, TERMINATED, TRUNCATED, EPISODE)) or name in (
        "done", "dones", "masks", "discount",
    )  # fmt: skip


def _used(roles: Mapping[str, Any]) -> set[str]:
    used = {*roles["observations"], *roles["actions"]}
    for key in ("time", "episode", "reward", "terminated", "truncated"):
        used |= set(re.findall(r"`([^`]+)`|([A-Za-z_]\w*)", roles[key] or "") and [roles[key]])
    return used


def _rate(recording: Table | Streams, roles: Mapping[str, Any]) -> float | None:
    if isinstance(recording, Streams):
        topic = _action_topic(roles, recording)
        times = recording.topics[topic].times if topic else np.zeros(0)
    elif roles["time"] in recording.columns:
        times = np.asarray(recording.columns[roles["time"]], np.float64)
    else:
        return None
    steps = np.diff(times)
    steps = steps[steps > 0]
    return 1.0 / float(np.median(steps)) if len(steps) else None


def _action_topic(roles: Mapping[str, Any], recording: Streams) -> str | None:
    topics = [topic for topic in recording.topics for name in roles["actions"] if name.startswith(f"{topic}.")]
    return topics[0] if topics else None


def _ticks(roles: Mapping[str, Any], recording: Streams) -> list[str]:
    topic = _action_topic(roles, recording)
    lines = ["# Rows are the messages of the topic tick, or without it the ticks of a clock of control_rate_hz."]
    return [*lines, f"tick = {_text(topic)}  # guess: a row for each command" if topic else '# tick = "/command"']


def _line(key: str, value: str | None, known: Mapping[str, Any], missing: str) -> list[str]:
    if value is None:
        return [missing] if missing else []
    return [f"{key} = {_text(value)}" + ("" if key in known else "  # guess: by its name")]


def _todo_reward(columns: Mapping[str, Array]) -> str:
    return '# reward = ...  # needed: a column, an expression such as "10 * success - 0.05", or "module:function"'


def _todo_terminated(columns: Mapping[str, Array]) -> str:
    unclear = [name for name in columns if name in ("done", "dones", "next.done", "masks", "discount")]
    hint = f"; {', '.join(unclear)} may mix failures with time limits" if unclear else ""
    return f'# terminated = ...  # needed: "failed | success", or false if nothing ever fails or finishes{hint}'


def _entry(kind: str, name: str, columns: Mapping[str, Array]) -> str:
    column = np.asarray(columns[name], np.float64) if name in columns else np.zeros(0)
    finite = column[np.isfinite(column)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    label, unit = _unit(name)
    parts = [f"name = {_text(label)}"] + ([f"column = {_text(name)}"] if label != name else [])
    marks = []
    if unit:
        parts.append(f"unit = {_text(unit)}")
        marks.append("unit: guess")
    if kind == "actions":
        low_guess, high_guess = (-1.0, 1.0) if low >= -1 and high <= 1 else (_outward(low, -1), _outward(high, 1))
        if low_guess == high_guess:
            low_guess, high_guess = low_guess - 1, high_guess + 1
        parts += [f"low = {low_guess!r}", f"high = {high_guess!r}"]
        marks.append("limits: guess, state the robot's own")
    constant = ", constant" if len(finite) and low == high else ""
    marks.append(f"data {low:.4g} to {high:.4g}{constant}")
    return f"  {{{', '.join(parts)}}},  # {'; '.join(marks)}"


def _unit(name: str) -> tuple[str, str | None]:
    """Name and unit of "torque [Nm]", "q1_rad"; None where the name has none."""
    if match := IN_BRACKETS.match(name):
        if match.group(2).lower().replace(" ", "_").replace("/", "_") in UNITS or "/" in match.group(2):
            return match.group(1), UNITS.get(match.group(2).lower().replace("/", "_"), match.group(2))
        return name, None
    for length in (2, 1):
        parts = name.lower().split("_")
        if len(parts) > length and (unit := UNITS.get("_".join(parts[-length:]))):
            return name, unit
    return name, None


def _outward(value: float, direction: int) -> float:
    """Two digits, away from zero's side of the data."""
    if value == 0.0:
        return 0.0
    step = 10.0 ** (np.floor(np.log10(abs(value))) - 1)
    return float(f"{(np.ceil(value / step) if direction > 0 else np.floor(value / step)) * step:.6g}")


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

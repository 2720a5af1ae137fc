"""Topics with rates of their own as rows at the control rate.

The rule: a row holds, of every topic, the latest message at or before its tick. It never looks ahead. Ticks are the
messages of the topic `tick`, most often the commands, so that a row pairs a command with what was known when it was
given; or without `tick` a clock of control_rate_hz, which starts when every observation and action has been heard.
A row of a clock holds the command that was in force when it ticked. Reward and flags that were not heard yet are 0.
"""

from __future__ import annotations

import numpy as np

from zoo.datasets.checks import Array, DatasetKeyError, DatasetValueError
from zoo.datasets.mapping.expression import names_in
from zoo.datasets.mapping.logmap import LogMap
from zoo.datasets.table import Streams, Table

HEADER = "header.stamp"
OLD = 5.0  # a value older than this many periods of its own topic is told


def resample(streams: Streams, log_map: LogMap) -> Table:
    """The recording as a table; column time_s: seconds of the ticks, from the recording's own clock.

    Raises DatasetKeyError for an unknown tick, DatasetValueError where no rate is known or no tick has all topics.
    """
    columns = streams.columns
    owner = {
        name: topic for topic, stream in streams.topics.items() for name in (f"{topic}.{f}" for f in stream.fields)
    }
    entries = (*log_map.observations, *log_map.actions)
    wide = {
        name for entry in entries for name in names_in(str(entry.get("column") or entry.get("name") or ""), columns)
    }
    if not wide:
        raise DatasetKeyError(f"{streams.name}: the map names no field of it; there are {', '.join(columns)}.")
    used = wide | {name for text in log_map.expressions for name in names_in(text, columns)}
    times = {topic: _times(streams, topic, log_map.clock) for topic in {owner[name] for name in used}}
    needed = {owner[name] for name in wide}
    start = max(times[topic][0] for topic in needed)
    stop = min(times[topic][-1] for topic in needed)
    ticks = _ticks(streams, log_map, start, stop)
    notes = []
    taken = {}
    for topic, stamps in times.items():
        latest = np.searchsorted(stamps, ticks, side="right") - 1  # (rows,); -1: not heard yet
        period = np.median(np.diff(stamps)) if len(stamps) > 1 else np.inf
        old = np.count_nonzero(ticks - stamps[np.maximum(latest, 0)] > OLD * period)
        if topic in needed and old:
            notes.append(f"{topic}: {old} of {len(ticks)} rows hold a message older than {OLD:g} of its periods")
        for name in used:
            if owner[name] == topic:
                values = columns[name][np.maximum(latest, 0)]
                taken[name] = values if topic in needed or values.dtype.kind not in "fiub" else values * (latest >= 0)
    return Table(
        streams.name,
        {"time_s": ticks - ticks[0], **taken},
        np.zeros(len(ticks), np.int64),
        known={"time": "time_s"},
        provenance=streams.provenance,
        notes=tuple(notes),
    )


def _ticks(streams: Streams, log_map: LogMap, start: float, stop: float) -> Array:
    if log_map.tick is not None:
        if log_map.tick not in streams.topics:
            raise DatasetKeyError(
                f"{streams.name} has no topic {log_map.tick!r} to tick by; there are {', '.join(streams.topics)}."
            )
        ticks = _times(streams, log_map.tick, log_map.clock)
        ticks = ticks[(ticks >= start) & (ticks <= stop)]
    elif log_map.control_rate_hz is not None:
        # Half a nanosecond of room, for stamps that are whole nanoseconds.
        ticks = start + np.arange(int((stop - start) * log_map.control_rate_hz + 1e-6) + 1) / log_map.control_rate_hz
        ticks = ticks + 5e-10
    else:
        raise DatasetValueError(
            f"{streams.name} has topics with rates of their own: state control_rate_hz, or tick, the topic whose "
            "messages are the rows, in the map."
        )
    if len(ticks) == 0:
        raise DatasetValueError(
            f"{streams.name}: there is no time at which every observation and action has been heard. Look at the "
            "topics' times, or leave one out of the map."
        )
    return ticks


def _times(streams: Streams, topic: str, clock: str) -> Array:
    stream = streams.topics[topic]
    times = stream.fields.get(HEADER, stream.times) if clock == "header" else stream.times
    return np.maximum.accumulate(times)

"""Messages of ROS as columns: the numbers of each topic, and the times at which they were logged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.table import Streams, Topic

WIDEST = 512  # numbers of an array that is a vector and no image or point cloud


class TopicBuilder:
    """Collects the messages of one topic. Fields are those of the first message, nested ones with dots.

    An array beside an array `name` of the same length, as in sensor_msgs/JointState, is taken by those names, in
    whatever order a message has them.
    """

    def __init__(self, name: str):
        self.name = name
        self.stamps: list[int] = []
        self.rows: list[list[float | str]] = []
        self.fields: list[str] = []

    def add(self, stamp_ns: int, message: Any) -> None:
        row = dict(_leaves(message))
        if not self.rows:
            self.fields = list(row)
        try:
            values = [row[field] for field in self.fields]
        except KeyError as error:
            raise DatasetValueError(
                f"{self.name}: message {len(self.rows)} lacks {error.args[0]}, which the first has. Topics whose "
                "messages change their size cannot be read as columns: leave the topic out."
            ) from error
        self.stamps.append(stamp_ns)
        self.rows.append(values)

    def topic(self, start_ns: int) -> Topic:
        """Times in seconds from start_ns."""
        order = np.argsort(self.stamps, kind="stable")
        times = (np.array(self.stamps, np.int64)[order] - start_ns) / 1e9
        fields: dict[str, Array] = {}
        for name, values in zip(self.fields, zip(*self.rows, strict=True), strict=True):
            column = np.array(values)[order]
            if name.endswith("header.stamp") and column.dtype.kind == "i":
                column = (column - start_ns) / 1e9
            fields[name] = column
        return Topic(times, fields)


def streams_of(path: Path, builders: dict[str, TopicBuilder]) -> Streams:
    """The topics that have numbers. Raises DatasetValueError where there are none."""
    builders = {name: builder for name, builder in builders.items() if builder.fields}
    if not builders:
        raise DatasetValueError(f"{path.name} holds no topic with numbers that can be decoded.")
    start = min(min(builder.stamps) for builder in builders.values())
    topics = {name: builder.topic(start) for name, builder in sorted(builders.items())}
    return Streams(path.stem, topics, {"file": path.name, "starts_at_unix_s": start / 1e9})


def _leaves(message: Any, prefix: str = "") -> Iterable[tuple[str, float | str]]:
    """Every number and text of a message by its name."""
    slots = [slot.lstrip("_") for slot in getattr(message, "__slots__", None) or vars(message) if slot != "__msgtype__"]
    names = getattr(message, "name", None)
    for slot in slots:
        value = getattr(message, slot)
        label = f"{prefix}{slot}"
        if isinstance(value, bool | int | float | str | np.number | np.bool_):
            yield label, value.item() if isinstance(value, np.generic) else value
        elif (seconds := getattr(value, "sec", None)) is not None and hasattr(value, "nanosec"):
            yield label, int(seconds) * 10**9 + int(value.nanosec)
        elif isinstance(value, list | tuple | np.ndarray):
            if len(value) == 0 or len(value) > WIDEST or not isinstance(value[0], bool | int | float | np.number):
                continue
            parts = names if isinstance(names, list) and len(names) == len(value) else range(len(value))
            for part, item in zip(parts, value, strict=True):
                yield f"{label}[{part}]", float(item)
        elif hasattr(value, "__slots__") or hasattr(value, "__dict__"):
            yield from _leaves(value, f"{label}.")

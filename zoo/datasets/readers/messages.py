"""Messages of ROS as columns: the numbers of each topic, and the times at which they were logged."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.datasets.checks import Array, DatasetValueError
from zoo.datasets.table import Streams, Topic

WIDEST = 512  # numbers of an array that is a vector and no image or point cloud


@dataclass(frozen=True)
class Leaf:
    """A field of a topic's messages that holds numbers or a text.

    path: attributes that lead to it. kind: a number, a text, a time stamp, or an array of `parts`. named: whether the
    parts are those of the array `name` beside it, as in sensor_msgs/JointState, in any order.
    """

    path: tuple[str, ...]
    kind: Literal["number", "text", "stamp", "array"]
    parts: tuple[Any, ...] = ()
    named: bool = False

    @property
    def columns(self) -> list[str]:
        label = ".".join(self.path)
        return [f"{label}[{part}]" for part in self.parts] if self.kind == "array" else [label]


class TopicBuilder:
    """Collects the messages of one topic. Fields are those of the first message, nested ones with dots."""

    def __init__(self, name: str):
        self.name = name
        self.stamps = array("q")
        self.numbers = array("d")  # of all messages, one after another: 8 bytes each
        self.texts: list[str] = []
        self.leaves: list[Leaf] = []

    def add(self, stamp_ns: int, message: Any) -> None:
        """Raises DatasetValueError for a message whose arrays have another size than the first one's."""
        if not self.stamps:
            self.leaves = list(_leaves(message))
        self.stamps.append(stamp_ns)
        for leaf in self.leaves:
            owner = message
            for attribute in leaf.path[:-1]:
                owner = getattr(owner, attribute)
            value = getattr(owner, leaf.path[-1])
            if leaf.kind == "number":
                self.numbers.append(value)
            elif leaf.kind == "text":
                self.texts.append(value)
            elif leaf.kind == "stamp":  # since the first: nanoseconds since 1970 are too many for a float
                self.numbers.append((value.sec * 10**9 + int(value.nanosec) - self.stamps[0]) / 1e9)
            else:
                self.numbers.extend(self._array(leaf, value, owner))

    def _array(self, leaf: Leaf, value: Any, owner: Any) -> Any:
        names = tuple(owner.name) if leaf.named else leaf.parts
        if len(value) != len(leaf.parts) or (names != leaf.parts and set(names) != set(leaf.parts)):
            raise DatasetValueError(
                f"{self.name}: message {len(self.stamps) - 1} has {len(value)} numbers in {'.'.join(leaf.path)}, the "
                f"first {len(leaf.parts)}, or other names. Topics whose messages change their size are no columns."
            )
        if names == leaf.parts:
            return value
        place = {name: i for i, name in enumerate(names)}
        return [value[place[part]] for part in leaf.parts]

    def topic(self, start_ns: int) -> Topic:
        """Times in seconds from start_ns."""
        stamps = np.frombuffer(self.stamps, np.int64)
        order = np.argsort(stamps, kind="stable")
        numbers = np.frombuffer(self.numbers).reshape(len(stamps), -1)
        texts = np.array(self.texts, dtype=np.str_).reshape(len(stamps), -1)
        fields: dict[str, Array] = {}
        at = {True: 0, False: 0}  # how many texts and numbers are given away
        for leaf in self.leaves:
            wide = texts if leaf.kind == "text" else numbers
            for column in leaf.columns:
                values = wide[:, at[leaf.kind == "text"]][order]
                fields[column] = values + (stamps[0] - start_ns) / 1e9 if leaf.kind == "stamp" else values
                at[leaf.kind == "text"] += 1
        return Topic((stamps[order] - start_ns) / 1e9, fields)


def streams_of(path: Path, builders: dict[str, TopicBuilder]) -> Streams:
    """The topics that have numbers. Raises DatasetValueError where there are none."""
    builders = {name: builder for name, builder in builders.items() if builder.leaves}
    if not builders:
        raise DatasetValueError(f"{path.name} holds no topic with numbers that can be decoded.")
    start = min(min(builder.stamps) for builder in builders.values())
    topics = {name: builder.topic(start) for name, builder in sorted(builders.items())}
    return Streams(path.stem, topics, {"file": path.name, "starts_at_unix_s": start / 1e9})


def _leaves(message: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every number and text of a message."""
    slots = [slot.lstrip("_") for slot in getattr(message, "__slots__", None) or vars(message) if slot != "__msgtype__"]
    names = getattr(message, "name", None)
    for slot in slots:
        value, place = getattr(message, slot), (*path, slot)
        if isinstance(value, bool | int | float | np.number | np.bool_):
            yield Leaf(place, "number")
        elif isinstance(value, str):
            yield Leaf(place, "text")
        elif hasattr(value, "sec") and hasattr(value, "nanosec"):
            yield Leaf(place, "stamp")
        elif isinstance(value, list | tuple | np.ndarray):
            if 0 < len(value) <= WIDEST and isinstance(value[0], bool | int | float | np.number):
                named = isinstance(names, list) and len(names) == len(value)
                yield Leaf(place, "array", tuple(names) if named and names else tuple(range(len(value))), named)
        elif hasattr(value, "__slots__") or hasattr(value, "__dict__"):
            yield from _leaves(value, place)

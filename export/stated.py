"""What a person states of a robot: names, units, ranges and the control rate. A TOML file, or a mapping of its shape:

    control_rate_hz = 125.0
    observations = [{name = "height of the torso", unit = "m", low = 0.0, high = 2.0, group = "true state"}, {}, {}]
    actions = [{name = "torque of the hip", unit = "N m", low = -1.0, high = 1.0}]

Everything may be left out; a list has one entry, maybe empty, for each dimension. A group is what several dimensions
have in common, such as the sensor that they come from.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEYS = ("control_rate_hz", "observations", "actions")
DIMENSION = ("name", "unit", "low", "high", "group")

Dimension = dict[str, Any]  # name: str or None, unit: str, low and high: float or None; group: str, where there is one
Stated = str | os.PathLike | Mapping[str, Any]


class ContractError(ValueError):
    """What was stated of a robot cannot be so; the message says where, and what was expected."""


def read_stated(stated: Stated | None) -> tuple[str, dict[str, Any]]:
    """What errors call it, and its values. Raises FileNotFoundError, or ContractError for other keys."""
    if stated is None or isinstance(stated, Mapping):
        owner, values = "contract", dict(stated or {})
    else:
        path = Path(stated)
        if not path.is_file():
            raise FileNotFoundError(f"no contract at {path}; give a TOML file with {', '.join(KEYS)}")
        try:
            owner, values = str(path), tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ContractError(f"{path} is not a TOML file: {error}") from error
    if unknown := sorted(set(values) - set(KEYS)):
        raise ContractError(f"{owner}: unknown {', '.join(unknown)}; it may state {', '.join(KEYS)}")
    return owner, values


def complete(owner: str, values: Mapping[str, Any], observations: int, actions: int) -> dict[str, Any]:
    """All three keys, with an entry for each of so many observations and actions. Raises ContractError."""
    rate = values.get("control_rate_hz")
    if rate is not None and not (is_number(rate) and rate > 0):
        raise ContractError(f"{owner}: control_rate_hz must be a positive number of Hz, got {rate!r}")
    return {
        "control_rate_hz": rate,
        "observations": dimensions(owner, "observations", values.get("observations"), observations),
        "actions": dimensions(owner, "actions", values.get("actions"), actions),
    }


def overridden(by_data: Mapping[str, Any], by_person: Mapping[str, Any]) -> dict[str, Any]:
    """Two complete statements as one: what the person left open is taken from the data."""

    def both(data: Dimension, person: Dimension) -> Dimension:
        whole = {**data, **{key: value for key, value in person.items() if value not in (None, "unknown")}}
        return {key: whole[key] for key in DIMENSION if key in whole}

    rate = by_person["control_rate_hz"]
    return {
        "control_rate_hz": by_data["control_rate_hz"] if rate is None else rate,
        **{
            kind: [both(*pair) for pair in zip(by_data[kind], by_person[kind], strict=True)]
            for kind in ("observations", "actions")
        },
    }


def dimensions(owner: str, name: str, entries: Any, size: int) -> list[Dimension]:
    """One complete entry for each dimension, in the order of the vector; what is not stated is None or "unknown"."""
    if entries is None:
        entries = [{}] * size
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ContractError(f"{owner}: {name} must be a list of tables, one for each dimension, got {entries!r}")
    if len(entries) != size:
        raise ContractError(
            f"{owner}: {name} has {len(entries)} entries for the agent's {size} dimensions; {{}} is an unknown one"
        )
    filled = []
    for index, entry in enumerate(entries):
        label = f"{owner}: {name}[{index}]"
        if unknown := sorted(set(entry) - set(DIMENSION)):
            raise ContractError(f"{label} has unknown {', '.join(unknown)}; it may have {', '.join(DIMENSION)}")
        for key in ("name", "unit", "group"):
            if not isinstance(entry.get(key, "-"), str) or not entry.get(key, "-").strip():
                raise ContractError(f"{label}: {key} must be a text, got {entry[key]!r}; leave it out where unknown")
        for key in ("low", "high"):
            if key in entry and not is_number(entry[key]):
                raise ContractError(f"{label}: {key} must be a finite number, got {entry[key]!r}; leave it out if none")
        low, high = entry.get("low"), entry.get("high")
        if low is not None and high is not None and not low < high:
            raise ContractError(f"{label}: low must be below high, got low={low}, high={high}")
        group = {"group": entry["group"]} if "group" in entry else {}  # older readers know no groups
        filled.append(
            {"name": entry.get("name"), "unit": entry.get("unit", "unknown"), "low": low, "high": high, **group}
        )
    names = [entry["name"] for entry in filled if entry["name"] is not None]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise ContractError(f"{owner}: {name} has two dimensions of the name {twice[0]!r}; give each its own")
    return filled


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

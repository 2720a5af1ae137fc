"""What became slower between two files of speed.py.

    python benchmarks/comparison.py OLD.json NEW.json

Ratios are compared, not milliseconds, so that a busy machine does not matter: to the floor, and for the agents without
one to a TD3BC of the same networks. A case counts as slower where the quartiles of its rounds lie wholly above the old
ones and the median has moved by more than two runs of the same code differ. The exit status is 1 if any is slower, 2 if
the files cannot be compared.
"""

import argparse
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

SAME_CODE = 0.1  # by how much the ratios of two runs of the same code differ: each process lays out its memory anew


class NotComparableError(ValueError):
    """Two files that say nothing about each other; the message says why and what to do."""


def read(path: Path) -> dict[str, Any]:
    """A file of speed.py. Raises NotComparableError where it is none."""
    try:
        content = json.loads(path.read_text())
        for row in content["rows"]:
            yardstick(row)
        return {"machine": dict(content["machine"]), "rows": list(content["rows"])}
    except FileNotFoundError:
        raise NotComparableError(f"{path} does not exist; speed.py --json {path} writes it") from None
    except (KeyError, TypeError, ValueError) as error:
        raise NotComparableError(
            f"{path} is no file of this speed.py ({type(error).__name__}: {error}): measure it again with --json"
        ) from error


def yardstick(row: dict[str, Any]) -> dict[str, float]:
    """What a case is compared by: its ratio to the floor, or to TD3BC."""
    return {key: float(row["floor" if "floor" in row else "TD3BC"][key]) for key in ("ratio", "q1", "q3")}


def check(old: dict[str, Any], machine: dict[str, Any], cases: Collection[str]) -> None:
    """Raises NotComparableError, with both sides, where an old file is of another machine or of other cases."""
    then = old["machine"]
    differing = [key for key in sorted(then.keys() | machine.keys()) if then.get(key) != machine.get(key)]
    if differing:
        sides = "; ".join(f"{key} {then.get(key)!r} then, {machine.get(key)!r} now" for key in differing)
        raise NotComparableError(f"measured on different machines ({sides}): measure the old code again on this one")
    before, now = {row["agent"] for row in old["rows"]}, set(cases)
    if before != now:
        raise NotComparableError(
            f"other cases: only in the old file {sorted(before - now)}, only in the new one {sorted(now - before)}: "
            "measure the same ones with --only"
        )


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """A line for each case, and the names of those that became slower. Raises NotComparableError."""
    before, after = ({row["agent"]: yardstick(row) for row in side["rows"]} for side in (old, new))
    check(old, new["machine"], after)
    lines, slower = [], []
    for name, now in after.items():
        verdict = judge(before[name], now)
        change = now["ratio"] / before[name]["ratio"] - 1.0
        lines.append(f"{name:<18} {before[name]['ratio']:6.2f} x -> {now['ratio']:6.2f} x  {change:+7.1%}  {verdict}")
        if verdict == "slower":
            slower.append(name)
    return lines, slower


def judge(before: dict[str, float], now: dict[str, float]) -> str:
    """slower, faster or same."""
    if now["q1"] > before["q3"] and now["ratio"] > before["ratio"] * (1.0 + SAME_CODE):
        return "slower"
    if now["q3"] < before["q1"] and now["ratio"] < before["ratio"] / (1.0 + SAME_CODE):
        return "faster"
    return "same"


def report(old: dict[str, Any], new: dict[str, Any]) -> int:
    """Prints the comparison and returns the exit status."""
    lines, slower = compare(old, new)
    print(*lines, sep="\n")
    print(f"slower: {', '.join(slower)}" if slower else "nothing is slower")
    return 1 if slower else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args(arguments)
    try:
        return report(read(options.old), read(options.new))
    except NotComparableError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

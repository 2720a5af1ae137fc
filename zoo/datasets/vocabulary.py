"""The names that a file may give its columns: ours, D4RL's, and the common short forms. One list for every reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zoo.datasets.checks import DatasetKeyError

NAMES = {
    "observations": ("observations", "observation", "obs"),
    "actions": ("actions", "action"),
    "rewards": ("rewards", "reward"),
    "next_observations": ("next_observations", "next_observation", "next_obs"),
    "terminations": ("terminations", "terminals", "terminated", "terminal"),
    "truncations": ("truncations", "timeouts", "truncated", "timeout"),
    "episode_ids": ("episode_ids", "episode_id", "episode_index", "episode"),
}
NEEDED = ("observations", "actions", "rewards", "terminations")
UNCLEAR = ("done", "dones", "masks", "discount", "discounts")  # mix failures with time limits

ALL_NAMES = frozenset(name for names in NAMES.values() for name in names)
_OURS = {name: ours for ours, names in NAMES.items() for name in names}


def our_names(owner: str, keys: Iterable[str]) -> dict[str, str]:
    """Our name of each column -> its key in the file; other keys are left out.

    Raises DatasetKeyError where two keys are the same column.
    """
    found: dict[str, str] = {}
    for key in keys:
        ours = _OURS.get(key)
        if ours in found:
            raise DatasetKeyError(
                f"{owner}: {found[ours]} and {key} name a column twice: both are {ours}. Keep one of each pair."
            )
        if ours is not None:
            found[ours] = key
    return {ours: found[ours] for ours in NAMES if ours in found}


def check_needed(owner: str, found: Mapping[str, object], keys: Iterable[str], limit_known: bool = False) -> None:
    """Refuses columns that do not say what every transition and every episode's end is.

    found: our names that are there. keys: all that the file has, for the message. limit_known: whether a time limit was
    given, so that time-outs can be counted.
    Raises DatasetKeyError with what was found and the option that settles it.
    """
    keys = sorted(keys)
    missing = [name for name in NEEDED if name not in found]
    ends_unknown = not limit_known and "truncations" not in found and "episode_ids" not in found
    if not missing and not ends_unknown:
        return
    lacks = missing + ["truncations"] * ends_unknown
    shown = ", ".join(keys[:30]) + (f" and {len(keys) - 30} more" if len(keys) > 30 else "")
    advice = []
    if unclear := [key for key in keys if key in UNCLEAR and {"terminations", "truncations"} & set(lacks)]:
        advice.append(
            f"{', '.join(unclear)} cannot tell a failure from a time limit, and the values depend on it: store "
            "terminations and truncations."
        )
    if set(missing) - {"terminations"} or (missing and unclear):
        advice.append(
            "A map says which column is which: `zoo data map FILE` writes a first one, `zoo data import FILE OUT "
            "--map map.toml` reads it; in Python load_dataset(FILE, map=...)."
        )
    elif missing:
        advice.append("If nothing ever fails or finishes, a map says so: terminated = false (`zoo data map FILE`).")
    if ends_unknown and not unclear:
        advice.append(
            "Where episodes end by a time limit cannot be told: store truncations (or timeouts), or episode_ids; or "
            "say the limit: zoo data import FILE OUT --max-episode-steps N, in Python max_episode_steps=N."
        )
    names = ", ".join(f"{name} ({' or '.join(NAMES[name][1:3])})" for name in lacks)
    raise DatasetKeyError(f"{owner} lacks {names}; it has {shown or 'nothing'}. {' '.join(advice)}")

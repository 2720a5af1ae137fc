"""Which columns of the observations an actor may see, by the names and groups that the data state."""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.agents.core.spec import DataSpec


def actor_columns(spec: DataSpec, wanted: Sequence[str]) -> tuple[int, ...] | None:
    """The columns of the wanted names and groups, in the order of the observation; None where all are wanted.

    A dimension without a name is called observations[i]. Raises ValueError for what is neither a name nor a group.
    """
    if not wanted:
        return None
    entries: Sequence[Mapping[str, Any]] = spec.stated.get("observations") or [{}] * spec.sent_size
    names = [entry.get("name") or f"observations[{i}]" for i, entry in enumerate(entries)]
    groups = [entry.get("group") for entry in entries]
    if unknown := [text for text in wanted if text not in names and text not in groups]:
        raise ValueError(
            f"actor_observations has {', '.join(unknown)}, which {spec.name} does not state; its groups are "
            f"{', '.join(dict.fromkeys(filter(None, groups))) or 'none'}, its names {', '.join(names[:40])}"
        )
    columns = tuple(i for i in range(len(names)) if names[i] in wanted or groups[i] in wanted)
    return None if len(columns) == spec.sent_size else columns

"""The data of an earlier training: found again by where they lay, and compared with what they were."""

import math
from pathlib import Path
from typing import Any

from zoo.agents.core.spec import DataSpec
from zoo.datasets.checks import DatasetValueError
from zoo.datasets.dataset import EMBEDDED, OfflineDataset
from zoo.datasets.load import open_dataset
from zoo.datasets.packed import MEMORY, PackedDataset
from zoo.datasets.readers import d4rl

FACTS = ("transitions", "observation_size", "action_low", "action_high", "reward_min", "reward_mean")


def reopen(
    spec: DataSpec, checkpoint: Path, other: str | None = None, memory: int = MEMORY
) -> OfflineDataset | PackedDataset:
    """The dataset that an agent was trained on, by default from where it lay then.

    other: another place of it, or other data on purpose; what differs is then said, not refused.
    Raises DatasetValueError where it is not known, not there, or no longer the same.
    """
    dataset = open_dataset(other or place_of(spec, checkpoint), memory)
    if found := differences(spec, dataset):
        place = dataset.provenance.get("path", dataset.name)
        what = f"{place} is not what {checkpoint} was trained on: {'; '.join(found)}"
        if other is None:
            raise DatasetValueError(f"{what}. Give --dataset: the same data in their new place, or others on purpose.")
        print(f"note: {what}")
    return dataset


def place_of(spec: DataSpec, checkpoint: Path) -> str:
    """The name or path of the data that an agent was trained on.

    Checkpoints of earlier versions know a name alone: an embedded set or a D4RL id may be meant, a file may not.
    Raises DatasetValueError where it is not known.
    """
    provenance = spec.provenance
    if "source" in provenance:
        return str(provenance["source"])
    if "path" in provenance:
        if not Path(str(provenance["path"])).exists():
            raise DatasetValueError(
                f"{checkpoint} was trained on {provenance['path']}, which is not there; give --dataset, its new place."
            )
        return str(provenance["path"])
    if spec.name in EMBEDDED or spec.name in d4rl.CATALOG:
        return spec.name
    raise DatasetValueError(
        f"{checkpoint} does not say where its data {spec.name!r} lie (they were arrays in memory, or an earlier "
        "version wrote it); give --dataset, their path."
    )


def differences(spec: DataSpec, dataset: OfflineDataset | PackedDataset) -> list[str]:
    """What tells a dataset from the one that an agent was trained on, one line each; empty where they are the same."""
    now = DataSpec.of(dataset)
    was, is_ = spec.provenance.get("sha256"), now.provenance.get("sha256")
    if was is not None and was == is_:
        return []
    found = [f"{name}: was {_shown(getattr(spec, name))}, is {_shown(getattr(now, name))}" for name in FACTS
             if not _same(getattr(spec, name), getattr(now, name))]  # fmt: skip
    if was is not None and is_ is not None:
        found.append(f"SHA-256 of the content: was {was[:12]}..., is {is_[:12]}...")
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

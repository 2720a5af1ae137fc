"""MOOD's datasets: subsampled recordings, every task's reward from the recorded physics, merged for each target.

A recording is a file of mood/collect.py, one for each objective and seed. A base set is one objective's seeds,
subsampled by whole episodes, with the rewards of all tasks. A set joins base sets and rewards them for one target:
same (the target's own), from-<objective> (another's), mixed (all of the domain, exploration included).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from zoo.collecting.mood.rewards import TARGETS, check_domain, env_id, load, reward_functions
from zoo.collecting.recording import (
    as_rows,
    episode_lengths,
    is_made,
    read_about,
    read_bounds,
    read_episodes,
    write_hdf5,
)
from zoo.datasets.checks import Array, DatasetKeyError, DatasetValueError

EXPLORATION = "rnd"
TOLERANCE = 1e-6  # between a reward logged at collection and the same one from the recorded state
COLUMNS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
KINDS = ("same", "cross", "mixed")


def objectives_of(domain: str) -> tuple[str, ...]:
    """What data of a domain is collected for: its tasks, then exploration, which fails on humanoid and is not there."""
    check_domain(domain)
    return (*TARGETS[domain], *(() if domain == "humanoid" else (EXPLORATION,)))


def recording(folder: Path, domain: str, objective: str, seed: int) -> Path:
    return folder / "recordings" / f"{domain}-{objective}-seed{seed}.hdf5"


class Relabel:
    """The rewards of all tasks of a domain, from rows with the physics state: Relabel("walker")(rows)["spin"], (T,).

    rows: need infos/next_qpos, infos/next_qvel and infos/ctrl, in float64, and infos/next_act where there are muscles
    or filters. The control is restored too: without it every humanoid reward is up to a quarter too high.
    Raises DatasetKeyError for rows without them.
    """

    def __init__(self, domain: str):
        self.physics = load(domain).physics
        self.rewards = reward_functions(domain)
        self.needed = ["infos/next_qpos", "infos/next_qvel", "infos/ctrl"]
        if self.physics.model.na:
            self.needed.append("infos/next_act")

    def __call__(self, rows: Array) -> dict[str, Array]:
        missing = [name for name in self.needed if name not in (rows.dtype.names or ())]
        if missing:
            raise DatasetKeyError(
                f"relabelling needs {', '.join(missing)}: record with zoo data mood or zoo data collect"
            )
        out = {task: np.empty(len(rows)) for task in self.rewards}
        for i, row in enumerate(rows):
            with self.physics.reset_context():
                self.physics.data.qpos[:] = row["infos/next_qpos"]
                self.physics.data.qvel[:] = row["infos/next_qvel"]
                if self.physics.model.na:
                    self.physics.data.act[:] = row["infos/next_act"]
            self.physics.data.ctrl[:] = row["infos/ctrl"]  # after the context, which computes the rest without it
            for task, reward in self.rewards.items():
                out[task][i] = reward(self.physics)
        return out


def check_rewards(name: str, rows: Array, relabelled: dict[str, Array]) -> float:
    """The largest difference from what was logged at collection. Raises DatasetValueError above TOLERANCE."""
    errors = {task: np.abs(rewards - rows[f"infos/reward/{task}"]).max() for task, rewards in relabelled.items()}
    task = max(errors, key=lambda task: errors[task])
    if not errors[task] <= TOLERANCE:
        raise DatasetValueError(
            f"{name}: the reward {task!r} from the recorded state differs by {errors[task]:.1e} from the one logged, "
            f"expected at most {TOLERANCE:g}. Was it made with another dm_control or MuJoCo? Record it again."
        )
    return float(errors[task])


def base_set(folder: Path, domain: str, objective: str, seeds: Sequence[int], keep: float) -> Path:
    """A fraction `keep` of the episodes of all seeds, drawn at random, relabelled for all tasks; made once.

    Raises FileNotFoundError where a recording is missing, DatasetValueError where relabelling does not reproduce what
    was logged, ValueError where the set is there with other settings.
    """
    path = folder / "base" / f"{domain}-{objective}.hdf5"
    about = {"domain": domain, "objective": objective, "keep": keep, "seeds": " ".join(map(str, seeds))}
    if is_made(path, about):
        return path
    if not 0.0 < keep <= 1.0:
        raise ValueError(f"keep must be in (0, 1], got {keep}")
    recordings = [recording(folder, domain, objective, number) for number in seeds]
    missing = [str(file) for file in recordings if not file.exists()]
    if missing:
        raise FileNotFoundError(f"{', '.join(missing)}: not collected yet; zoo data mood collect makes them")
    counts = [len(episode_lengths(file)) for file in recordings]
    order = np.random.default_rng(list(path.stem.encode())).permutation(sum(counts))
    kept = set(order[: max(1, round(keep * sum(counts)))].tolist())
    relabel = Relabel(domain)
    worst = 0.0

    def episodes() -> Iterator[Array]:
        nonlocal worst
        for number, rows in enumerate(chain.from_iterable(map(read_episodes, recordings))):
            if number in kept:
                rewards = relabel(rows)
                worst = max(worst, check_rewards(f"{domain}-{objective}", rows, rewards))
                for task, column in rewards.items():
                    rows[f"infos/reward/{task}"] = column
                yield rows

    write_hdf5(path, episodes(), about | read_bounds(recordings[0]))
    print(f"{path}: {len(kept):,} of {sum(counts):,} episodes; rewards from the physics differ by {worst:.1e} at most")
    return path


def target_set(folder: Path, domain: str, target: str, kind: str, sources: Sequence[str]) -> Path:
    """The base sets of the sources, rewarded for the target. Returns mood-<domain>-<target>-<kind>.hdf5, made once."""
    path = folder / f"mood-{domain}-{target}-{kind}.hdf5"
    bases = [folder / "base" / f"{domain}-{source}.hdf5" for source in sources]
    base = read_about(bases[0])
    about = {
        "env_id": env_id(domain, target),
        "target_return": TARGETS[domain][target],
        "sources": " ".join(sources),
        "keep": base["keep"],
        "seeds": base["seeds"],
    }
    if is_made(path, about):
        return path

    def rewarded(rows: Array) -> Array:
        columns = {name: rows[name] for name in COLUMNS}
        return as_rows(columns | {"rewards": rows[f"infos/reward/{target}"].astype(np.float32)})

    return write_hdf5(
        path, map(rewarded, chain.from_iterable(map(read_episodes, bases))), about | read_bounds(bases[0])
    )


def sets_of(domain: str, target: str, kinds: Sequence[str]) -> dict[str, list[str]]:
    """Name of each set of a target -> the objectives that it is made of."""
    everything = list(objectives_of(domain))
    sets = {"same": [target]} if "same" in kinds else {}
    if "cross" in kinds:
        sets |= {f"from-{source}": [source] for source in everything if source != target}
    if "mixed" in kinds:
        sets["mixed"] = everything
    return sets


def merge(out: Path, domains: Sequence[str], seeds: Sequence[int], keep: float, kinds: Sequence[str]) -> list[Path]:
    """Every set of those kinds, of every target of the domains. What is there already is left as it is."""
    paths = []
    for domain in domains:
        for target in TARGETS[domain]:
            for kind, sources in sets_of(domain, target, kinds).items():
                for source in sources:
                    base_set(out, domain, source, seeds, keep)
                paths.append(target_set(out, domain, target, kind, sources))
    return paths

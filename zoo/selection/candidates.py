"""Candidates: trained agents that one policy is to be chosen from, and what they say of logged data."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.agents import Agent, load
from zoo.agents.core.batch import Batch

CHUNK = 8_192  # rows that an agent is asked about at a time
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """name: of the ranking. agent: one policy, not a population."""

    name: str
    agent: Agent

    def actions(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """What it would do, (N, O) -> (N, A), in the units of the environment, with its own evaluation sampling."""
        return np.concatenate([self.agent.predict(rows)[0] for rows in pieces(observations)])

    @torch.no_grad()
    def q(self, observations: NDArray[Any], actions: NDArray[Any]) -> Array:
        """Its critics' one opinion, (N,), in the units of the data's rewards."""
        policy, kind, device = self.agent.policy, self.agent.dtype, self.agent.device

        def tensor(rows: NDArray[Any]) -> torch.Tensor:
            return torch.tensor(rows, dtype=kind, device=device)

        values = [
            policy.evaluate(tensor(obs), tensor(action)).double().cpu().numpy()
            for obs, action in zip(pieces(observations), pieces(actions), strict=True)
        ]
        scale, shift = self.reward_units()
        return (np.concatenate(values) - shift / (1.0 - self.gamma)) / scale

    @property
    def values(self) -> bool:
        """Whether it learned values; cloning has none."""
        return hasattr(self.agent.config, "gamma")

    @property
    def gamma(self) -> float:
        return float(self.agent.config.gamma)  # type: ignore[attr-defined]

    @torch.no_grad()
    def reward_units(self) -> tuple[float, float]:
        """scale and shift: the agent's update sees scale * reward + shift."""
        rewards = torch.tensor([0.0, 1.0], dtype=self.agent.dtype, device=self.agent.device)
        empty = rewards.new_zeros(2, 0)
        batch = Batch(empty, empty, rewards, empty, torch.zeros_like(rewards))
        shift, sum_of_both = self.agent.scaled_rewards(batch).double().tolist()
        return sum_of_both - shift, shift


def pieces(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def find_candidates(paths: Iterable[Path], device: str = "auto") -> list[Candidate]:
    """Checkpoints, the final ones of run folders, and the members of populations, each a candidate.

    A folder stands for every final.zip below it, or where there is none for every checkpoint in it.
    Raises FileNotFoundError for a path with none, ValueError for agents of different spaces.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(path.rglob("final.zip")) or sorted(path.glob("*.zip"))
            if not found:
                raise FileNotFoundError(f"no checkpoint in {path}: give a .zip file, or the --out of zoo train")
            files += found
        else:
            files.append(path)
    candidates: list[Candidate] = []
    for file in dict.fromkeys(files):
        agent = load(file, device=device)
        members = [agent] if agent.population is None else [agent.member(i) for i in range(agent.population)]
        names = [name_of(file)] if agent.population is None else [f"{name_of(file)}[{i}]" for i in range(len(members))]
        candidates += map(Candidate, names, members)
    check_alike(candidates)
    return candidates


def name_of(file: Path) -> str:
    return str(file.parent if file.name == "final.zip" else file.with_suffix(""))


def check_alike(candidates: Sequence[Candidate]) -> None:
    if len(candidates) < 2:
        raise ValueError(f"choosing needs two candidates or more, got {len(candidates)}")
    first = candidates[0].agent.spec
    for other in candidates[1:]:
        spec = other.agent.spec
        if (spec.observation_size, spec.action_low, spec.action_high) != (
            first.observation_size,
            first.action_low,
            first.action_high,
        ):
            raise ValueError(f"{other.name} has other observations or actions than {candidates[0].name}")


def first_rows(episode_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the rows that begin an episode."""
    return np.flatnonzero(np.diff(episode_ids, prepend=-1))

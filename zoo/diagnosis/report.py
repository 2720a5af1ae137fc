"""Every measure of an agent on its data: numbers, a table and pictures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.agents import BC, Agent
from zoo.datasets.dataset import OfflineDataset
from zoo.diagnosis.importance import Estimate, weighted_importance
from zoo.diagnosis.kernel import similarity
from zoo.diagnosis.neurons import neurons
from zoo.diagnosis.pictures import draw_kernel, draw_landscape
from zoo.diagnosis.values import action_norms, disagreement, landscape
from zoo.export.files import whole

GRID = 21  # points along each side of the map of the kernel
REACH = 2.0  # how far the map goes, in half boxes
SOKAR, PARS = "arXiv 2302.12902, equation 1", "arXiv 2507.08761"
CLONE_STEPS = 2_000  # of the clone that stands for the behaviour


class Measure(NamedTuple):
    """One number. source: where it is defined."""

    name: str
    value: float
    source: str


class Rows(NamedTuple):
    """Pairs of the data as the networks see them: observations (B, O), actions (B, A) in half boxes."""

    observations: Tensor
    actions: Tensor


def sample(agent: Agent, dataset: OfflineDataset, rows: int, seed: int) -> Rows:
    """At most so many rows, without replacement. Raises ValueError for a population, or data of other spaces."""
    if agent.population is not None:
        raise ValueError(f"a population of {agent.population} is diagnosed member by member: agent.member(i)")
    agent.spec.check_env(dataset.observation_space, dataset.action_space)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:rows])
    observations, actions = (
        torch.as_tensor(dataset.column(name)[chosen]).to(agent.device, agent.dtype)
        for name in ("observations", "actions")
    )
    return Rows(agent.policy.normalize_observations(observations), agent.policy.normalize_actions(actions))


def measures(agent: Agent, rows: Rows, tau: float = 0.0, seed: int = 0) -> list[Measure]:
    """What can be said in seconds: neurons, values, disagreement, lengths of actions."""
    policy, (observations, actions) = agent.policy, rows
    found = of("actor", neurons(lambda: policy.actor(observations), tau), SOKAR)
    if not policy.has_critics:
        return found
    found += of("critic", neurons(lambda: policy.critic(observations, actions), tau), SOKAR)
    generator = torch.Generator().manual_seed(seed)
    found += of("disagreement", disagreement(policy, observations, actions, generator), "deviation of the ensemble")
    found += of("action_norm", action_norms(policy, observations, actions), f"{PARS}, table 1")
    return found + of("landscape", landscape(policy, observations, actions), f"{PARS}, figure 3; rays of our own")


def of(what: str, numbers: Any, source: str) -> list[Measure]:
    """The numbers of a named tuple as measures; curves are left out."""
    fields = numbers._asdict().items()
    return [Measure(f"{what}/{name}", value, source) for name, value in fields if isinstance(value, float)]


def importance(agent: Agent, dataset: OfflineDataset, seed: int = 0, steps: int = CLONE_STEPS) -> Estimate:
    """Of a stochastic actor its own density; of a deterministic one the clone's deviation around its action."""
    clone = BC(dataset, policy="gaussian", seed=seed, device="cpu").learn_offline(dataset, steps)
    observations = torch.tensor(dataset.column("observations"), dtype=torch.float32)
    actions = clone.policy.normalize_actions(torch.tensor(dataset.column("actions"), dtype=torch.float32))
    behaviour: Any = clone.policy.actor
    actor: Any = agent.policy.actor
    with torch.no_grad():
        mu = behaviour.distribution(clone.policy.normalize_observations(observations))
        own = agent.policy.normalize_observations(observations.to(agent.device, agent.dtype))
        if hasattr(actor, "distribution"):
            log_pi = actor.distribution(own).log_probs(actions.to(own))
        else:
            log_pi = mu._replace(mean=actor(own).to(actions)).log_probs(actions)
        ratios = log_pi.to(actions).sum(-1) - mu.log_probs(actions).sum(-1)
    rewards = dataset.column("rewards").astype(np.float64)
    return weighted_importance(ratios.double().numpy(), dataset.column("episode_ids"), rewards)


def kernel_map(agent: Agent, rows: Rows) -> np.ndarray:
    """The first critic's similarity to one pair of the data, over its first two action dimensions, (GRID, GRID).

    Rows go along the second dimension; with one dimension, (1, GRID).
    """
    critic, observation, anchor = agent.policy.critic, rows.observations[:1], rows.actions[0]
    line = torch.linspace(-REACH, REACH, GRID, dtype=anchor.dtype, device=anchor.device)
    across = line if len(anchor) > 1 else line[:1] * 0
    points = anchor.repeat(len(across) * GRID, 1)
    points[:, 0] = line.repeat(len(across))
    if len(anchor) > 1:
        points[:, 1] = across.repeat_interleave(GRID)
    parameters = list(critic.parameters())
    found = similarity(lambda a: critic.first(observation, a), parameters, anchor, points)
    return found.reshape(len(across), GRID).cpu().numpy()


def diagnose(
    agent: Agent, dataset: OfflineDataset, out: Path, rows: int = 2048, tau: float = 0.0, seed: int = 0
) -> list[Measure]:
    """Writes measures.csv, and of an agent with critics landscape.csv, kernel.csv and both as pictures, into out."""
    chosen = sample(agent, dataset, rows, seed)
    found = measures(agent, chosen, tau, seed)
    found += of("wis", importance(agent, dataset, seed), "Precup et al. 2000, equation 4")
    out.mkdir(parents=True, exist_ok=True)
    write(out / "measures.csv", ("measure", "value", "source"), found)
    if agent.policy.has_critics:
        ground, similar = landscape(agent.policy, *chosen), kernel_map(agent, chosen)
        curve = list(zip(ground.places.tolist(), ground.q.tolist(), strict=True))
        write(out / "landscape.csv", ("half_boxes", "q"), curve)
        line = np.linspace(-REACH, REACH, GRID)
        lines = [(x, y, similar[j, i]) for j, y in enumerate(line[: len(similar)]) for i, x in enumerate(line)]
        write(out / "kernel.csv", ("action_0", "action_1", "similarity"), lines)
        draw_landscape(ground, out / "landscape.png")
        draw_kernel(similar, chosen.actions[0].tolist(), REACH, out / "kernel.png")
    return found


def write(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    with whole(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])

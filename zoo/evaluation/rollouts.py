"""Rollouts: what a policy earns in its environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch

from zoo.agents.core.conventions import STATED, check_convention
from zoo.agents.core.finite import check_rows
from zoo.agents.core.spec import DataSpec
from zoo.agents.loop.border import Ranges
from zoo.evaluation.workers import Group, Maker, Worker, as_maker, check_maker, default_workers

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (episodes, O), which are running (n,) -> actions (n, A)


@dataclass(frozen=True)
class Rollouts:
    """What each episode earned, undiscounted and raw, and whether it succeeded, where the environment says so."""

    returns: np.ndarray  # (episodes,)
    successes: np.ndarray | None  # (episodes,) bool; None where infos have no "success"


def evaluate(
    policy: Any, make_env: Maker, episodes: int = 10, seed: int = 100, *, workers: int | None = 1, **predict_kwargs: Any
) -> np.ndarray:
    """Undiscounted raw returns (episodes,) of deterministic actions; see rollouts."""
    return rollouts(policy, make_env, episodes, seed, workers=workers, **predict_kwargs).returns


def evaluate_members(
    agent: Any, make_env: Maker, episodes: int = 10, seed: int = 100, *, workers: int | None = 1, **predict_kwargs: Any
) -> np.ndarray:
    """The same for a population of P, (P, episodes); see Evaluator.evaluate_members."""
    with Evaluator(make_env, workers) as evaluator:
        return evaluator.evaluate_members(agent, episodes, seed, **predict_kwargs)


def rollouts(
    policy: Any, make_env: Maker, episodes: int = 10, seed: int = 100, *, workers: int | None = 1, **predict_kwargs: Any
) -> Rollouts:
    """Episodes of deterministic actions; see Evaluator.rollouts, which is for more than one evaluation."""
    with Evaluator(make_env, workers) as evaluator:
        return evaluator.rollouts(policy, episodes, seed, **predict_kwargs)


class Evaluator:
    """Evaluations whose environments are stepped by `workers` processes, of which this one is the first.

        with Evaluator(partial(make_env, agent.spec), workers=2) as evaluator:
            returns = evaluator.evaluate(agent)

    The policy stays here, whatever it is, and predicts for all running episodes at once, so that the number of workers
    changes no batch that it sees. With workers torch predicts on one thread: the idle threads of its pool would spin
    on the workers' cores. Environments and processes live from the first evaluation, or start(), to close(), after
    which a further evaluation starts them again; so reset(seed) must begin an episode anew, as Gymnasium asks.
    workers: None takes one for each core, at most workers.MOST_WORKERS. A process needs seconds to start, which
    nobody has to wait for after an early start().
    Raises ValueError for workers below one, ValueError or TypeError for a make_env that cannot be sent to another
    process (zoo.evaluation.workers.check_maker).
    """

    def __init__(self, make_env: Maker, workers: int | None = 1):
        workers = default_workers() if workers is None else workers
        if workers < 1:
            raise ValueError(f"workers must be at least 1, this process itself, got {workers}")
        make_env = as_maker(make_env)
        if workers > 1:
            check_maker(make_env)
        self.make_env = make_env
        self.workers = workers
        self._groups: list[Group | Worker] = []

    def start(self) -> None:
        """Starts the processes that are not there yet, without waiting for them."""
        if not self._groups:
            self._groups = [Group(self.make_env), *(Worker(self.make_env) for _ in range(self.workers - 1))]

    def close(self) -> None:
        """Ends the processes and closes the environments."""
        groups, self._groups = self._groups, []
        for group in reversed(groups):  # an environment of this process may refuse
            group.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def evaluate(self, policy: Any, episodes: int = 10, seed: int = 100, **predict_kwargs: Any) -> np.ndarray:
        """Undiscounted raw returns (episodes,) of deterministic actions; see rollouts."""
        return self.rollouts(policy, episodes, seed, **predict_kwargs).returns

    def rollouts(self, policy: Any, episodes: int = 10, seed: int = 100, **predict_kwargs: Any) -> Rollouts:
        """Episodes of deterministic actions; episode i starts from reset(seed + i).

        policy: anything with predict(observations (n, O)) -> actions (n, A), alone or with a state, as agents,
        OnnxPolicy and Stable-Baselines3's models have it. An episode succeeds when any of its steps does.
        Raises what an environment raises, noting the seed; from a worker as EvaluationError, with its traceback.
        NotFiniteError for an action, an observation or a reward that is not finite; ValueError for an environment that
        normalises by itself, or has other spaces than the agent's data. Warns of observations far outside these data.
        Sparse rewards of an environment whose convention is known (zoo.agents.core.rewards) are told in the data's.
        """

        remembers = getattr(policy, "stack", None) is not None
        memory: list[np.ndarray] = []

        def predict(observations: np.ndarray, running: np.ndarray) -> np.ndarray:
            if remembers:
                return recalled(policy, observations, running, memory, predict_kwargs)
            actions = policy.predict(observations[running], **predict_kwargs)
            return np.asarray(actions[0] if isinstance(actions, tuple) else actions)

        with own_stream(policy, seed):
            return self._play(predict, [seed + i for i in range(episodes)], policy)

    def evaluate_members(self, agent: Any, episodes: int = 10, seed: int = 100, **predict_kwargs: Any) -> np.ndarray:
        """The returns of a population of P, (P, episodes): all members' episodes side by side, one prediction a step.

        make_env is called P * episodes times. Every member has the same reset seeds.
        """
        members, state = agent.population, None

        def predict(observations: np.ndarray, running: np.ndarray) -> np.ndarray:
            nonlocal state
            rows = observations.reshape(members, episodes, -1)
            actions, state = agent.predict(
                rows, state, **predict_kwargs
            )  # also for episodes that are over: one product more
            return actions.reshape(members * episodes, -1)[running]

        seeds = [seed + i for i in range(episodes)] * members
        with own_stream(agent, seed):
            return self._play(predict, seeds, agent).returns.reshape(members, episodes)

    def _play(self, predict: Predict, seeds: list[int], policy: Any) -> Rollouts:
        if not seeds:
            raise ValueError("an evaluation needs at least one episode, got none")
        self.start()
        groups = self._groups[: len(seeds)]
        try:
            with _one_thread() if len(groups) > 1 else nullcontext():
                return _play(groups, predict, seeds, spec_of(policy), rewards_of(policy))
        except BaseException:
            self.close()  # a worker may be in the middle of a step, whose answer nobody waits for now
            raise


def recalled(
    agent: Any, observations: np.ndarray, running: np.ndarray, memory: list[np.ndarray], predict_kwargs: dict[str, Any]
) -> np.ndarray:
    """The actions of an agent with a past, for the running episodes; memory: of all episodes, empty at their begin."""
    state = tuple(part[running] for part in memory) or None
    actions, state = agent.predict(observations[running], state, **predict_kwargs)
    if not memory:
        memory += [np.zeros((len(observations), *part.shape[1:]), part.dtype) for part in state]
    for part, now in zip(memory, state, strict=True):
        part[running] = now
    return np.asarray(actions)


def own_stream(policy: Any, seed: int) -> AbstractContextManager[None]:
    """Where an agent's predictions draw from a stream of this seed: an evaluation tells the same whenever it is made,
    and changes nothing that is learned. Other policies keep their streams to themselves.
    """
    return policy.predicting_from(seed) if hasattr(policy, "predicting_from") else nullcontext()


def spec_of(policy: Any) -> DataSpec | None:
    """What an agent remembers of its dataset; None for another kind of policy."""
    spec = getattr(policy, "spec", None)
    return spec if isinstance(spec, DataSpec) else None


def rewards_of(policy: Any) -> str | None:
    """The convention of sparse rewards in the data of an agent or an exported policy; None for any others."""
    if spec := spec_of(policy):
        return spec.reward_convention
    about = getattr(policy, "metadata", None)
    return check_convention(about.get("dataset", {}).get(STATED)) if isinstance(about, Mapping) else None


def _play(
    groups: Sequence[Group | Worker], predict: Predict, seeds: list[int], spec: DataSpec | None, rewards: str | None
) -> Rollouts:
    """All episodes to their ends, dealt out to the groups like cards."""
    count, hands = len(seeds), len(groups)
    ranges = None if spec is None else Ranges(spec)
    for k, group in enumerate(groups):
        group.reset(seeds[k::hands], spec, rewards)
    resets = [group.rows()["observation"] for group in groups]
    observations = np.empty((count, *resets[0].shape[1:]), np.float32)
    for k, rows in enumerate(resets):
        observations[k::hands] = rows
    returns = np.zeros(count)
    told, successes, over = (np.zeros(count, bool) for _ in range(3))
    running = np.arange(count)
    turns = _turns(groups, running)
    while running.size:
        if ranges is not None:
            ranges.look(observations[running])
        actions = predict(observations, running)
        if len(actions) != running.size:
            raise ValueError(f"predict gave {len(actions)} actions for {running.size} observations")
        check_rows({"actions": actions}, partial(_source, [seeds[i] for i in running]))
        for group, share, _ in turns:
            group.step(actions[share])
        ended = False
        for group, _, mine in turns:
            rows = group.rows()
            observations[mine] = rows["observation"]
            returns[mine] += rows["reward"]
            if rows["over"].any():
                over[mine], told[mine], successes[mine] = rows["over"], rows["told"], rows["success"]
                ended = True
        if ended:
            running = running[~over[running]]
            turns = _turns(groups, running)
    return Rollouts(returns, successes if told.any() else None)


def _source(seeds: list[int], row: int) -> str:
    return f"the policy, in the episode of reset seed {seeds[row]},"


def _turns(
    groups: Sequence[Group | Worker], running: np.ndarray
) -> list[tuple[Group | Worker, np.ndarray, np.ndarray]]:
    """Each group that has an episode running, the places of its episodes in `running`, and their numbers."""
    shares = [(group, np.flatnonzero(running % len(groups) == k)) for k, group in enumerate(groups)]
    return [(group, share, running[share]) for group, share in shares if share.size]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

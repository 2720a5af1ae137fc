"""collect: any policy in any Gymnasium environment, to a D4RL-layout HDF5 file that load_dataset reads."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from zoo.agents.core.finite import check_rows
from zoo.agents.loop.progress import Progress
from zoo.collecting.journal import Journal
from zoo.collecting.recording import About, Recorder
from zoo.datasets.checks import ROUNDING, Array, slack
from zoo.export.stopping import Stopped

SB3 = ("A2C", "DDPG", "PPO", "SAC", "TD3")  # whose checkpoints are policies of continuous actions
TURN = (5**0.5 - 1) / 2  # multiples of the golden ratio modulo 1 fill [0, 1) evenly


@dataclass
class Episode:
    """One episode in progress. What its rng draws depends on nothing but the seed and its number."""

    number: int
    env: gym.Env
    rng: np.random.Generator
    observation: Array  # (O,)


# Observations (n, O) float32 and their n episodes to actions (n, A) inside the box.
Actor = Callable[[Array, Sequence[Episode]], Array]


def collect(
    make: Callable[[], gym.Env],
    actor: Actor,
    path: Path,
    steps: int,
    about: About,
    envs: int = 1,
    seed: int = 0,
    infos: tuple[str, ...] = (),
    progress_bar: bool = False,
) -> Path:
    """Exactly `steps` transitions as an HDF5 file; a run that was killed goes on where its journal ends.

    make: one environment. envs: so many run side by side, and each step asks the actor once for all of them.
    about: becomes the file's attributes; env_id among them lets load_dataset name the environment. infos: see Recorder.
    Episode k begins with a reset from a seed that follows from `seed` and k alone, and the episodes in progress at the
    end are cut, so an interruption changes neither which episodes there are nor, for a deterministic actor, what is in
    them. Episodes are in the order in which they ended.
    Raises FileExistsError, or ValueError for a journal of other settings or an actor's action that cannot be run.
    """
    if steps < 1 or envs < 1:
        raise ValueError(f"steps and envs must be at least 1, got {steps} and {envs}")
    with Journal(path, {**about, "seed": seed}) as journal, told_of_a_stop(journal):
        recorders = [Recorder(make(), journal.append, infos) for _ in range(envs)]
        record(recorders, journal, actor, steps, seed, progress_bar)
        return journal.finish(recorders[0])


def record(
    recorders: Sequence[Recorder], journal: Journal, actor: Actor, steps: int, seed: int, progress_bar: bool
) -> None:
    """What the journal lacks of `steps` transitions."""
    numbers = (number for number in itertools.count() if number not in journal.numbers)
    remaining = steps - journal.rows
    with Progress(steps, "collecting", progress_bar, initial=journal.rows) as bar:
        running = [begin(recorder, next(numbers), seed) for recorder in recorders] if remaining > 0 else []
        while remaining > 0:
            actions = choose_actions(actor, running)
            for i, action in enumerate(actions[:remaining]):
                running[i].observation, _, terminated, truncated, _ = recorders[i].step(action)
                if terminated or truncated:
                    running[i] = begin(recorders[i], next(numbers), seed)
            done = min(remaining, len(recorders))
            remaining -= done
            bar.update(done)
    for recorder in recorders:
        recorder.cut()
        recorder.close()


@contextmanager
def told_of_a_stop(journal: Journal) -> Iterator[None]:
    """Ctrl-C and its like say what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(
            f"stopped; {journal.file} keeps {journal.rows:,} rows of whole episodes, and the same command goes on",
            stop.status - 128 if isinstance(stop, Stopped) else SIGINT,
        ) from stop


def begin(recorder: Recorder, number: int, seed: int) -> Episode:
    """Resets the environment for the episode of that number."""
    sequence = np.random.SeedSequence([seed, number])
    observation, _ = recorder.reset(seed=int(sequence.generate_state(1)[0]))
    recorder.number = number
    return Episode(number, recorder, np.random.default_rng(sequence), observation)


def choose_actions(actor: Actor, running: Sequence[Episode]) -> Array:
    """One action for each episode, float32 inside the box. Raises ValueError for an actor that gives anything else."""
    box = running[0].env.action_space
    assert isinstance(box, Box)  # Recorder has seen to it
    observations = np.stack([episode.observation for episode in running]).astype(np.float32)
    actions = np.asarray(actor(observations, running), np.float32)
    if actions.shape != (len(running), *box.shape):
        raise ValueError(f"the policy gave actions of shape {actions.shape}, expected {(len(running), *box.shape)}")
    check_rows({"actions": actions}, lambda i: f"the policy, for episode {running[i].number},")
    clipped = np.clip(actions, box.low, box.high).astype(np.float32)
    if (np.abs(actions - clipped) > slack(box.low, box.high, ROUNDING)).any():
        raise ValueError(
            f"the policy gave the action {actions[np.abs(actions - clipped).max(1).argmax()]}, outside {box}. "
            "Clip it in the policy: the file must hold the action that the environment runs."
        )
    return clipped


# Actors ---------------------------------------------------------------------------------------------------------------


def random_actor(observations: Array, episodes: Sequence[Episode]) -> Array:
    """Uniform in the action box."""
    box: Any = episodes[0].env.action_space
    return np.stack([episode.rng.uniform(box.low, box.high) for episode in episodes])


@dataclass(frozen=True)
class Predictor:
    """Anything with predict(observations) -> actions, alone or with a state. keywords: more arguments of predict."""

    policy: Any
    keywords: dict[str, Any]

    def __call__(self, observations: Array, episodes: Sequence[Episode]) -> Array:
        actions = self.policy.predict(observations, **self.keywords)
        return actions[0] if isinstance(actions, tuple) else actions


@dataclass(frozen=True)
class Noisy:
    """Gaussian noise on another actor's actions, clipped to the box. std: as a fraction of half the box's width."""

    actor: Actor
    std: float

    def __call__(self, observations: Array, episodes: Sequence[Episode]) -> Array:
        box: Any = episodes[0].env.action_space
        scale = self.std * (box.high - box.low) / 2.0
        noise = np.stack([episode.rng.normal(size=box.shape) for episode in episodes])
        return np.clip(self.actor(observations, episodes) + scale * noise, box.low, box.high)


@dataclass(frozen=True)
class Mixture:
    """Each episode belongs to one actor. weights: shares of the episodes, met to within a few at any time."""

    actors: Sequence[Actor]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.actors) != len(self.weights) or not all(0 < weight < np.inf for weight in self.weights):
            raise ValueError(f"weights must be {len(self.actors)} positive numbers, got {list(self.weights)}")

    def member(self, number: int) -> int:
        """Index of the actor of an episode."""
        shares = np.cumsum(self.weights) / np.sum(self.weights)
        return min(int(np.searchsorted(shares, number * TURN % 1.0, side="right")), len(self.actors) - 1)

    def __call__(self, observations: Array, episodes: Sequence[Episode]) -> Array:
        members = np.array([self.member(episode.number) for episode in episodes])
        parts: list[Any] = [None] * len(episodes)
        for member in np.unique(members):
            mine = np.flatnonzero(members == member)
            actions = self.actors[member](observations[mine], [episodes[i] for i in map(int, mine)])
            for i, action in zip(mine, actions, strict=True):
                parts[i] = action
        return np.stack(parts)


def load_sb3(algorithm: Any, path: str, env: gym.Env | None) -> Any:
    """A Stable-Baselines3 checkpoint. Those made with gym hold gym's spaces and schedules of an older Python; the
    environment's own spaces, and constants, take their place, as Stable-Baselines3's documentation has it.
    """
    try:
        return algorithm.load(path, device="cpu")
    except ModuleNotFoundError as error:
        if error.name != "gym" or env is None:
            raise
    objects: dict[str, Any] = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0}
    objects |= {"observation_space": env.observation_space, "action_space": env.action_space}
    return algorithm.load(path, device="cpu", custom_objects=objects)


def load_actor(text: str, deterministic: bool = True, env: gym.Env | None = None) -> Actor:
    """An actor from what a person types: "random", "SAC:model.zip" (Stable-Baselines3), "agent.zip" (ours), an exported
    folder or .onnx file, or "package.module:function", a function of observations (n, O) to actions (n, A).

    A Stable-Baselines3 checkpoint contains pickled objects: load only files that you trust. env: where it will act.
    Raises ValueError for anything else, FileNotFoundError where there is no such file.
    """
    prefix, colon, rest = text.partition(":")
    if text == "random":
        return random_actor
    if prefix in SB3 and colon:
        import stable_baselines3

        model = load_sb3(getattr(stable_baselines3, prefix), rest, env)
        return Predictor(model, {"deterministic": deterministic})
    path = Path(text).expanduser()
    if path.is_dir() or path.suffix == ".onnx":
        from zoo_robot.runtime import OnnxPolicy

        return Predictor(OnnxPolicy(path), {})
    if path.suffix == ".zip":
        from zoo.agents import load

        return Predictor(load(path), {"deterministic": deterministic})
    if colon:
        function = getattr(importlib.import_module(prefix), rest, None)
        if not callable(function):
            raise ValueError(f"the module {prefix} has no function {rest!r}")
        return lambda observations, episodes: function(observations)
    raise ValueError(
        f"no policy {text!r}: give random, {' or '.join(f'{name}:model.zip' for name in ('SAC', 'TD3'))} for a "
        "Stable-Baselines3 checkpoint, the .zip of an agent, an exported folder, or package.module:function"
    )

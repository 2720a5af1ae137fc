"""Behaviour policies by Stable-Baselines3, recorded while they learn, and the D4RL-style sets cut from them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from zoo.collecting.collect import Actor, Noisy, Predictor, collect
from zoo.collecting.journal import Journal
from zoo.collecting.recording import About, Recorder, is_made, read_bounds, read_episodes, write_hdf5
from zoo.datasets.checks import Array
from zoo.evaluation.callbacks import Point, append_point, read_curve
from zoo.evaluation.envs import make_env
from zoo.evaluation.rollouts import evaluate

ALGORITHMS = ("SAC", "TD3")
SETS = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")


# Training -------------------------------------------------------------------------------------------------------------


class Milestones(BaseCallback):
    """Saves the learner, and tells how it does, at the end of the first episode after each `every` steps.

    Whole episodes lead to every saved policy, so that a recording can be cut there.
    """

    def __init__(self, folder: Path, every: int):
        super().__init__()
        self.folder = folder
        self.every = every

    def _on_training_start(self) -> None:
        self.last = self.num_timesteps

    def _on_step(self) -> bool:
        if self.locals["dones"][0] and self.num_timesteps - self.last >= self.every:
            self.last = self.num_timesteps
            save_policy(self.model, self.folder)
            # The buffer has the episodes before the one that ends here, which is in the step's info.
            episodes = [*(self.model.ep_info_buffer or ()), self.locals["infos"][0]["episode"]][-10:]
            returns = [episode["r"] for episode in episodes]
            print(f"step {self.last:,}: the last {len(returns)} episodes return {np.mean(returns):.1f} on average")
        return True


def save_policy(model: Any, folder: Path) -> None:
    """folder/<steps>.zip, whole or not at all."""
    temporary = folder / ".writing.zip"
    folder.mkdir(parents=True, exist_ok=True)
    model.save(temporary)
    os.replace(temporary, folder / f"{model.num_timesteps:09d}.zip")


def policies_of(path: Path) -> Path:
    """The folder of the policies that a recording's learner went through."""
    return path.with_name(f"{path.stem}-policies")


def train(
    algorithm: type[OffPolicyAlgorithm],
    make: Callable[[], gym.Env],
    path: Path,
    steps: int,
    every: int,
    seed: int,
    about: About,
    infos: tuple[str, ...] = (),
    **settings: Any,
) -> Path:
    """Trains a learner for `steps` environment steps, and records every one of them in an HDF5 file.

    Its policies, from the untrained one to the last, about `every` steps apart, are in policies_of(path). A run that
    was killed goes on from the newest of them, with the replay buffer filled from the journal; what came after is
    forgotten, and the seed is another, so that it is a continuation but not the same run. about, infos: see
    zoo.collecting.collect.collect. settings: of the algorithm. Returns the path, at once where the file is there.
    Raises ValueError where what is there was made with other settings.
    """
    plan = {"algorithm": algorithm.__name__, "seed": seed, "steps": steps}
    about = {**about, **plan, "settings": json.dumps(settings, default=str)}
    if is_made(path, about):
        return path
    folder = policies_of(path)
    with Journal(path, about) as journal:
        recorder = Recorder(make(), journal.append, infos)
        saved = sorted(folder.glob("[0-9]*.zip"))
        if saved:
            model = algorithm.load(saved[-1], env=recorder, device="auto")
            model.set_random_seed(seed + model.num_timesteps)
            journal.keep(model.num_timesteps)
            refill(model, journal)
            print(f"going on from {saved[-1]}")
        else:
            journal.keep(0)
            # A copy: Stable-Baselines3 adds entries of its own to policy_kwargs.
            model = algorithm("MlpPolicy", recorder, seed=seed, buffer_size=steps, **copy.deepcopy(settings))
            save_policy(model, folder)
        recorder.number = len(journal.numbers)
        if model.num_timesteps < steps:
            remaining = steps - model.num_timesteps
            model.learn(remaining, callback=Milestones(folder, every), reset_num_timesteps=False)
            recorder.cut()
            save_policy(model, folder)
        return journal.finish(recorder)


def refill(model: OffPolicyAlgorithm, journal: Journal) -> None:
    """The learner's replay buffer, as it was when the journal ended here."""
    assert model.replay_buffer is not None
    for row in chain.from_iterable(journal.episodes()):
        model.replay_buffer.add(
            row["observations"],
            row["next_observations"],
            model.policy.scale_action(row["actions"]),
            row["rewards"],
            row["terminals"] | row["timeouts"],
            [{"TimeLimit.truncated": bool(row["timeouts"])}],
        )


# Sets -----------------------------------------------------------------------------------------------------------------


def evaluate_policies(algorithm: type[OffPolicyAlgorithm], path: Path, make: Callable[[], gym.Env]) -> list[Point]:
    """Deterministic returns of every policy of a recording, by steps; written to evaluations.csv as they come."""
    file = policies_of(path) / "evaluations.csv"
    known = {point.timesteps for point in read_curve(file)}
    for policy in sorted(policies_of(path).glob("[0-9]*.zip")):
        if int(policy.stem) not in known:
            returns = evaluate(algorithm.load(policy, device="cpu"), make, deterministic=True)
            point = Point(int(policy.stem), True, float(returns.mean()), float(returns.std()), len(returns))
            append_point(file, point)
    return read_curve(file)


def choose(curve: Sequence[Point], fraction: float) -> tuple[Point, Point]:
    """The medium policy and the expert: the best one, and the first that is `fraction` of the way to it.

    Raises ValueError where nothing was learned, and where both would be the same policy.
    """
    expert = max(curve, key=lambda point: point.return_mean)
    begin = curve[0].return_mean
    if expert.return_mean <= begin:
        raise ValueError(f"no policy is better than the untrained one, which returns {begin:.1f}: train for more steps")
    goal = begin + fraction * (expert.return_mean - begin)
    medium = next(point for point in curve if point.return_mean >= goal)
    if medium == expert:
        before = max(point.return_mean for point in curve[: curve.index(expert)])
        raise ValueError(
            f"medium and expert would be the same policy, the best one, which returns {expert.return_mean:.1f}: none "
            f"before it reached {goal:.1f}, only {before:.1f}. Choose a lower --medium than {fraction:.2f}, or make it "
            "anew with policies saved more often (--every) or for more steps"
        )
    return medium, expert


def make_sets(
    env: str,
    out: Path,
    algorithm: str,
    steps: int,
    samples: int,
    every: int,
    medium: float = 1 / 3,
    noise: float = 0.0,
    envs: int = 8,
    seed: int = 0,
    **settings: Any,
) -> list[Path]:
    """Trains, then writes <out>/<name of out>-<set>.hdf5 for D4RL's six sets; every stage is made once. Returns them.

    random, medium and expert: `samples` transitions of the untrained policy, of the first one `medium` of the way to
    the best, and of the best; actions drawn from it where it is stochastic, with `noise` (see collect.Noisy).
    full-replay: what the learner saw; medium-replay: what it saw before it was medium. medium-expert: both, in turn.
    Raises ValueError for another algorithm, a learner that learned nothing, and files made with other settings.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"no algorithm {algorithm!r} for behaviours; choose {' or '.join(ALGORITHMS)}")
    learner: type[OffPolicyAlgorithm] = getattr(stable_baselines3, algorithm)
    file = {name: out / f"{out.name}-{name}.hdf5" for name in SETS}

    def make() -> gym.Env:
        return make_env(env)

    replay = train(learner, make, file["full-replay"], steps, every, seed, {"env_id": env}, **settings)
    curve = evaluate_policies(learner, replay, make)
    middle, expert = choose(curve, medium)
    print(f"medium: {middle.return_mean:.1f} after {middle.timesteps:,} steps; expert: {expert.return_mean:.1f}")

    for name, point in {"random": curve[0], "medium": middle, "expert": expert}.items():
        about = {"env_id": env, "policy": f"{algorithm} after {point.timesteps} steps", "noise": noise}
        if not is_made(file[name], about):
            policy = learner.load(policies_of(replay) / f"{point.timesteps:09d}.zip", device="cpu")
            actor: Actor = Predictor(policy, {"deterministic": False})
            actor = Noisy(actor, noise) if noise else actor
            collect(make, actor, file[name], samples, about, envs, seed, progress_bar=True)
    source = f"{algorithm}, the first {middle.timesteps} steps of its training"
    join(file["medium-replay"], first_rows(replay, middle.timesteps), {"env_id": env, "policy": source}, replay)
    both = chain(read_episodes(file["medium"]), read_episodes(file["expert"]))
    source = f"{algorithm} after {middle.timesteps} steps, then after {expert.timesteps}"
    join(file["medium-expert"], both, {"env_id": env, "policy": source, "noise": noise}, replay)
    return list(file.values())


def first_rows(path: Path, rows: int) -> Iterator[Array]:
    """The episodes of a file that lie in its first rows."""
    for episode in read_episodes(path):
        rows -= len(episode)
        if rows < 0:
            return
        yield episode


def join(path: Path, episodes: Iterator[Array], about: About, like: Path) -> None:
    """Episodes as one file, with the bounds of another, unless it is there."""
    if not is_made(path, about):
        write_hdf5(path, episodes, {**about, **read_bounds(like)})

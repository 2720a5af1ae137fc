"""Agent: what a user calls. It hands on to core (state), loop (learning) and files (checkpoints)."""

import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from zoo.agents.core import acting
from zoo.agents.core.learner import Learner
from zoo.agents.core.replay import Table
from zoo.agents.core.spec import Dataset
from zoo.agents.files import saving
from zoo.agents.files.description import describe
from zoo.agents.loop import training


class Agent(Learner):
    """An offline-RL agent, as a user calls it. Learner has the arguments and what papers define."""

    # Learning -------------------------------------------------------------------------------------------------------

    def learn(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Stable-Baselines3's name. Raises TypeError that says what to call here."""
        raise TypeError(
            f"{type(self).__name__} learns in two ways: learn_offline(dataset, total_timesteps) from data, and "
            "finetune_online(env, total_timesteps, dataset=dataset) in an environment"
        )

    def learn_offline(
        self,
        dataset: Dataset,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1000,
        progress_bar: bool | None = None,
    ) -> Self:
        """`total_timesteps` more gradient steps on the dataset. log_interval: in gradient steps.

        progress_bar: None is a bar where standard error is a terminal; True tells lines now and then elsewhere.

        A paper's preparation (a density model, a filter of the data) comes before the first one, as a phase of its own
        with its own bar, and does not count. A checkpoint written in its middle goes on from there.
        Ctrl-C ends it after the step in progress, writes a checkpoint beside the logs and raises KeyboardInterrupt.
        """
        training.learn_offline(self, dataset, total_timesteps, callback, log_interval, progress_bar)
        return self

    def finetune_online(
        self,
        env: gym.Env | VecEnv | VectorEnv | None,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1000,
        progress_bar: bool | None = None,
        dataset: Dataset | None = None,
    ) -> Self:
        """`total_timesteps` more environment steps with the paper's online updates.

        env: one environment, or several of Stable-Baselines3 or Gymnasium; None takes the one of set_env.
        dataset: what the config's online_buffer mixes in or begins with; not needed where that is nothing.
        Each call begins with a seeded reset of the environment. Interrupted as learn_offline.
        """
        if env is not None:
            self.set_env(env)
        training.finetune_online(self, dataset, total_timesteps, callback, log_interval, progress_bar)
        return self

    # Acting ---------------------------------------------------------------------------------------------------------

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        evaluation_samples: int | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions in the environment's units, inside the box: (O,) -> (A,), or (n, O) -> (n, A).

        A population takes one row, or one batch of rows, for each member: (P, O) or (P, n, O).
        deterministic: the actor's mode; False draws from it where it is stochastic. A generative actor (DiffusionQL,
        FQL) has no mode and draws in either case. evaluation_samples: overrides the config's for this call; above 1,
        the best of so many noisy candidates in the critics' opinion. Draws come from the agent's own seeded stream.
        An agent with history or delay remembers in the state: hand the one of the call before back, None at the begin.
        Raises TypeError or ValueError for observations of another kind, shape or with non-finite entries, and
        FloatingPointError where the networks themselves have diverged.
        """
        if self.stack is not None:
            given = np.asarray(observation), state, episode_start
            return acting.predict_from(self, *given, deterministic, evaluation_samples)
        action = acting.predict(self, np.asarray(observation), deterministic, evaluation_samples)
        return action, state

    # Populations ----------------------------------------------------------------------------------------------------

    def member(self, index: int) -> Self:
        """Member `index` of the population as an ordinary agent: its own weights, moments and settings."""
        return saving.member(self, index)

    # What Stable-Baselines3's callbacks ask of a model --------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """The actor's, as it is now; of a population the mean."""
        optimizers = self.optimizers
        return float(optimizers.get("actor", next(iter(optimizers.values()))).rate.mean())

    @property
    def ep_info_buffer(self) -> deque[dict[str, float]]:
        """Return "r" and length "l" of the last 100 online episodes."""
        return self.episodes

    @property
    def ep_success_buffer(self) -> deque[float]:
        """Whether they succeeded, where the environment says so."""
        return self.successes

    @property
    def n_envs(self) -> int:
        """How many environments it learns in; 1 where it has only data."""
        env = self.get_env()
        return 1 if env is None else env.num_envs

    @property
    def env(self) -> VecEnv | None:
        return self.get_env()

    @property
    def replay_buffer(self) -> Table | None:
        """The online transitions; None before finetune_online."""
        return self.replay

    def dump_logs(self) -> None:
        """Writes the log now; beside a training what was recorded in agent.logger."""
        if self.dump is None:
            self.logger.dump(self.num_timesteps)
        else:
            self.dump()

    def save_replay_buffer(self, path: str | os.PathLike) -> Path:
        """Writes the online transitions, which agent.save keeps too, into a .safetensors file. Returns its path."""
        return saving.save_replay(self, path)

    def load_replay_buffer(self, path: str | os.PathLike) -> None:
        """Puts them back. Raises FileNotFoundError, or CheckpointError for transitions of other dimensions."""
        saving.load_replay(self, path)

    # Files ----------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike) -> Path:
        """Writes one checkpoint file, whole or not at all; training goes on from it bit for bit. Returns its path."""
        return saving.save_agent(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        env: gym.Env | VecEnv | VectorEnv | None = None,
        device: str | torch.device = "auto",
    ) -> Self:
        """The agent of a checkpoint. Raises FileNotFoundError, or CheckpointError that says what is wrong with it."""
        agent = saving.load_agent(cls, path, device)
        if env is not None:
            agent.set_env(env)
        return agent

    def export_onnx(
        self,
        directory: str | os.PathLike,
        evaluation_samples: int | None = None,
        contract: str | os.PathLike | Mapping[str, Any] | None = None,
        scores: Sequence[Mapping[str, Any]] | None = None,
    ) -> Path:
        """Writes a bundle, actor.onnx, critic.onnx, policy.onnx and contract.json, checked against this agent.

        contract: names, units and ranges of the dimensions and the control rate, as a TOML file or a mapping.
        scores: known evaluations. Returns the directory. Needs the export extra; see zoo.export.onnx.export_onnx.
        """
        from zoo.export.onnx import export_onnx  # not at the top: onnx is an extra

        return export_onnx(self.shipped, describe(self), directory, evaluation_samples, contract, scores)

    def write_c(self, directory: str | os.PathLike) -> Path:
        """Adds policy.h to the bundle of export_onnx: the actor as one C99 header, its golden test inside. Its path.

        For actors that are MLPs with ReLUs. See zoo.export.c99.write_c.
        """
        from zoo.export.c99 import write_c

        return write_c(self.shipped, describe(self), directory)

    def write_leapp(self, directory: str | os.PathLike) -> Path:
        """Adds policy.yaml, which NVIDIA's LEAPP reads, to the bundle of export_onnx. Returns its path.

        See zoo.export.leapp.write_leapp.
        """
        from zoo.export.leapp import write_leapp

        return write_leapp(directory)

    def write_guard(
        self, dataset: Dataset, directory: str | os.PathLike, quantile: float = 0.999, rows: int = 100_000
    ) -> Path:
        """Writes disagreement.onnx, the control loop's guard, into the directory of export_onnx. Returns its path.

        dataset: the one of the training, whose rows set the threshold. See zoo.export.guard.write_guard.
        """
        from zoo.export.guard import write_guard

        return write_guard(self.shipped, describe(self), dataset, directory, quantile, rows)

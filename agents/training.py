"""The two loops, offline and online, and what surrounds them: callbacks, log, progress bar, Ctrl-C."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import HumanOutputFormat, Logger, configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import get_latest_run_id
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from tqdm import tqdm

from agents.replay import Table
from agents.spec import Dataset, DataSpec

if TYPE_CHECKING:
    from agents.base import Agent, Metrics

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def learn_offline(
    agent: Agent, dataset: Dataset, total_timesteps: int, callback: MaybeCallback, log_interval: int, progress_bar: bool
) -> None:
    agent.spec.check_env(dataset.observation_space, dataset.action_space)
    table = Table.of(dataset, agent.layout, agent.device, agent.dtype)
    agent.online = False
    with agent.compute(), Run(agent, total_timesteps, callback, log_interval, progress_bar) as run:
        for _ in range(total_timesteps):
            metrics = agent.update(agent.sample(table))
            agent.num_timesteps += 1
            if not run.step(1, metrics):
                break


def finetune_online(
    agent: Agent,
    dataset: Dataset | None,
    total_timesteps: int,
    callback: MaybeCallback,
    log_interval: int,
    progress_bar: bool,
) -> None:
    env = agent.get_env()
    if env is None:
        raise ValueError("fine-tuning needs an environment: finetune_online(env, ...), or agent.set_env(env) before")
    if agent.population is not None:
        raise ValueError(f"fine-tune the members of a population of {agent.population} one by one: agent.member(i)")
    config = agent.config
    offline_size = round(config.offline_ratio * config.batch_size)
    if offline_size and dataset is None:
        raise ValueError(
            f"{type(agent).__name__} takes {offline_size} of {config.batch_size} rows of each online batch from the "
            "offline data: give finetune_online(..., dataset=dataset), or build the agent with offline_ratio=0.0"
        )
    offline = (
        Table.of(dataset, agent.layout, agent.device, agent.dtype) if offline_size and dataset is not None else None
    )
    if agent.replay is None:
        agent.replay = agent.new_replay()
    replay = agent.replay
    agent.online = True

    with agent.compute(), Run(agent, total_timesteps, callback, log_interval, progress_bar) as run:
        env.seed((agent.seed + agent.env_steps) % 2**31)
        obs = np.asarray(env.reset())
        metrics: Metrics = {}
        for _ in range(0, total_timesteps, env.num_envs):
            run.callback.on_rollout_start()
            action = explore(agent, obs)
            next_obs, reward, done, infos = env.step(action)
            replay.append(transition(obs, action, reward, np.asarray(next_obs), done, infos))
            obs = np.asarray(next_obs)
            agent.env_steps += env.num_envs
            agent.num_timesteps += env.num_envs
            agent.episodes.extend(info["episode"] for info in infos if "episode" in info)
            run.callback.update_locals({"infos": infos, "dones": done, "rewards": reward})
            run.callback.on_rollout_end()
            if agent.env_steps > config.learning_starts:
                for _ in range(config.updates_per_step * env.num_envs):
                    batch = (
                        agent.sample(replay) if offline is None else agent.sample_mixed(offline, replay, offline_size)
                    )
                    metrics = metrics | agent.update(batch)  # keeps the last of each: not every update moves the actor
            if not run.step(env.num_envs, metrics):
                break


@torch.no_grad()
def explore(agent: Agent, obs: np.ndarray) -> np.ndarray:
    rows = torch.as_tensor(obs, dtype=agent.dtype, device=agent.device)
    return agent.explore(rows).to("cpu", torch.float32).numpy()


def transition(
    obs: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    next_obs: np.ndarray,
    done: np.ndarray,
    infos: list[dict[str, Any]],
) -> dict[str, np.ndarray]:
    """One step of a VecEnv as columns. Where an episode ended the VecEnv has reset: the true successor is in infos."""
    successors = np.array(next_obs, dtype=np.float32)
    for i in np.flatnonzero(done):
        successors[i] = infos[i]["terminal_observation"]
    timed_out = np.array([info.get("TimeLimit.truncated", False) for info in infos])
    return {
        "observations": np.asarray(obs, dtype=np.float32),
        "actions": action,
        "rewards": reward,
        "next_observations": successors,
        "terminations": done & ~timed_out,
    }


class Run:
    """What goes on beside the gradient steps of one call: callback, log, progress bar and Ctrl-C."""

    def __init__(self, agent: Agent, total: int, callback: MaybeCallback, log_interval: int, progress_bar: bool):
        self.agent = agent
        self.total = total
        self.log_interval = log_interval
        self.interrupted = False
        self.started = self.logged = time.perf_counter()
        self.steps = 0
        self.borrowed_env = agent.get_env() is None
        if self.borrowed_env:  # SB3's EvalCallback asks for a training environment; offline there may be none
            agent._env = DummyVecEnv([lambda: DataOnly(agent.spec)])
        self.callback = init_callback(agent, callback)
        self.bar = tqdm(total=total, unit="step", disable=not progress_bar, dynamic_ncols=True)

    def __enter__(self) -> Self:
        self._previous = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_interrupt)
        local = {"self": self.agent, "total_timesteps": self.agent.num_timesteps + self.total}
        self.callback.on_training_start(local, globals())
        return self

    def step(self, count: int, metrics: Metrics) -> bool:
        """Called after every step of the loop; False ends the loop."""
        self.steps += count
        go_on = self.callback.on_step()
        self.bar.update(count)
        if self.steps % self.log_interval < count:
            self._log(metrics)
        return go_on and not self.interrupted

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
        self.bar.close()
        self.callback.on_training_end()
        if self.borrowed_env:
            self.agent._env = None
        if self.interrupted and error is None:
            folder = Path(self.agent.logger.get_dir() or ".")
            path = self.agent.save(folder / f"{type(self.agent).__name__}_interrupted.zip")
            raise KeyboardInterrupt(f"stopped after {self.steps} of {self.total} steps; the agent is saved in {path}")

    def _on_interrupt(self, *_: object) -> None:
        if self.interrupted:  # a second Ctrl-C does not wait
            raise KeyboardInterrupt
        self.interrupted = True

    def _log(self, metrics: Metrics) -> None:
        logger, now = self.agent.logger, time.perf_counter()
        values = {name: value.tolist() for name, value in metrics.items()}
        for name, value in values.items():
            members = enumerate(value) if isinstance(value, list) else ()
            logger.record(name, float(np.mean(value)))
            for index, member in members:
                logger.record(f"{name}/member_{index}", member)
        if self.agent.episodes:
            logger.record("rollout/ep_rew_mean", float(np.mean([e["r"] for e in self.agent.episodes])))
            logger.record("rollout/ep_len_mean", float(np.mean([e["l"] for e in self.agent.episodes])))
        logger.record("time/steps_per_second", self.log_interval / max(now - self.logged, 1e-9))
        logger.record("time/total_timesteps", self.agent.num_timesteps)
        logger.dump(self.agent.num_timesteps)
        self.logged = now
        losses = {name: float(np.mean(value)) for name, value in values.items() if name.endswith("/loss")}
        self.bar.set_postfix({name.removesuffix("/loss"): f"{value:.3g}" for name, value in losses.items()})


def init_callback(agent: Agent, callback: MaybeCallback) -> BaseCallback:
    """SB3's rules: one callback, a list of them, a function, or None."""
    if callback is None or isinstance(callback, list):
        callback = CallbackList(callback or [])
    elif not isinstance(callback, BaseCallback):
        callback = ConvertCallback(callback)
    callback.init_callback(agent)  # type: ignore[arg-type]
    return callback


class DataOnly(gym.Env):
    """Stands in for the training environment of an agent that has only data."""

    def __init__(self, spec: DataSpec):
        self.observation_space = spec.observation_space
        self.action_space = spec.action_space


def vectorize(env: gym.Env | VecEnv, spec: DataSpec) -> VecEnv:
    """A VecEnv whose episodes are monitored, checked against the dataset's spaces."""
    if isinstance(env, VecNormalize):
        raise ValueError(
            "VecNormalize would normalise twice: the agent normalises by itself, give the environment inside it"
        )
    spec.check_env(env.observation_space, env.action_space)
    if isinstance(env, VecEnv):
        return env
    return DummyVecEnv([lambda: Monitor(env)])


def make_logger(name: str, verbose: int, folder: str | None) -> Logger:
    """SB3's logger: printed if verbose; in `folder`, a numbered run with CSV and TensorBoard files."""
    if folder is None:
        return Logger(None, [HumanOutputFormat(_stdout())] if verbose else [])
    run = f"{name}_{get_latest_run_id(folder, name) + 1}"
    return configure(str(Path(folder) / run), [*(["stdout"] if verbose else []), "csv", "tensorboard"])


def _stdout() -> Any:
    import sys

    return sys.stdout


def keep_memory() -> None:
    """Tells glibc to keep freed memory: an update frees what the next one asks for, and fresh pages cost more than
    the arithmetic on them. A no-op on other C libraries.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc accepts
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)


def choose_device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_precision(precision: str) -> str:
    """Raises ValueError for an unknown one; warns where the CPU has no bf16 products and fp32 is used all the same."""
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    if precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        warnings.warn(
            "this CPU has no bf16 matrix products (AVX-512 or AMX): precision='bf16' runs in fp32", stacklevel=4
        )
    return precision


@contextmanager
def compute(precision: str) -> Iterator[None]:
    """Where gradient steps run. With "bf16", oneDNN rounds the operands of fp32 matrix products; all else stays fp32."""
    keep_memory()
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = backend.fp32_precision
    backend.fp32_precision = "bf16" if precision == "bf16" else before
    try:
        yield
    finally:
        backend.fp32_precision = before

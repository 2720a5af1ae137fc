"""What goes on beside the gradient steps, with Stable-Baselines3's parts: callbacks, log, environments, Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from zoo.agents.core.divergence import check_agent
from zoo.agents.core.learner import Learner, Metrics
from zoo.agents.core.spec import DataSpec
from zoo.agents.files.saving import save_agent
from zoo.agents.loop.progress import Progress
from zoo.export.stopping import Interrupt, Stopped, interruptible


@contextmanager
def running(
    agent: Learner, total: int, callback: MaybeCallback, log_interval: int, progress_bar: bool | None
) -> Iterator[Run]:
    """The surroundings of one call of learn_offline or finetune_online.

    Ctrl-C, SIGTERM and SIGHUP let the step in progress end, then write a checkpoint and raise Stopped, a
    KeyboardInterrupt that says where. A second signal does not wait.
    """
    bar = Progress(total, "online" if agent.online else "offline", progress_bar)
    with bar, interruptible() as interrupt, some_env(agent):
        run = Run(agent, init_callback(agent, callback), interrupt, bar, log_interval)
        run.callback.on_training_start(begin_locals(agent, total, log_interval, progress_bar), globals())
        check_agent(agent)
        agent.dump = run.log
        try:
            yield run
        finally:
            agent.dump = None
        check_agent(agent)
        run.callback.on_training_end()
    if interrupt.requested:
        path = save_agent(agent, Path(agent.logger.get_dir() or ".") / f"{type(agent).__name__}_interrupted.zip")
        raise Stopped(f"stopped after {run.steps} of {total} steps; the agent is saved in {path}", interrupt.requested)


class Run:
    """Told of every step: calls the callback, moves the bar, writes the log."""

    def __init__(self, agent: Learner, callback: BaseCallback, interrupt: Interrupt, bar: Progress, log_interval: int):
        self.agent = agent
        self.callback = callback
        self.interrupt = interrupt
        self.bar = bar
        self.log_interval = log_interval
        self.logged = time.perf_counter()
        self.steps = 0
        self.done = self.logged_done = 0  # steps, those of a preparation too
        self.metrics: Metrics = {}

    def step(self, count: int, metrics: Metrics) -> bool:
        """Called after every step of the loop; False ends the loop."""
        self.steps += count
        self.done += count
        self.metrics = metrics
        go_on = self.callback.on_step()
        self.bar.update(count)
        if self.steps % self.log_interval < count:
            self.log()
        return go_on and not self.interrupt.requested

    def prepared(self) -> bool:
        """Called after every step of a preparation, which is no step of a callback's clock; False ends it.

        A callback that has on_preparation_step is told, such as SaveLatest.
        """
        self.done += 1
        for callback in flat(self.callback):
            if hasattr(callback, "on_preparation_step"):
                callback.on_preparation_step()
        return not self.interrupt.requested

    def log(self) -> None:
        """Writes the log: every log_interval steps, and whenever a callback asks for it (Agent.dump_logs)."""
        check_agent(self.agent)
        logger, now = self.agent.logger, time.perf_counter()
        values = {name: value.tolist() for name, value in self.metrics.items()}
        for name, value in values.items():
            logger.record(name, float(np.mean(value)))
            for index, member in enumerate(value) if isinstance(value, list) else ():
                logger.record(f"{name}/member_{index}", member)
        if self.agent.episodes:
            logger.record("rollout/ep_rew_mean", float(np.mean([e["r"] for e in self.agent.episodes])))
            logger.record("rollout/ep_len_mean", float(np.mean([e["l"] for e in self.agent.episodes])))
        if self.agent.successes:
            logger.record("rollout/success_rate", float(np.mean(self.agent.successes)))
        logger.record("time/steps_per_second", (self.done - self.logged_done) / max(now - self.logged, 1e-9))
        logger.record("time/total_timesteps", self.agent.num_timesteps)
        logger.dump(self.agent.num_timesteps)
        self.logged, self.logged_done = now, self.done
        losses = {name: float(np.mean(value)) for name, value in values.items() if name.endswith("/loss")}
        self.bar.losses({name.removesuffix("/loss"): value for name, value in losses.items()})


@contextmanager
def some_env(agent: Learner) -> Iterator[None]:
    """SB3's EvalCallback asks for a training environment; an agent that has only data gets a stand-in."""
    if agent.get_env() is not None:
        yield
        return
    agent._env = DummyVecEnv([lambda: DataOnly(agent.spec)])
    try:
        yield
    finally:
        agent._env = None


def begin_locals(agent: Learner, total: int, log_interval: int, progress_bar: bool | None) -> dict[str, Any]:
    """What SB3's callbacks look for in the loop's variables. Offline no episode ever ends."""
    envs = agent.get_env().num_envs  # type: ignore[union-attr]
    return {
        "self": agent,
        "total_timesteps": agent.num_timesteps + total,
        "log_interval": log_interval,
        "progress_bar": bool(progress_bar),
        "tb_log_name": type(agent).__name__,
        "dones": np.zeros(envs, bool),
        "rewards": np.zeros(envs),
        "infos": [{} for _ in range(envs)],
    }


def init_callback(agent: Learner, callback: MaybeCallback) -> BaseCallback:
    """SB3's rules: one callback, a list of them, a function, or None."""
    if callback is None or isinstance(callback, list):
        callback = CallbackList(callback or [])
    elif not isinstance(callback, BaseCallback):
        callback = ConvertCallback(callback)
    callback.init_callback(agent)  # type: ignore[arg-type]
    return callback


def flat(callback: BaseCallback) -> Iterator[BaseCallback]:
    """A callback, or those of a list of lists."""
    if isinstance(callback, CallbackList):
        for each in callback.callbacks:
            yield from flat(each)
    else:
        yield callback


class DataOnly(gym.Env):
    """Stands in for the training environment of an agent that has only data."""

    def __init__(self, spec: DataSpec):
        self.observation_space = spec.observation_space
        self.action_space = spec.action_space

"""The two loops, offline and online."""

from __future__ import annotations

import numbers
import time

import numpy as np
import torch
from stable_baselines3.common.type_aliases import MaybeCallback

from zoo.agents.core.batch import CHOSEN, Batch
from zoo.agents.core.learner import Learner, Metrics
from zoo.agents.core.replay import Table
from zoo.agents.core.spec import Dataset
from zoo.agents.loop.border import Border, Step, copying, monitored
from zoo.agents.loop.engine import Engine
from zoo.agents.loop.progress import Progress, duration
from zoo.agents.loop.run import Run, running

LONG = 1_000  # steps of a preparation that nobody should have to wonder about
PROBE = 20  # steps after which its duration is told


def learn_offline(
    agent: Learner,
    dataset: Dataset,
    total_timesteps: int,
    callback: MaybeCallback,
    log_interval: int,
    progress_bar: bool | None,
) -> None:
    dataset = agent.stacked(dataset)
    table = agent.offline_table(dataset)
    agent.online = False
    with agent.compute(), running(agent, total_timesteps, callback, log_interval, progress_bar) as run:
        if not prepare(agent, table, run, log_interval, progress_bar):
            return
        agent.annotate(table, dataset)
        engine = Engine.of(agent)
        metrics: Metrics = {}
        for _ in range(total_timesteps):
            # The last of each: not every update moves the actor.
            table.advance(agent.config.batch_size)
            metrics = metrics | engine.update(lambda: agent.sample(table))
            agent.num_timesteps += 1
            if not run.step(1, metrics):
                break


def finetune_online(
    agent: Learner,
    dataset: Dataset | None,
    total_timesteps: int,
    callback: MaybeCallback,
    log_interval: int,
    progress_bar: bool | None,
) -> None:
    if agent.offline_only is not None:
        raise ValueError(f"{type(agent).__name__} {agent.offline_only}")
    env = agent.get_env()
    if env is None:
        raise ValueError("fine-tuning needs an environment: finetune_online(env, ...), or agent.set_env(env) before")
    if agent.population is not None:
        raise ValueError(f"fine-tune the members of a population of {agent.population} one by one: agent.member(i)")
    config, offline_size = agent.config, agent.config.offline_rows
    if agent.prepared < agent.preparation_steps:
        raise ValueError(
            f"{type(agent).__name__} has not finished its preparation on the data ({agent.prepared} of "
            f"{agent.preparation_steps} steps): call learn_offline(dataset, ...) before finetune_online"
        )
    dataset = None if dataset is None else agent.stacked(dataset)
    offline = online_data(agent, dataset)
    if agent.replay is None:
        agent.replay = begin_replay(agent, offline, dataset)
    replay = agent.replay
    agent.online = True

    def draw() -> Batch:
        if offline is None or not offline_size:
            return agent.sample(replay)
        return agent.sample_mixed(offline, replay, offline_size)

    with (
        agent.compute(),
        copying(env),
        running(agent, total_timesteps, callback, log_interval, progress_bar) as run,
    ):
        border = Border(env, agent.spec)
        env.seed((agent.seed + agent.env_steps) % 2**31)
        obs = border.reset()
        engine = Engine.of(agent)
        metrics: Metrics = {}
        episodes = OnlineEpisodes(agent, replay, env.num_envs)
        for _ in range(0, total_timesteps, env.num_envs):
            run.callback.on_rollout_start()
            action = explore(agent, obs)
            step = border.step(action)
            episodes.append(transition(obs, action, step), step.dones)
            obs = step.observations
            agent.env_steps += env.num_envs
            agent.num_timesteps += env.num_envs
            agent.episodes.extend(filter(None, map(monitored, step.infos)))
            agent.successes.extend(succeeded(step))
            told = {"new_obs": obs.copy(), "actions": action.copy(), "rewards": step.rewards}
            run.callback.update_locals(told | {"infos": step.infos, "dones": step.dones})
            run.callback.on_rollout_end()
            if agent.env_steps > config.learning_starts:
                for _ in range(config.updates_per_step * env.num_envs):
                    agent.online_updates += 1
                    if offline is not None:
                        offline.advance(offline_size)
                    metrics = metrics | engine.update(draw, resident=False)  # the buffer grows
            if not run.step(env.num_envs, metrics):
                break


def prepare(agent: Learner, table: Table, run: Run, log_interval: int, progress_bar: bool | None) -> bool:
    """What the agent prepares before its first gradient step, or the rest of it. False if it was interrupted.

    A long one is announced: what, why, how many steps, about how long, and the field that shortens it.
    """
    todo = agent.preparation_steps - agent.prepared
    tell = todo >= LONG or (bool(agent.verbose) and todo > 0)
    if tell:
        print(announcement(agent, todo), flush=True)
    engine = Engine.of(agent)
    began = time.monotonic()
    with Progress(todo, "preparation", progress_bar) as bar:
        for step in range(todo):
            table.advance(agent.config.batch_size)
            metrics = engine.run("preparation", lambda: agent.prepare(table))
            agent.prepared += 1
            bar.update(1)
            if tell and step == PROBE:
                print(f"preparation: about {duration((time.monotonic() - began) / PROBE * todo)} here", flush=True)
            if agent.prepared % log_interval == 0:
                run.metrics = metrics | {"time/preparation_steps": torch.tensor(agent.prepared)}
                run.log()
            if not run.prepared():
                return False
    return True


def announcement(agent: Learner, todo: int) -> str:
    """What is prepared before the first gradient step, and why."""
    about = agent.preparation
    if about is None:
        return f"{type(agent).__name__} prepares for {todo:,} steps before its first gradient step"
    return (
        f"{type(agent).__name__} first fits {about.what}, {todo:,} steps before its first gradient step: {about.why}. "
        f"Fewer: {about.field}={min(todo // 10, 10_000)}"
    )


def online_data(agent: Learner, dataset: Dataset | None) -> Table | None:
    """The dataset's rows, where fine-tuning still takes some of them; None where it does not."""
    config = agent.config
    begins = config.buffer_begins_with_data and agent.replay is None
    if not (config.offline_rows or begins):
        return None
    if dataset is None:
        what = (
            f"begins its online buffer with the dataset (online_buffer={config.online_buffer!r})"
            if begins
            else f"takes {config.offline_rows} of {config.batch_size} rows of each online batch from the offline data"
        )
        raise ValueError(
            f"{type(agent).__name__} {what}: give finetune_online(..., dataset=dataset), "
            'or build the agent with online_buffer="none" or offline_ratio=0.0'
        )
    dataset = agent.stacked(dataset)
    table = agent.offline_table(dataset)
    agent.annotate(table, dataset)
    return table


def begin_replay(agent: Learner, offline: Table | None, dataset: Dataset | None) -> Table:
    """An online buffer with room for its first rows beside the new ones, so that neither pushes the other out early."""
    if offline is None or dataset is None or not agent.config.buffer_begins_with_data:
        return agent.new_table(agent.config.buffer_size)
    first = offline.fetch(agent.starting_rows(offline, dataset))
    replay = agent.new_table(agent.config.buffer_size + len(first))
    replay.append_rows(first)
    return replay


class OnlineEpisodes:
    """Puts online transitions into the buffer, and what is known of a row only later into the row."""

    def __init__(self, agent: Learner, replay: Table, num_envs: int):
        self.agent, self.replay = agent, replay
        self.rows: list[list[int]] = [[] for _ in range(num_envs)]  # of the episode that each environment is in
        self.kept = max(replay.capacity // num_envs, 1)  # the last rows of an episode that are not overwritten

    def append(self, columns: dict[str, np.ndarray], done: np.ndarray) -> None:
        """One transition of each environment. done: (n,), whether it ended its episode."""
        if "next_actions" in self.replay.layout.slices:
            self.supply_next_actions(columns["actions"])
        for rows, row in zip(self.rows, self.replay.append(columns).tolist(), strict=True):
            rows.append(row)
        for i in np.flatnonzero(done):
            episode = torch.tensor(self.rows[i][-self.kept :], device=self.agent.device)
            self.agent.episode_ended(self.replay, episode, bool(columns["terminations"][i]))
            self.rows[i] = []

    def supply_next_actions(self, actions: np.ndarray) -> None:
        """actions (n, A) follow on the last transition of each episode that goes on."""
        going_on = [i for i, rows in enumerate(self.rows) if rows]
        last = torch.tensor([self.rows[i][-1] for i in going_on], dtype=torch.long, device=self.agent.device)
        self.replay.column("next_actions")[last] = torch.from_numpy(actions[going_on]).to(self.replay.rows)
        self.replay.column("next_action_valid")[last] = 1.0


@torch.no_grad()
def explore(agent: Learner, obs: np.ndarray) -> np.ndarray:
    rows = torch.as_tensor(obs, dtype=agent.dtype, device=agent.device)
    return agent.explore(rows).to("cpu", torch.float32).numpy()


def transition(obs: np.ndarray, action: np.ndarray, step: Step) -> dict[str, np.ndarray]:
    """One step of n environments as columns."""
    return {
        "observations": np.asarray(obs, dtype=np.float32),
        "actions": action,
        "rewards": step.rewards,
        "next_observations": np.asarray(step.successors, dtype=np.float32),
        "terminations": step.terminations,
        "next_actions": action,  # not known before the next step: not valid, the action itself stands in
        "next_action_valid": np.zeros(len(action)),
        **{name: np.full(len(action), value) for name, value in CHOSEN.items()},
    }


def succeeded(step: Step) -> list[float]:
    """Whether the episodes that have ended succeeded, of those whose info has a usable "is_success"."""
    told = [info.get("is_success") for info, done in zip(step.infos, step.dones, strict=True) if done]
    return [float(success) for success in told if isinstance(success, bool | np.bool_ | numbers.Real)]

"""The two loops, offline and online."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.type_aliases import MaybeCallback

from agents.replay import Table
from agents.run import running
from agents.spec import Dataset

if TYPE_CHECKING:
    from agents.base import Agent, Metrics


def learn_offline(
    agent: Agent, dataset: Dataset, total_timesteps: int, callback: MaybeCallback, log_interval: int, progress_bar: bool
) -> None:
    table = offline_table(agent, dataset)
    agent.online = False
    with agent.compute(), running(agent, total_timesteps, callback, log_interval, progress_bar) as run:
        metrics: Metrics = {}
        for _ in range(total_timesteps):
            metrics = metrics | agent.update(agent.sample(table))  # the last of each: not every update moves the actor
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
    offline = offline_table(agent, dataset) if offline_size and dataset is not None else None
    if agent.replay is None:
        agent.replay = agent.new_replay()
    replay = agent.replay
    agent.online = True

    with agent.compute(), running(agent, total_timesteps, callback, log_interval, progress_bar) as run:
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
                    metrics = metrics | agent.update(batch)
            if not run.step(env.num_envs, metrics):
                break


def offline_table(agent: Agent, dataset: Dataset) -> Table:
    """The dataset on the agent's device. Raises ValueError for spaces that are not those the agent was built for."""
    agent.spec.check_env(dataset.observation_space, dataset.action_space)
    return Table.of(dataset, agent.layout, agent.device, agent.dtype)


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

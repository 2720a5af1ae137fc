"""The main job on real data, in minutes on two cores: offline, online, ONNX, and the policy that a robot would run."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.agents import PARS
from zoo.cli.resuming import begin_run
from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.load import load_dataset
from zoo.evaluation.callbacks import Evaluation, Point, SaveLatest, read_curve
from zoo.evaluation.envs import make_env
from zoo.evaluation.plot import plot_curve
from zoo.evaluation.rollouts import evaluate
from zoo_robot.runtime import OnnxPolicy

DATASET = "hopper-medium-replay"
OFFLINE_STEPS = 20_000
ONLINE_STEPS = 1_500
EVAL_EVERY = 2_500  # gradient steps, offline
# Smaller than the paper's ten critics of three layers and twenty updates a step, so that it ends in minutes. For so
# few updates the targets follow faster, and the actor clones a little, offline and online.
SETTINGS: dict[str, Any] = {
    "critic_hidden": (128, 128),
    "n_critics": 4,
    "target_subset": 4,
    "target_delay": 1,
    "tau": 0.01,
    "beta": 0.1,
    "online_beta": 0.1,
    "updates_per_step": 4,
}


def demonstrate(out: Path, seed: int, fresh: bool = False) -> None:
    """Every stage leaves a file in `out`; a stage whose file is there is not repeated."""
    torch.set_num_threads(1)  # a second core helps products this small little, and a busy one holds them up
    stages = {"offline_steps": OFFLINE_STEPS, "online_steps": ONLINE_STEPS}
    asked = {"command": "zoo demo", "seed": seed, **stages, "settings": SETTINGS}
    begin_run(out, asked, fresh, earlier_seed(out / "offline.zip"))
    started = time.perf_counter()
    dataset = load_dataset(DATASET)
    print(
        f"data: {len(dataset):,} transitions, {dataset.num_episodes} episodes of {dataset.env_id}, logged by a learner"
    )
    curve = out / "curve.csv"
    evaluation = Evaluation(lambda: make_env(dataset), EVAL_EVERY, curve)

    agent = train_offline(dataset, out / "offline.zip", seed, evaluation)
    offline = evaluate(agent, lambda: make_env(dataset))
    agent = finetune(agent, dataset, out / "finetuned.zip", curve)
    online = evaluate(agent, lambda: make_env(dataset))

    deploy = agent.export_onnx(out / "deploy")
    policy = OnnxPolicy(deploy / "policy.onnx")
    onnx = evaluate(policy, lambda: make_env(dataset))
    try:
        picture = str(plot_curve(read_curve(curve), dataset.episode_returns(), out / "curve.png"))
    except ImportError:
        picture = "no picture, for which matplotlib is not installed"

    print(report(dataset.episode_returns(), offline, online, onnx, latency(policy), read_curve(curve)))
    print(f"files: {out / 'offline.zip'}, {out / 'finetuned.zip'}, {deploy}/, {picture}")
    print(f"took {(time.perf_counter() - started) / 60:.1f} minutes")


def earlier_seed(checkpoint: Path) -> dict[str, int] | None:
    """What a demo of an earlier version, which wrote no run.json, tells of itself."""
    return {"seed": PARS.load(checkpoint).seed} if checkpoint.exists() else None


def train_offline(dataset: OfflineDataset, path: Path, seed: int, evaluation: Evaluation) -> PARS:
    agent = PARS.load(path) if path.exists() else PARS(dataset, seed=seed, **SETTINGS)
    agent.tensorboard_log = str(path.parent / "logs")
    remaining = OFFLINE_STEPS - agent.num_timesteps
    if remaining > 0:
        print(f"offline: PARS, {remaining:,} gradient steps to go")
        agent.learn_offline(dataset, remaining, callback=[evaluation, SaveLatest(path, EVAL_EVERY)], progress_bar=True)
    return agent


def finetune(agent: PARS, dataset: OfflineDataset, path: Path, curve: Path) -> PARS:
    agent = PARS.load(path) if path.exists() else agent
    agent.tensorboard_log = str(path.parent / "logs")
    remaining = ONLINE_STEPS - agent.env_steps
    if remaining > 0:
        print(f"online: {remaining:,} steps in {dataset.env_id} to go, {agent.config.updates_per_step} updates each")
        every = ONLINE_STEPS // 3
        evaluation = Evaluation(lambda: make_env(dataset), every, curve)
        callbacks: list = [evaluation, SaveLatest(path, every)]
        agent.finetune_online(make_env(dataset), remaining, callback=callbacks, progress_bar=True, dataset=dataset)
    return agent


def latency(policy: OnnxPolicy, calls: int = 1000) -> np.ndarray:
    """Milliseconds of each single-observation prediction."""
    observation = np.zeros(policy.observation_size, np.float32)
    times = np.empty(calls)
    for i in range(calls):
        begin = time.perf_counter()
        policy.predict(observation)
        times[i] = (time.perf_counter() - begin) * 1e3
    return times


def report(
    data: np.ndarray,
    offline: np.ndarray,
    online: np.ndarray,
    onnx: np.ndarray,
    times: np.ndarray,
    curve: Sequence[Point],
) -> str:
    """The table: undiscounted returns over episodes; the three policies on the same ten reset seeds.

    Beside the last evaluation of a phase stands the mean of its last three: one alone may be the best of a noisy curve.
    """
    evaluations = {phase: [point.return_mean for point in curve if point.online == phase] for phase in (False, True)}

    def row(name: str, returns: np.ndarray, phase: bool | None = None) -> str:
        tail = "" if phase is None or not evaluations[phase] else f"{np.mean(evaluations[phase][-3:]):.0f}"
        return f"{name:<38}{returns.mean():>9.0f}{returns.std():>9.0f}{returns.max():>9.0f}{tail:>12}"

    difference = abs(onnx.mean() - online.mean()) / max(abs(online.mean()), 1e-9)
    return "\n".join(
        [
            "",
            f"{'return of an episode':<38}{'mean':>9}{'std':>9}{'best':>9}{'mean of 3':>12}",
            "-" * 77,
            row("the data", data),
            row("PARS after offline training", offline, False),
            row("PARS after fine-tuning online", online, True),
            row("the exported ONNX policy, no torch", onnx),
            "-" * 77,
            *(
                f"evaluations {'online' if phase else 'offline'}: {', '.join(f'{value:.0f}' for value in returns)}"
                for phase, returns in evaluations.items()
            ),
            f"ONNX against the agent on the same seeds: {difference:.2%} apart",
            f"latency of one ONNX decision: {np.median(times):.3f} ms median, {np.quantile(times, 0.99):.3f} ms at p99",
            "",
        ]
    )

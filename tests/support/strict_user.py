"""A user's script, for mypy --strict: every name has a type of its own."""

from pathlib import Path

import numpy as np

import zoo
from zoo import PARS, TD3BC, Agent, OfflineDataset, evaluate, load_dataset, make_env
from zoo_robot import ControlLoop, Limits, OnnxPolicy

dataset: OfflineDataset = load_dataset("hopper-medium-replay")
agent: PARS = PARS(dataset, seed=0, alpha=0.01)
agent = agent.learn_offline(dataset, total_timesteps=100, progress_bar=True)
agent.finetune_online(make_env(dataset), total_timesteps=20, dataset=dataset)
action, _ = agent.predict(dataset.observations[0])
path: Path = agent.save("hopper.zip")
again: PARS = PARS.load(path)
anything: Agent = zoo.load(path)
members: list[TD3BC] = [TD3BC(dataset, population=2).member(i) for i in range(2)]
bundle: Path = agent.export_onnx("deploy", evaluation_samples=50)
returns: np.ndarray = evaluate(agent, lambda: make_env(dataset), 3)

policy = OnnxPolicy(bundle)
row: np.ndarray = policy.predict(np.zeros(policy.observation_size, np.float32))
loop = ControlLoop(
    read=lambda: np.zeros(11),
    policy=policy.predict,
    write=print,
    limits=Limits(policy.low, policy.high, safe=[0.0, 0.0, 0.0]),
    rate=50.0,
    observation_size=policy.observation_size,
    stale_after=0.05,
)

"""The d3rlpy side of d3rlpy_speed.py, which starts it in d3rlpy's own environment.

Says {"d3rlpy": version, "torch": version}, then answers each line of JSON on its input with one on its output:
{"case": name} asks for what a step works on, {"case": name, "what": "step" or "sample", "each": n} for the milliseconds
of one update in a round of n turns of two.
"""

import json
import os
import sys
from collections.abc import Iterable

import d3rlpy
import torch
from d3rlpy.algos import CQLConfig, IQLConfig, ReBRACConfig, TD3PlusBCConfig
from d3rlpy.dataset import MDPDataset
from d3rlpy.models import VectorEncoderFactory
from measuring import BATCH, clocked, random_columns
from torch import nn

THREE = [256, 256, 256]
CONFIGS = {
    "TD3BC": TD3PlusBCConfig(),
    "IQL": IQLConfig(),
    "ReBRAC": ReBRACConfig(
        batch_size=BATCH,
        actor_encoder_factory=VectorEncoderFactory(THREE),
        critic_encoder_factory=VectorEncoderFactory(THREE, use_layer_norm=True),
    ),
    "CQL": CQLConfig(alpha_learning_rate=0.0),  # a fixed weight of the penalty
}


def parameters(networks: Iterable[nn.Module]) -> int:
    """Weights and biases in linear layers and LayerNorms."""
    layers = (layer for network in networks for layer in network.modules())
    counted = (layer for layer in layers if isinstance(layer, nn.Linear | nn.LayerNorm))
    return sum(p.numel() for layer in counted for p in layer.parameters())


class Algorithm:
    def __init__(self, name: str, dataset: MDPDataset):
        self.dataset = dataset
        self.algo = CONFIGS[name].create(device=False)
        self.algo.build_with_dataset(dataset)

    def sample(self) -> d3rlpy.dataset.TransitionMiniBatch:
        return self.dataset.sample_transition_batch(self.algo.config.batch_size)

    def step(self) -> None:
        self.algo.update(self.sample())

    def works_on(self) -> dict[str, object]:
        config, modules = self.algo.config, self.algo.impl.modules
        networks = [modules.policy, *modules.q_funcs, *([modules.value_func] if hasattr(modules, "value_func") else [])]
        activations = {
            type(layer).__name__ for n in networks for layer in n.modules() if "activation" in type(layer).__module__
        }
        return {
            "batch": config.batch_size,
            "critics": len(modules.q_funcs),
            "updates for each of the actor's": getattr(config, "update_actor_interval", 1),
            "actions of each kind asked about": getattr(config, "n_action_samples", 0),
            "actor's parameters": parameters([modules.policy]),
            "critics' parameters": parameters(modules.q_funcs),
            "value's parameters": parameters(networks[1 + len(modules.q_funcs) :]),
            "activations": sorted(activations),
        }


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # d3rlpy logs to the standard output
    torch.set_num_threads(1)
    columns = random_columns()
    flags = (columns[name].astype("float32") for name in ("terminations", "truncations"))
    dataset = MDPDataset(columns["observations"], columns["actions"], columns["rewards"], *flags)
    made: dict[str, Algorithm] = {}
    print(json.dumps({"d3rlpy": d3rlpy.__version__, "torch": torch.__version__}), file=answers, flush=True)
    for message in map(json.loads, sys.stdin):
        name = message["case"]
        algorithm = made[name] = made.get(name) or Algorithm(name, dataset)
        if "what" in message:
            run = {"step": algorithm.step, "sample": algorithm.sample}[message["what"]]
            answer: object = clocked(run, 2 * message["each"], updates=1)()
        else:
            answer = algorithm.works_on()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

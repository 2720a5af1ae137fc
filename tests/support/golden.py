"""Golden numbers recorded from other implementations: reading them, and replaying their random draws.

The folder is the environment variable GOLDEN_VECTORS, by default tests/vectors (its README.md explains the keys).
Sizes, seeds and hyper-parameters all come from the case's own files.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.support.paths import VECTORS
from zoo.agents import Agent, Batch, DataSpec
from zoo.agents.core.presets import load_preset
from zoo.policies import MLP, LayerNorm

PARTS = ("weight", "bias")
FOLDER = Path(os.environ.get("GOLDEN_VECTORS", VECTORS))


def cases(pattern: str) -> list[str]:
    found = sorted(path.stem for path in FOLDER.glob(f"{pattern}.npz"))
    assert found, f"no golden vectors {pattern} in {FOLDER}"
    return found


class Case:
    """One case: its arrays as float64 tensors by key, and the meaning that the JSON gives them."""

    def __init__(self, name: str):
        self.info: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
            self.arrays = {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}
        self.hyper = self.info["hyperparameters"]
        self.tolerance = {key: self.info["tolerance"][key] for key in ("rtol", "atol")}

    def batch(self) -> Batch:
        """The recorded batch; every row's next action is valid, and the sub-dataset is the recorded one or all."""
        columns = {key.split("/")[1]: value for key, value in self.arrays.items() if key.startswith("batch/")}
        if "trusts" in columns:
            trusts = columns.pop("trusts")
            columns["trusted"] = trusts if self.hyper["select_actions"] else torch.ones_like(trusts)
        if "next_actions" in columns:
            columns["next_action_valid"] = torch.ones_like(columns["rewards"])
        return Batch(**columns)

    def spec(self, reward_min: float = 0.0) -> DataSpec:
        size, actions = (self.info["dimensions"][name] for name in ("S", "A"))
        box = (1.0,) * actions
        return DataSpec("golden", None, size, tuple(-b for b in box), box, 0, reward_min, 1.0, {})

    def hidden(self, net: str) -> tuple[int, ...]:
        """Widths of the hidden layers l0, l1, ... of a network, from its stored biases; the last one is the output."""
        widths = []
        while (key := f"params/{net}/l{len(widths)}/bias") in self.arrays:
            widths.append(len(self.arrays[key]))
        return tuple(widths[:-1])

    def members(self, net: str) -> int:
        return len({key.split("/")[2] for key in self.arrays if key.startswith(f"params/{net}/")})

    def network(self, where: str, net: str, like: MLP, ensemble: bool) -> dict[str, Tensor]:
        """The tensors stored under `where`, such as params, after1 or expected/step1/grad/critic_loss, as ours."""
        prefixes = [f"{where}/{net}/{i}" for i in range(self.members(net))] if ensemble else [f"{where}/{net}"]
        stacked = {}
        for ours in dict(like.named_parameters()):
            kind, index, part = ours.split(".")  # linears.0.weight, norms.1.bias
            theirs = f"{'ln' if kind == 'norms' else 'l'}{index}/{part}"
            tensors = [self.arrays[f"{prefix}/{theirs}"] for prefix in prefixes]
            if kind == "linears" and part == "weight":
                tensors = [tensor.mT for tensor in tensors]  # they store (out, in)
            stacked[ours] = torch.stack(tensors) if ensemble else tensors[0]
        return stacked

    def vae(self, where: str) -> dict[str, Tensor]:
        """The stored VAE as a ConditionalVAE's parameters: its encoder's two heads are the halves of one layer."""
        heads = [[self.arrays[f"{where}/vae/{head}/{part}"] for head in ("mean", "log_std")] for part in PARTS]
        layers = {"encoder.linears.2": [torch.cat(pair) for pair in heads]}
        for ours, theirs in {"encoder": ("e1", "e2"), "decoder": ("d1", "d2", "d3")}.items():
            for index, layer in enumerate(theirs):
                layers[f"{ours}.linears.{index}"] = [self.arrays[f"{where}/vae/{layer}/{part}"] for part in PARTS]
        return {
            f"{name}.{part}": tensor.mT if part == "weight" else tensor
            for name, tensors in layers.items()
            for part, tensor in zip(PARTS, tensors, strict=True)
        }

    def stored(self, where: str) -> bool:
        return any(key.startswith(f"{where}/") for key in self.arrays)

    def load(self, where: str, agent: Agent) -> None:
        """Puts the stored parameters into the agent's networks and targets."""
        eps = self.info["networks"].get("layer_norm_eps", 1e-5)
        for module in agent.modules():
            if isinstance(module, LayerNorm):
                module.eps = eps
        if where == "params" and hasattr(agent, "density"):
            agent.density.load_state_dict(self.vae(where))
        for net, mlp, ensemble in networks(agent):
            mlp.load_state_dict(self.network(where, net, mlp, ensemble))


def networks(agent: Agent) -> list[tuple[str, MLP, bool]]:
    """The vectors' names of an actor-critic's networks, the networks, and whether they are ensembles."""
    extra = [("coefficient", agent.coefficient.trunk, False)] if hasattr(agent, "coefficient") else []
    return [
        *extra,
        ("actor", agent.policy.actor.trunk, False),
        ("critic", agent.policy.critic.trunk, True),
        ("actor_target", agent.target_actor.trunk, False),
        ("critic_target", agent.target_critic.trunk, True),
    ]


def of_preset(
    cls: type[Agent],
    spec: DataSpec,
    settings: dict[str, Any],
    dataset: str = "golden",
    variant: str | None = None,
    other_form: tuple[str, ...] = (),
) -> Agent:
    """A float64 agent with a preset's settings, or the defaults, and the numbers and sizes of a recorded case.

    The settings may not choose another form of the algorithm than the preset's (a word, a flag, a None), except for the
    fields of other_form: else the test would not say that the preset computes what was recorded.
    """
    preset = load_preset(cls.__name__, dataset, variant)
    agent = cls(spec, dtype=torch.float64, **(preset | settings))
    own = cls.Config.build(preset)
    for name in set(settings) - set(other_form):
        mine, presets = getattr(agent.config, name), getattr(own, name)
        assert mine == presets or (number(mine) and number(presets)), f"{name} is {mine!r}, the preset has {presets!r}"
    return agent


def number(value: Any) -> bool:
    """Whether a setting is a number, or the widths of layers."""
    return not isinstance(value, bool) and isinstance(value, int | float | tuple)


class RecordedDraws:
    """Stands in for zoo.agents.core.draws.Draws: hands out the numbers recorded for one update, by name."""

    def __init__(self, case: Case, step: int):
        self.draws = {
            key.split("/")[-1]: value for key, value in case.arrays.items() if key.startswith(f"draws/step{step}/")
        }

    def normal(self, name: str, like: Tensor) -> Tensor:
        drawn = self.draws[name]
        assert drawn.squeeze().shape == like.squeeze().shape  # one sample of each may have an axis or not
        return drawn.reshape(like.shape)

    uniform = normal

    def indices(self, name: str, shape: tuple[int, ...], below: int) -> Tensor:
        assert self.draws[name].shape == shape
        return self.draws[name].long()

    def subset(self, name: str, lead: tuple[int, ...], size: int, of: int) -> Tensor:
        assert self.draws[name].shape == (*lead, size)
        return self.draws[name]

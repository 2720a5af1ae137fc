"""Networks: plain nn.Modules whose every parameter may carry leading population and ensemble dimensions."""

from policies.actor import DeterministicActor, GaussianActor
from policies.critic import Critic, Value, minimum
from policies.distributions import TanhNormal
from policies.mlp import MLP, LayerNorm, Linear, final_uniform_
from policies.policy import Policy

__all__ = [
    "MLP",
    "Critic",
    "DeterministicActor",
    "GaussianActor",
    "LayerNorm",
    "Linear",
    "Policy",
    "TanhNormal",
    "Value",
    "final_uniform_",
    "minimum",
]

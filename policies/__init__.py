"""Networks: plain nn.Modules whose every parameter may carry leading population and ensemble dimensions."""

from policies.actor import DeterministicActor, GaussianActor
from policies.coefficient import Coefficient
from policies.critic import Critic, Value, minimum
from policies.density import ConditionalVAE, Density, GaussianDensity
from policies.distributions import TanhNormal
from policies.mlp import MLP, LayerNorm, Linear, final_uniform_, hidden_bias_
from policies.policy import Policy

__all__ = [
    "MLP",
    "Coefficient",
    "ConditionalVAE",
    "Critic",
    "Density",
    "DeterministicActor",
    "GaussianActor",
    "GaussianDensity",
    "LayerNorm",
    "Linear",
    "Policy",
    "TanhNormal",
    "Value",
    "final_uniform_",
    "hidden_bias_",
    "minimum",
]

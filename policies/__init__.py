"""Networks: plain nn.Modules whose every parameter may carry leading population and ensemble dimensions."""

from policies.actor import DeterministicActor, GaussianActor, NormalActor
from policies.coefficient import Coefficient
from policies.critic import Critic, Pessimistic, Value, mean, minimum
from policies.density import ConditionalVAE, Density, GaussianDensity
from policies.distributions import BoxNormal, TanhNormal
from policies.mlp import MLP, LayerNorm, Linear, final_uniform_, hidden_bias_, orthogonal_
from policies.policy import Policy
from policies.residual import ResidualMLP, SpectralLinear, folded

__all__ = [
    "MLP",
    "BoxNormal",
    "Coefficient",
    "ConditionalVAE",
    "Critic",
    "Density",
    "DeterministicActor",
    "GaussianActor",
    "GaussianDensity",
    "LayerNorm",
    "Linear",
    "NormalActor",
    "Pessimistic",
    "Policy",
    "ResidualMLP",
    "SpectralLinear",
    "TanhNormal",
    "Value",
    "final_uniform_",
    "folded",
    "hidden_bias_",
    "mean",
    "minimum",
    "orthogonal_",
]

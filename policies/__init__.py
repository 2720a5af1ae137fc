"""Networks: plain nn.Modules whose every parameter may carry leading population and ensemble dimensions."""

from zoo.policies.actor import DeterministicActor, GaussianActor, NormalActor
from zoo.policies.coefficient import Coefficient
from zoo.policies.critic import Critic, NoCritic, Pessimistic, Value, mean, minimum
from zoo.policies.density import ConditionalVAE, Density, DiffusionDensity, GaussianDensity
from zoo.policies.distributions import BoxNormal, TanhNormal
from zoo.policies.generative import DiffusionActor, GenerativeActor, OneStepActor, VelocityField
from zoo.policies.mlp import MLP, LayerNorm, Linear, final_uniform_, hidden_bias_, orthogonal_, xavier_uniform_
from zoo.policies.policy import Policy
from zoo.policies.residual import ResidualMLP, SpectralLinear, folded
from zoo.policies.sight import limit_sight, narrowed

__all__ = [
    "MLP",
    "BoxNormal",
    "Coefficient",
    "ConditionalVAE",
    "Critic",
    "Density",
    "DeterministicActor",
    "DiffusionActor",
    "DiffusionDensity",
    "GaussianActor",
    "GaussianDensity",
    "GenerativeActor",
    "LayerNorm",
    "Linear",
    "NoCritic",
    "NormalActor",
    "OneStepActor",
    "Pessimistic",
    "Policy",
    "ResidualMLP",
    "SpectralLinear",
    "TanhNormal",
    "Value",
    "VelocityField",
    "final_uniform_",
    "folded",
    "hidden_bias_",
    "limit_sight",
    "mean",
    "minimum",
    "narrowed",
    "orthogonal_",
    "xavier_uniform_",
]

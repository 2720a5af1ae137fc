"""Multilayer perceptrons with leading population and ensemble dimensions, as one batched matmul a layer."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "before", "after"]
Activation = Literal["relu", "mish", "gelu", "silu", "elu", "tanh", "sigmoid", "none"]


def mish(x: Tensor) -> Tensor:
    """x tanh(log(1 + e^x))."""
    if not torch.compiler.is_exporting():
        return nn.functional.mish(x)
    # onnxruntime has no kernel of the whole on a CPU, and warns of it at every start. The same, with one exponential:
    e = torch.exp(x.clamp(max=20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "mish": mish,
    "gelu": partial(nn.functional.gelu, approximate="tanh"),  # JAX's own
    "silu": nn.functional.silu,
    "elu": nn.functional.elu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "none": lambda x: x,  # a linear network, for comparison
}

# Which members of an ensemble: indices (..., k), a slice, or None for all.
Members = Tensor | slice | None


def pick(tensor: Tensor, members: Members, axis: int) -> Tensor:
    """Some members of a parameter whose ensemble dimension is `axis` (negative)."""
    if members is None:
        return tensor
    if isinstance(members, slice):
        return tensor.transpose(0, axis)[members].transpose(0, axis)
    if members.dim() == 1:
        return tensor.index_select(axis, members)
    index = members.reshape(*members.shape, *(1,) * (-axis - 1))
    return torch.take_along_dim(tensor, index, dim=axis)


class Linear(nn.Module):
    """Affine map with weight (*lead, in, out) and bias (*lead, out).

    Both start uniform in +-1/sqrt(in), which is PyTorch's own default for every member separately.
    """

    def __init__(self, inputs: int, outputs: int, lead: Sequence[int] = ()):
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(*lead, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(*lead, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, members: Members = None) -> Tensor:
        """x: (B, in) -> (B, out); with leading dimensions, flattened into one: (N, B, in) -> (N, B, out)."""
        weight, bias = pick(self.weight, members, -3), pick(self.bias, members, -2)
        if weight.dim() == 2:
            return torch.addmm(bias, x, weight)
        weight, bias = weight.flatten(0, -3), bias.flatten(0, -2).unsqueeze(1)
        if weight.shape[-1] == 1:  # batched products are slow at single columns, six times in the backward pass
            return (x * weight.mT).sum(-1, keepdim=True) + bias
        return torch.baddbmm(bias, x, weight)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, with gain and shift (*lead, width)."""

    def __init__(self, width: int, lead: Sequence[int] = (), eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(*lead, width))
        self.bias = nn.Parameter(torch.zeros(*lead, width))

    def forward(self, x: Tensor, members: Members = None) -> Tensor:
        """x: (B, width) or (N, B, width), as in Linear -> the same shape."""
        weight, bias = pick(self.weight, members, -2), pick(self.bias, members, -2)
        if weight.dim() == 1:
            return nn.functional.layer_norm(x, weight.shape, weight, bias, self.eps)
        weight, bias, width = weight.flatten(0, -2), bias.flatten(0, -2), weight.shape[-1:]
        if (
            x.device.type == "cpu"
        ):  # member by member the activations stay in the cache: half the time of the line below
            members_ = zip(x.unbind(), weight.unbind(), bias.unbind(), strict=True)
            return torch.stack(
                [nn.functional.layer_norm(one, width, gain, shift, self.eps) for one, gain, shift in members_]
            )
        return torch.addcmul(bias.unsqueeze(1), nn.functional.layer_norm(x, width, eps=self.eps), weight.unsqueeze(1))


class MLP(nn.Module):
    """Hidden layers of Linear and an activation, then a linear output.

    sizes: (in, hidden, ..., out). lead: leading dimensions of every parameter: (), (P,), (E,) or (P, E).
    norm: LayerNorm in each hidden layer "before" the activation, "after" it, or "none".
    """

    sight: Tensor | None  # (in,), 1 for inputs that are seen, 0 for those that are not; None: all are

    def __init__(
        self,
        sizes: Sequence[int],
        lead: Sequence[int] = (),
        norm: Norm = "none",
        activation: Activation = "relu",
    ):
        super().__init__()
        if norm not in ("none", "before", "after"):
            raise ValueError(f"norm must be 'none', 'before' or 'after' (the activation), got {norm!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.norm, self.activation = norm, activation
        self.linears = nn.ModuleList(Linear(i, o, lead) for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(LayerNorm(width, lead) for width in sizes[1:-1] if norm != "none")
        self.register_buffer("sight", None, persistent=False)

    def see_only(self, columns: Sequence[int]) -> None:
        """Inputs other than these count as zero from now on: nothing of them reaches an output, nor a gradient."""
        weight = self.linears[0].weight
        assert isinstance(weight, Tensor)
        self.sight = torch.zeros_like(weight, requires_grad=False)[(0,) * (weight.dim() - 2)][:, 0]  # (in,)
        self.sight[list(columns)] = 1.0

    def seen(self, x: Tensor) -> Tensor:
        """The inputs (..., in), those that may not be seen zero."""
        return x if self.sight is None else x * self.sight

    def power_iteration_(self) -> None:
        """Brings what a network estimates of its own weights up to date, once an update; here nothing is estimated."""

    def forward(self, x: Tensor, members: Members = None, masks: Sequence[Tensor] = ()) -> Tensor:
        """x: (..., B, in), broadcast to the leading dimensions -> (*lead, B, out). members runs only some of them.

        masks: dropout before the activation, one tensor (*lead, B, width) for each hidden layer, already scaled.
        """
        first, activate, x = self.linears[0], ACTIVATIONS[self.activation], self.seen(x)
        assert isinstance(first, Linear)
        lead, rows = pick(first.bias, members, -2).shape[:-1], x.shape[-2]
        if lead:  # the layers see one leading dimension, so that an in-place ReLU never writes through a view
            x = x.expand(*lead, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        for k, linear in enumerate(list(self.linears)[:-1]):
            x = linear(x, members)
            if masks:
                x = x * masks[k].reshape(x.shape)
            if self.norm == "before":
                x = self.norms[k](x, members)
            x = activate(x)
            if self.norm == "after":
                x = self.norms[k](x, members)
        out = self.linears[-1](x, members)
        return out.view(*lead, rows, -1) if len(lead) > 1 else out


@torch.no_grad()
def orthogonal_(mlp: MLP, gain: float, last_gain: float | None = None) -> None:
    """Orthogonal weights for each member and zero biases. last_gain: of the output layer, by default the same."""
    for k, linear in enumerate(mlp.linears):
        last = k == len(mlp.linears) - 1 and last_gain is not None
        for weight in linear.weight.flatten(0, -3) if linear.weight.dim() > 2 else [linear.weight]:  # type: ignore
            nn.init.orthogonal_(weight, last_gain if last else gain)  # type: ignore[arg-type]
        linear.bias.zero_()  # type: ignore[operator]
    mlp.power_iteration_()


@torch.no_grad()
def xavier_uniform_(mlp: MLP) -> None:
    """Weights uniform in +-sqrt(6 / (in + out)) for each member, and zero biases: the default of some JAX code."""
    for linear in mlp.linears:
        assert isinstance(linear, Linear)
        bound = math.sqrt(6.0 / (linear.weight.shape[-2] + linear.weight.shape[-1]))
        linear.weight.uniform_(-bound, bound)
        linear.bias.zero_()


@torch.no_grad()
def hidden_bias_(mlp: MLP, value: float) -> None:
    """The same bias for every unit of the hidden layers."""
    for linear in list(mlp.linears)[:-1]:
        linear.bias.fill_(value)  # type: ignore[operator]


@torch.no_grad()
def final_uniform_(mlp: MLP, bound: float) -> None:
    """Weights and biases of the output layer uniform in +-bound, so that the first outputs are small."""
    for parameter in mlp.linears[-1].parameters():
        parameter.uniform_(-bound, bound)

"""Multilayer perceptrons with leading population and ensemble dimensions, as one batched matmul a layer."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "before", "after"]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ weight + bias, one matrix product per leading index.

    x: (..., B, in), its leading dimensions broadcast to those of weight. weight: (..., in, out). bias: (..., out).
    """
    if weight.dim() == 2 and x.dim() == 2:
        return torch.addmm(bias, x, weight)
    lead = torch.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
    if weight.shape[:-2] != lead:  # one weight, many batches: still a single product
        return x @ weight + bias.unsqueeze(-2)
    flat = x.expand(*lead, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
    out = torch.baddbmm(bias.reshape(-1, 1, bias.shape[-1]), flat, weight.reshape(-1, *weight.shape[-2:]))
    return out.view(*lead, *out.shape[-2:])


def pick(tensor: Tensor, members: Tensor | slice, axis: int) -> Tensor:
    """Some members of a parameter whose ensemble dimension is `axis` (negative). members: indices (..., k), or a slice."""
    if isinstance(members, slice):
        return tensor[(..., members, *(slice(None),) * (-axis - 1))]
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

    def forward(self, x: Tensor, members: Tensor | slice | None = None) -> Tensor:
        """x: (..., B, in) -> (..., B, out). members: (..., k) selects along the last leading dimension."""
        if members is None:
            return affine(x, self.weight, self.bias)
        return affine(x, pick(self.weight, members, -3), pick(self.bias, members, -2))


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, with a gain and a shift per population and ensemble member."""

    def __init__(self, width: int, lead: Sequence[int] = (), eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(*lead, width))
        self.bias = nn.Parameter(torch.zeros(*lead, width))

    def forward(self, x: Tensor, members: Tensor | slice | None = None) -> Tensor:
        """x: (..., B, width) -> the same shape."""
        weight, bias = self.weight, self.bias
        if members is not None:
            weight, bias = pick(weight, members, -2), pick(bias, members, -2)
        if weight.dim() == 1:
            return nn.functional.layer_norm(x, weight.shape, weight, bias, self.eps)
        normed = nn.functional.layer_norm(x, weight.shape[-1:], eps=self.eps)
        return torch.addcmul(bias.unsqueeze(-2), normed, weight.unsqueeze(-2))


class MLP(nn.Module):
    """Hidden layers of Linear and ReLU, then a linear output.

    sizes: (in, hidden, ..., out). lead: leading dimensions of every parameter: (), (P,), (E,) or (P, E).
    norm: LayerNorm in each hidden layer "before" the ReLU, "after" it, or "none".
    """

    def __init__(self, sizes: Sequence[int], lead: Sequence[int] = (), norm: Norm = "none", norm_eps: float = 1e-5):
        super().__init__()
        if norm not in ("none", "before", "after"):
            raise ValueError(f"norm must be 'none', 'before' or 'after' (the ReLU), got {norm!r}")
        self.norm = norm
        self.linears = nn.ModuleList(Linear(i, o, lead) for i, o in zip(sizes, sizes[1:], strict=False))
        hidden = sizes[1:-1] if norm != "none" else ()
        self.norms = nn.ModuleList(LayerNorm(width, lead, norm_eps) for width in hidden)

    def forward(self, x: Tensor, members: Tensor | slice | None = None) -> Tensor:
        """x: (..., B, in) -> (..., B, out). members: (..., k) runs only those members of the ensemble."""
        for k, linear in enumerate(self.linears[:-1]):
            x = linear(x, members)
            if self.norm == "before":
                x = self.norms[k](x, members)
            x = x.relu_()  # in place: no layer before it needs its own output in the backward pass
            if self.norm == "after":
                x = self.norms[k](x, members)
        return self.linears[-1](x, members)


@torch.no_grad()
def final_uniform_(mlp: MLP, bound: float) -> None:
    """Weights and biases of the output layer uniform in +-bound, so that the first outputs are small."""
    mlp.linears[-1].weight.uniform_(-bound, bound)
    mlp.linears[-1].bias.uniform_(-bound, bound)

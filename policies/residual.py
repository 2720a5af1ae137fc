"""Residual networks with LayerNorm and spectral normalisation, in place of an MLP.

Bjorck et al. 2021, "Towards Deeper Deep Reinforcement Learning with Spectral Normalization", arXiv 2106.01151, in the
form of Cetin et al. 2024, arXiv 2403.13097, figure 6.

The papers write W as (out, in). Ours is its transpose, (in, out), and so sigma = u^T W v = v @ weight @ u with the left
vector u of size out and the right vector v of size in, in actors and critics alike.
"""

import copy
from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from zoo.policies.mlp import ACTIVATIONS, MLP, Activation, LayerNorm, Linear, Members, Norm, pick

EPS = 1e-12  # of the vectors' norms

# "mlp": hidden layers of the given widths; "residual": as many residual blocks, all of one width.
Network = Literal["mlp", "residual"]
Module = TypeVar("Module", bound=nn.Module)


class SpectralLinear(Linear):
    """Affine map by weight / sigma, where sigma estimates the weight's largest singular value, for each member alone.

    sigma = u^T W v, of unit vectors that are constants for the gradient; W has its gradient through sigma too.
    The forward pass leaves u and v as they are: power_iteration_ brings them up to date with the weight.
    """

    u: Tensor
    v: Tensor

    def __init__(self, inputs: int, outputs: int, lead: Sequence[int] = ()):
        super().__init__(inputs, outputs, lead)
        self.register_buffer("u", normalize(torch.randn(*lead, outputs), dim=-1, eps=EPS))
        self.register_buffer("v", normalize(torch.randn(*lead, inputs), dim=-1, eps=EPS))
        # The official code begins with two random vectors, whose sigma is near 0 or negative, and iterates in every
        # forward pass in training. Ours iterates once a step, so a network must be sound before its first step.
        self.power_iteration_()

    def forward(self, x: Tensor, members: Members = None) -> Tensor:
        """x: as in Linear."""
        weight, bias = normalized(self, members), pick(self.bias, members, -2)
        if weight.dim() == 2:
            return torch.addmm(bias, x, weight)
        return torch.baddbmm(bias.flatten(0, -2).unsqueeze(1), x, weight.flatten(0, -3))

    def sigma(self, members: Members = None) -> Tensor:
        """The estimate of the largest singular value, (*lead)."""
        weight, u, v = pick(self.weight, members, -3), pick(self.u, members, -2), pick(self.v, members, -2)
        return (v * (weight @ u.unsqueeze(-1)).squeeze(-1)).sum(-1)

    def power_iteration_(self) -> None:
        """One step of u and v towards the first singular vectors: v, then u, in the order of torch's spectral_norm."""
        self.turn_v_()
        self.turn_u_()

    @torch.no_grad()
    def turn_u_(self) -> None:
        """u <- W v / |W v|."""
        self.u.copy_(normalize((self.weight.mT @ self.v.unsqueeze(-1)).squeeze(-1), dim=-1, eps=EPS))

    @torch.no_grad()
    def turn_v_(self) -> None:
        """v <- W^T u / |W^T u|."""
        self.v.copy_(normalize((self.weight @ self.u.unsqueeze(-1)).squeeze(-1), dim=-1, eps=EPS))


def normalized(linear: SpectralLinear, members: Members = None) -> Tensor:
    """The weight that the layer multiplies by, weight / sigma, (*lead, in, out)."""
    return pick(linear.weight, members, -3) / linear.sigma(members)[..., None, None]


class ResidualMLP(MLP):
    """Linear and ReLU, then blocks x + S2(ReLU(S1(LayerNorm(x)))), then a linear output; S1, S2: SpectralLinear.

    sizes: (in, width, out). blocks: how many. lead: leading dimensions of every parameter, as in MLP. activation: in
    place of ReLU.
    linears: the first layer, S1 and S2 of each block, the output. norms: one for each block.
    """

    def __init__(self, sizes: Sequence[int], blocks: int, lead: Sequence[int] = (), activation: Activation = "relu"):
        if len(sizes) != 3:
            raise ValueError(f"sizes must be (in, width, out), the width being that of every block, got {tuple(sizes)}")
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}")
        super().__init__(sizes, lead, activation=activation)
        (first, last), width = self.linears, sizes[1]
        inner = [SpectralLinear(width, width, lead) for _ in range(2 * blocks)]
        self.linears = nn.ModuleList([first, *inner, last])
        self.norms = nn.ModuleList(LayerNorm(width, lead) for _ in range(blocks))

    def forward(self, x: Tensor, members: Members = None, masks: Sequence[Tensor] = ()) -> Tensor:
        """x: (..., B, in), broadcast to the leading dimensions -> (*lead, B, out). members runs only some of them.

        masks: dropout before the activation, (*lead, B, width) each, of the first layer and of every block, scaled.
        """
        first, *inner, last = self.linears
        activate = ACTIVATIONS[self.activation]
        assert isinstance(first, Linear)
        x = self.seen(x)
        lead, rows = pick(first.bias, members, -2).shape[:-1], x.shape[-2]
        if lead:  # one leading dimension inside, as in MLP
            x = x.expand(*lead, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        x = first(x, members)
        x = activate(x * masks[0].reshape(x.shape) if masks else x)
        for k, (norm, s1, s2) in enumerate(zip(self.norms, inner[::2], inner[1::2], strict=True), start=1):
            h = s1(norm(x, members), members)
            h = activate(h * masks[k].reshape(h.shape) if masks else h)
            x = x + s2(h, members)
        out = last(x, members)
        return out.view(*lead, rows, -1) if len(lead) > 1 else out

    def power_iteration_(self) -> None:
        """Brings every sigma up to date; to be called once an optimiser step, before the step's first forward pass.

        In a target network: after its parameters have moved. Not between a forward pass and its backward pass, which
        needs the vectors as they were (autograd then raises).
        Deviation: the official code iterates in every forward pass in training mode, under no_grad too.
        """
        for linear in self.linears:
            if isinstance(linear, SpectralLinear):
                linear.power_iteration_()


def trunk(
    network: Network,
    sizes: Sequence[int],
    lead: Sequence[int] = (),
    norm: Norm = "none",
    activation: Activation = "relu",
) -> MLP:
    """The network of an actor or a critic: a plain MLP, or a residual one with a block for each hidden entry."""
    if network == "mlp":
        return MLP(sizes, lead, norm, activation)
    widths = sizes[1:-1]
    if len(set(widths)) != 1 or norm != "none":
        raise ValueError(
            f"a residual network has blocks of one width and its own LayerNorm: got hidden widths {tuple(widths)} and "
            f"norm={norm!r}; give equal widths, one for each block, and norm='none'"
        )
    return ResidualMLP((sizes[0], widths[0], sizes[-1]), len(widths), lead, activation)


def folded(module: Module) -> Module:
    """A copy for inference in which every SpectralLinear has become the Linear with the weight weight / sigma."""
    if isinstance(module, SpectralLinear):
        raise TypeError("folded takes a module that contains SpectralLinear layers, not such a layer itself")
    plain = copy.deepcopy(module)
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if isinstance(child, SpectralLinear):
                setattr(parent, name, fold(child))
    return plain


@torch.no_grad()
def fold(spectral: SpectralLinear) -> Linear:
    """The Linear that computes the same."""
    *lead, inputs, outputs = spectral.weight.shape
    with torch.device("meta"):  # draws no random numbers
        linear = Linear(inputs, outputs, lead)
    linear.weight = nn.Parameter(normalized(spectral), spectral.weight.requires_grad)
    linear.bias = nn.Parameter(spectral.bias.clone(), spectral.bias.requires_grad)
    return linear

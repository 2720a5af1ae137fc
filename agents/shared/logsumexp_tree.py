"""Sampling in proportion to exp(log weight): a sum tree in log space, after Cetin et al. 2024, arXiv 2403.13097.

Deviation: Algorithm 3 as printed makes a parent m + log1p(exp(a - m) + exp(b - m)) with m = max(a, b), which counts the
larger child twice. Here, as in the authors' code, it is logaddexp(a, b).
"""

import math

import torch
from torch import Tensor

DENSE = 12  # the widest level, log2, that a draw searches as a whole; at most 32 KiB of log weights for each member
STRIDE = 4  # levels that it goes down at once from there: 16 descendants lie side by side, in two cache lines
GRAIN = 2.0**-52  # of the masses that share one choice; a uniform double has no finer one
BELOW_ONE = 1.0 - 2.0**-53  # the largest double below 1


class LogSumExpTree:
    """`size` log weights for each member of a population, all 0 at the start, so that the first draws are uniform.

    nodes: (2 * members * 2**depth,), float64, one heap: the roots from `members` on (a single tree's at 1), children
    of i at 2i and 2i + 1, then the leaves, a row of 2**depth for each member. Unused ones are -inf.
    Nothing here waits for the device: a bad number is an error at once on a CPU, and a device-side assertion on a GPU.
    """

    def __init__(self, size: int, lead: tuple[int, ...], device: torch.device):
        if size < 1:
            raise ValueError(f"a tree needs at least one leaf, got size {size}")
        self.size, self.lead = size, lead
        self.members, self.depth = math.prod(lead), (size - 1).bit_length()
        self.strides = max(0, -(-(self.depth - DENSE) // STRIDE))
        width = 1 << self.depth
        self.nodes = torch.full((2 * self.members * width,), -torch.inf, dtype=torch.float64, device=device)
        self.first = width * (self.members + torch.arange(self.members, device=device).view(*lead, 1))  # leaf of each
        self.log_weights.zero_()
        self._build()

    @property
    def log_weights(self) -> Tensor:
        """The leaves, (*lead, size); a view, to be written by `update` and `restore` only."""
        return self.nodes[len(self.nodes) // 2 :].view(*self.lead, -1)[..., : self.size]

    @property
    def total(self) -> Tensor:
        """Log of the summed weights, (*lead)."""
        return self.nodes[self.members : 2 * self.members].view(self.lead).clone()

    def update(self, indices: Tensor, values: Tensor) -> None:
        """Writes log weights (*lead, K) at leaves (*lead, K), long; of equal indices the last counts, on any device.

        -inf is a weight of 0. Raises ValueError for other shapes, and RuntimeError for an index outside [0, size) or a
        value that is NaN or +inf: on a CPU before anything is written, on a GPU as a device-side assertion.
        """
        if indices.shape != values.shape or indices.shape[:-1] != self.lead or indices.dim() == 0:
            got = f"{tuple(indices.shape)} and {tuple(values.shape)}"
            raise ValueError(f"indices and values must have one shape {self._shape('K')}, got {got}")
        valid = (indices >= 0) & (indices < self.size) & (values < torch.inf)
        torch._assert_async(
            valid.all(), f"indices must be in [0, {self.size}), log weights below +inf and not NaN; got one that is not"
        )
        node = (indices + self.first).reshape(-1)  # (members * K,)
        # A scatter of duplicates has no order on a GPU, but a maximum has: the leaves hold for a moment which is last.
        order = torch.arange(len(node), dtype=self.nodes.dtype, device=node.device)
        self.nodes.scatter_reduce_(0, node, order, "amax", include_self=False)
        last = self.nodes.index_select(0, node).long()
        self.nodes.scatter_(0, node, values.detach().to(self.nodes).reshape(-1).index_select(0, last))
        for _ in range(self.depth):
            node = node >> 1
            left, right = self.nodes.view(-1, 2).index_select(0, node).unbind(-1)
            self.nodes.scatter_(0, node, torch.logaddexp(left, right))  # from both children: duplicates agree, no drift

    def sample(self, uniform: Tensor) -> Tensor:
        """Leaves (*lead, B), long, one from each of B strata of equal mass, ascending; uniform: (*lead, B) in [0, 1).

        Draw k lies at (k + uniform_k) / B of the mass: leaf i is drawn B * p_i times, give or take less than 2.
        Raises ValueError for another shape, and RuntimeError where all weights are 0 (as `update`).
        """
        self._check_uniform(uniform)
        strata = torch.arange(uniform.shape[-1], device=uniform.device)
        return self.sample_iid((uniform.double() + strata) / len(strata))

    def sample_iid(self, uniform: Tensor) -> Tensor:
        """The same with B independent draws. Float32 reaches 2**24 positions only: give doubles to a large tree."""
        self._check_uniform(uniform)
        total, level = self.total.view(-1, 1), STRIDE * self.strides  # counted from the leaves
        torch._assert_async((total > -torch.inf).all(), "every log weight is -inf: there is nothing to draw")
        place = uniform.double().clamp(max=BELOW_ONE).reshape(self.members, -1)  # (k + u) / B may have rounded to 1
        top = self.nodes[len(self.nodes) >> (level + 1) : len(self.nodes) >> level].view(self.members, -1)
        child, place = descend(top, total, place)
        node, place = (child + (self.first.view(-1, 1) >> level)).reshape(-1), place.reshape(-1, 1)  # members * B
        for _ in range(self.strides):
            total = self.nodes.index_select(0, node).unsqueeze(-1)
            child, place = descend(self.nodes.view(-1, 1 << STRIDE).index_select(0, node), total, place)
            node = (node << STRIDE) + child.squeeze(-1)
        return node.view(uniform.shape) - self.first

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the leaves, of which the rest follows."""
        return {"log_weights": self.log_weights}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Raises ValueError for tensors that are not those of such a tree."""
        saved, own = tensors.get("log_weights"), self.log_weights
        if saved is None or saved.shape != own.shape or saved.dtype != own.dtype or not bool((saved < torch.inf).all()):
            raise ValueError(f"a tree needs log_weights {tuple(own.shape)}, float64, below +inf and not NaN")
        own.copy_(saved)
        self._build()

    def _build(self) -> None:
        """Every parent from its children, from the bottom up."""
        for depth in reversed(range(self.depth)):
            start = self.members << depth
            left, right = self.nodes[2 * start : 4 * start].view(-1, 2).unbind(-1)
            torch.logaddexp(left, right, out=self.nodes[start : 2 * start])

    def _check_uniform(self, uniform: Tensor) -> None:
        if uniform.shape[:-1] != self.lead or uniform.dim() == 0:
            raise ValueError(f"uniform numbers must be {self._shape('B')}, got {tuple(uniform.shape)}")

    def _shape(self, last: str) -> str:
        return f"({', '.join([*map(str, self.lead), last])})"


def descend(log_weights: Tensor, total: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Which of W siblings a place in the mass of all of them falls on, and its place in the mass of that one.

    log_weights: (R, W), -inf for no mass. total: (R, 1), their logsumexp. place: (R, B) in [0, 1).
    Returns (R, B) long and (R, B) in [0, 1).
    """
    # Whole multiples of the grain have exact sums in any order: a scan on a GPU is monotonic and repeatable too, and
    # what has no mass takes up no room. A place stays below 1, for x < y gives x / y < 1 in doubles.
    mass = (log_weights - total).exp_().div_(GRAIN).round_()  # (R, W)
    upper = mass.cumsum(-1)
    target = place * upper[:, -1:]
    child = torch.searchsorted(upper, target, right=True)  # the first with target < upper
    own = mass.gather(-1, child)
    return child, (target - (upper.gather(-1, child) - own)) / own

"""CAR's auxiliary data: pairs of a state and an action of the policy's that the verifier accepted."""

import torch
from torch import Tensor

from zoo.agents.core.compute import zeros


class Proposals:
    """First-in, first-out memory for each member of a population, on the device; nothing waits for a count.

    rows: (*lead, capacity + 1, width); the last row takes what is not accepted. count: (*lead), all ever accepted.
    """

    def __init__(self, capacity: int, width: int, lead: tuple[int, ...], like: Tensor):
        self.capacity = capacity
        self.rows = zeros((*lead, capacity + 1, width), like.device, like.dtype)
        self.count = torch.zeros(lead, dtype=torch.long, device=like.device)

    @property
    def size(self) -> Tensor:
        """Rows that hold a pair, (*lead)."""
        return self.count.clamp(max=self.capacity)

    def append(self, rows: Tensor, accepted: Tensor) -> None:
        """Adds rows (*lead, B, width) where accepted (*lead, B) says so; over a full memory the oldest go."""
        place = (self.count.unsqueeze(-1) + accepted.cumsum(-1) - 1) % self.capacity
        place = torch.where(accepted, place, self.capacity)
        self.rows.scatter_(-2, place.unsqueeze(-1).expand(rows.shape), rows)
        self.count += accepted.sum(-1)

    def gather(self, fraction: Tensor) -> Tensor:
        """Rows (*lead, B, width) at `fraction` (*lead, B) in [0, 1) of each memory; zeros where it is empty."""
        size = self.size.unsqueeze(-1)
        index = torch.minimum((fraction * size).long(), (size - 1).clamp(min=0))
        return self.rows.gather(-2, index.unsqueeze(-1).expand(*index.shape, self.rows.shape[-1]))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the rows in use, and the count."""
        used = int(self.size.max())
        return {"rows": self.rows[..., :used, :], "count": self.count}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Raises ValueError for tensors that are not those of such a memory."""
        rows, count = tensors.get("rows"), tensors.get("count")
        if rows is None or count is None or count.shape != self.count.shape or rows.dim() != self.rows.dim():
            raise ValueError(f"proposals need rows {tuple(self.rows.shape)} and count {tuple(self.count.shape)}")
        if rows.shape[-1] != self.rows.shape[-1] or rows.shape[-2] > self.capacity:
            raise ValueError(f"proposals have rows {tuple(rows.shape)}, expected up to {tuple(self.rows.shape)}")
        self.rows[..., : rows.shape[-2], :] = rows
        self.count.copy_(count)

"""ASAC: an actor that clones transitions drawn in proportion to exp(advantage / temperature).

Cetin et al. 2024, "Simple Ingredients for Offline Reinforcement Learning", arXiv 2403.13097, section 4.4 and
algorithms 2 to 4: what AWAC weights is drawn instead. Critics learn as AWAC's, on uniform rows. The actor's rows come
from a tree of the last known advantages, which starts uniform; an update ends by refreshing those of the rows that it
saw. The advantage is the critics' mean opinion of the data's action less their pessimistic one of the policy's, as in
the paper's code; its text has one critic on both sides.

Online the tree holds the dataset's rows and the new ones; a new row has the advantage 0 until it is seen.
"""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import minimize
from zoo.agents.core.replay import Table
from zoo.agents.shared.logsumexp_tree import LogSumExpTree
from zoo.agents.shared.weighted import Weighted, WeightedConfig


@dataclasses.dataclass(frozen=True)
class ASACConfig(WeightedConfig):
    batch_size: int = 512  # uniform rows, and as many drawn by advantage
    policy_std: float | None = 0.2
    per_dimension: bool = True
    pessimism: float | None = 0.5
    data_value: Literal["aggregate", "mean"] = "mean"
    temperature: Hyper = 0.5
    target_noise_clip: float | None = 0.3
    actor_gain: float | None = 1.0
    critic_gain: float | None = math.sqrt(2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value_samples != 1 or self.weights != "exponential":
            raise ValueError("ASAC draws by one sampled advantage: value_samples and weights are not its settings")


class ASAC(Weighted):
    """critic_loss is Weighted's. Batches hold 2 * batch_size rows: the uniform ones first."""

    Config = ASACConfig
    config: ASACConfig

    def build(self) -> None:
        super().build()
        self.tree = LogSumExpTree(max(self.spec.transitions, 1), self.lead, self.device)
        self.online_rows = 0  # rows of the online buffer that the tree knows
        self.online_next = 0  # and where its next one goes

    # Sampling -------------------------------------------------------------------------------------------------------

    def sample(self, table: Table, size: int | None = None) -> Batch:
        """Uniform rows and rows drawn by advantage, from one table."""
        if table is self.replay:
            return self.sample_from(None, table, 0, size or self.config.batch_size)
        return self.sample_from(table, None, size or self.config.batch_size, 0)

    def sample_mixed(self, offline: Table, online: Table, offline_size: int) -> Batch:
        """The same from the dataset and the online buffer; only the uniform rows keep to offline_size."""
        return self.sample_from(offline, online, offline_size, self.config.batch_size - offline_size)

    def sample_from(self, offline: Table | None, online: Table | None, offline_size: int, online_size: int) -> Batch:
        if offline is not None and offline.total != self.spec.transitions:
            raise ValueError(
                f"ASAC keeps an advantage for each of the {self.spec.transitions} transitions that it was built for, "
                f"this dataset has {offline.total}: build an agent for it"
            )
        if online is not None:
            self.follow(online, with_data=offline is not None)
        first = self.spec.transitions  # leaf of the online buffer's first row
        uniform = []
        if offline is not None and offline_size:
            uniform.append(self.batches.indices("uniform_index", (*self.lead, offline_size), offline.total))
        if online is not None and online_size:
            uniform.append(first + self.batches.indices("uniform_index_online", (*self.lead, online_size), online.size))
        like = torch.empty(*self.lead, offline_size + online_size, dtype=torch.float64, device=self.device)
        drawn = self.tree.sample(self.batches.uniform("prioritized_uniform", like))
        leaves = torch.cat([*uniform, drawn], dim=-1)
        if online is None or offline is None:
            table = offline if online is None else online
            assert table is not None
            rows = table.fetch(leaves if online is None else leaves - first)
        else:
            is_online = leaves >= first
            rows = torch.where(
                is_online.unsqueeze(-1),
                online.fetch((leaves - first).clamp(min=0)),
                offline.fetch(leaves.clamp(max=first - 1)),
            )
        return self.normalize(self.layout.unpack(rows))._replace(leaves=leaves)

    def follow(self, online: Table, with_data: bool) -> None:
        """Gives the online buffer's new rows the advantage 0; without_data the dataset's own leaves are shut."""
        first = self.spec.transitions
        if self.tree.size != first + online.capacity:
            grown = LogSumExpTree(first + online.capacity, self.lead, self.device)
            weights = torch.full((*self.lead, grown.size), -math.inf, dtype=torch.float64, device=self.device)
            if with_data:
                weights[..., :first] = self.tree.log_weights[..., :first]
            grown.restore({"log_weights": weights})
            self.tree, self.online_rows, self.online_next = grown, 0, 0
        new = (online.next - self.online_next) % online.capacity
        if online.size - self.online_rows > new:  # a whole turn of the buffer
            new = online.size
        if new:
            places = (online.next - new + torch.arange(new, device=self.device)) % online.capacity
            leaves = (first + places).expand(*self.lead, new).contiguous()
            self.tree.update(leaves, torch.zeros_like(leaves, dtype=torch.float64))
        self.online_rows, self.online_next = online.size, online.next

    # Updates --------------------------------------------------------------------------------------------------------

    def gradient_step(self, batch: Batch) -> Metrics:
        assert batch.leaves is not None
        half = batch.rewards.shape[-1] // 2
        uniform, drawn = batch.rows(slice(half)), batch.rows(slice(half, None))
        loss, metrics = self.critic_loss(uniform)
        minimize(loss, self.optimizers["critic"])
        loss = self.actor.cloning_errors(drawn.observations, drawn.actions).mean(-1)
        minimize(loss, self.optimizers["actor"])
        self.update_targets()
        advantage = self.refresh(uniform, drawn)
        return metrics | {"actor/loss": loss.detach(), "actor/advantage": advantage.mean(-1)}

    def refresh(self, uniform: Batch, drawn: Batch) -> Tensor:
        """The advantages (2B,) of the rows just seen, by the networks as they now are, into the tree."""
        seen = drawn.followed_by(uniform)
        advantage = self.sampled_advantage(seen)
        bounded = advantage.clamp(max=per_member(self.hyper.max_advantage, advantage))
        assert seen.leaves is not None
        self.tree.update(seen.leaves, bounded.double() / per_member(self.hyper.temperature, bounded))
        return advantage

    def memory(self) -> dict[str, Tensor]:
        counts = torch.tensor([self.online_rows, self.online_next])
        return self.tree.tensors() | {"online": counts}

    def restore_memory(self, tensors: dict[str, Tensor]) -> None:
        if set(tensors) != {"log_weights", "online"}:
            raise ValueError(f"the tree of advantages needs log_weights and online, found {sorted(tensors)}")
        self.tree = LogSumExpTree(tensors["log_weights"].shape[-1], self.lead, self.device)
        self.tree.restore({"log_weights": tensors["log_weights"]})
        self.online_rows, self.online_next = tensors["online"].tolist()

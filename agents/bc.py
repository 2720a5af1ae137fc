"""BC: behaviour cloning, supervised learning of the data's actions; the baseline of every table.

Its form is that of D4RL's baselines (Fu et al. 2020, "D4RL: Datasets for Deep Data-Driven Reinforcement Learning",
arXiv 2004.07219) in the settings of their re-runs (CORL). With best_episodes=0.1 it is 10 % BC (Chen et al. 2021,
arXiv 2106.01345, section 5.1): it clones only the tenth of the episodes that earned most.

It has no critics: it reads no rewards but to choose episodes, and nothing chooses among candidates when it acts.
"""

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.agents.agent import Agent
from zoo.agents.core.batch import Batch
from zoo.agents.core.config import AgentConfig, Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.core.replay import Table, best_episodes
from zoo.agents.core.spec import Dataset
from zoo.policies import DeterministicActor, NoCritic, NormalActor, Policy
from zoo.policies.mlp import Norm
from zoo.policies.residual import Network


@dataclasses.dataclass(frozen=True)
class BCConfig(AgentConfig):
    normalize_observations: bool = True
    actor_hidden: tuple[int, ...] = (256, 256)
    actor_norm: Norm = "none"  # LayerNorm "before" or "after" each activation
    actor_network: Network = "mlp"  # "residual": a block with spectral normalisation for each hidden entry
    policy: Literal["deterministic", "gaussian"] = "deterministic"
    actor_lr: Hyper = 3e-4
    best_episodes: float = 1.0  # share of the episodes, those of highest return, that it clones

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("actor_lr")
        self.check_positive("best_episodes")
        self.check_between("best_episodes", 0.0, 1.0)
        if self.evaluation_samples > 1:
            raise ValueError(
                f"BC has no critics to choose among candidates: evaluation_samples must be 1, got "
                f"{self.evaluation_samples}"
            )


class BC(Agent):
    Config = BCConfig
    config: BCConfig
    offline_only = (
        "clones data, and its own actions teach it nothing: for fine-tuning online train TD3BC, AWAC or IQL on the data"
    )

    def build(self) -> None:
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        kind: dict[str, Any] = {"norm": c.actor_norm, "network": c.actor_network, "activation": c.activation}
        actor: DeterministicActor | NormalActor
        if c.policy == "deterministic":
            actor = DeterministicActor(*sizes, c.actor_hidden, self.lead, **kind)
        else:
            actor = NormalActor(*sizes, c.actor_hidden, self.lead, **kind)
        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        self.policy = Policy(actor, NoCritic(), sizes[0], low, high)
        self.optimizers = {"actor": Adam(actor.parameters(), c.actor_lr)}
        self.best: Tensor | None = None  # rows of the episodes that it clones; None: of all

    def annotate(self, table: Table, dataset: Dataset) -> None:
        self.best = None
        if self.config.best_episodes < 1.0:
            episodes = len(set(dataset.column("episode_ids").tolist()))
            count = max(int(self.config.best_episodes * episodes), 1)
            self.best = torch.from_numpy(best_episodes(dataset, count)).to(self.device)

    def sample(self, table: Table, size: int | None = None) -> Batch:
        if self.best is None:
            return super().sample(table, size)
        shape = (*self.lead, size or self.config.batch_size)
        chosen = self.best[self.batches.indices("batch", shape, len(self.best))]
        return self.normalize(self.layout.unpack(table.fetch(chosen)))

    def gradient_step(self, batch: Batch) -> Metrics:
        loss, metrics = self.actor_loss(batch)
        minimize(loss, self.optimizers["actor"])
        return metrics

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """mean (pi(s) - a)^2, or of a Gaussian -log pi(a|s); a mean over batch and action dimensions."""
        errors = self.policy.actor.cloning_errors(batch.observations, batch.actions)  # type: ignore[operator]
        loss = errors.mean(-1) / self.spec.action_size
        return loss, {"actor/loss": loss.detach()}

    def explore(self, observations: Tensor) -> Tensor:
        """A draw from the policy; of a deterministic one its action."""
        return self.policy.sample(observations, self.acting.normal("exploration", self.policy(observations)))

"""CAR: SPOT with a density that follows the policy, but only inside the data's support.

"Decoupling Policy Improvement and Conservatism in Offline Reinforcement Learning" (OpenReview Ji53E867s2). While the
agent trains, its actor proposes an action for every state of the batch. A frozen density of the data, the verifier,
accepts the proposals that it does not find too unlikely; they join the data from which a second density, the
reference, keeps learning slowly; and the reference, not the data's density, holds the actor.

The first warmup_steps updates fit the verifier beside the agent, which it holds meanwhile. Then the reference begins as
its copy. Online both are frozen. The minibatch of the reference is uniform over the data and the accepted proposals:
the rows of the agent's own batch, each replaced by a proposal with the probability that is the proposals' share.
"""

import dataclasses
import math
import warnings
from collections.abc import Hashable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper, as_values
from zoo.agents.core.draws import Draws
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.core.spec import Dataset
from zoo.agents.shared.proposals import Proposals
from zoo.agents.spot import SPOT, SPOTConfig


@dataclasses.dataclass(frozen=True)
class CARConfig(SPOTConfig):
    actor_lr: Hyper = 1e-3
    critic_lr: Hyper = 1e-3
    density_steps: int = 0  # before the warm-up
    warmup_steps: int = 100_000
    reference_lr: Hyper = 5e-6
    eps_ood: Hyper | None = None  # a proposal is accepted up to this value of the verifier's loss; None: that of
    eps_quantile: float = 0.75  # this share of the data, measured during the warm-up
    capacity: float = 5.0  # proposals kept, in sizes of the dataset
    proposal_share: float | None = None  # of the reference's batches; None: uniform over data and proposals
    target_policy: Literal["learned", "mixed"] = "learned"  # "mixed": the TD target takes an action of the reference's
    decay_steps: int = 250_000  # to a fifth in 200,000 online updates

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("reference_lr")
        self.check_positive("capacity")
        self.check_at_least("warmup_steps", 0)
        self.check_between("eps_quantile", 0.0, 1.0)
        if self.proposal_share is not None:
            self.check_between("proposal_share", 0.0, 1.0)
        if self.eps_ood is not None and any(math.isnan(value) for value in as_values(self.eps_ood)):
            raise ValueError(f"eps_ood must be a number, inf to accept every proposal, got {self.eps_ood}")
        if self.eps_ood is None and self.warmup_steps == 0:
            raise ValueError("eps_ood=None is measured during the warm-up: give eps_ood, or warmup_steps above 0")
        if self.warmup_steps == self.density_steps == 0:
            raise ValueError(
                "the verifier is fitted in density_steps before the first update or in warmup_steps: both 0"
            )


class CAR(SPOT):
    """critic_loss and policy_loss are SPOT's. `density` is the verifier.

    The paper prints one learning rate for its densities, 5e-6. That is the reference's here; the verifier, which has
    100,000 steps to learn from nothing, has SPOT's 1e-3 by default, and the paper's own in preset="paper".
    """

    Config = CARConfig
    config: CARConfig
    eps_ood: Tensor
    eps_rate: Tensor

    def build(self) -> None:
        super().build()
        c, h = self.config, self.hyper
        self.reference = self.new_density()
        self.optimizers["reference"] = Adam(self.reference.parameters(), c.reference_lr)
        self.register_buffer("eps_rate", torch.ones(()), persistent=False)  # weight of a new batch in eps_ood's measure
        self.register_buffer("eps_ood", torch.zeros(self.lead) + (0.0 if h.eps_ood is None else h.eps_ood))
        capacity = max(round(c.capacity * self.spec.transitions), c.batch_size)
        width = self.spec.observation_size + self.spec.action_size
        self.proposals = Proposals(capacity, width, self.lead, self.eps_ood)
        self.proposing = Draws(self.seed + 1, self.device)  # its own stream: the agent's own draws stay SPOT's

    # Phases ---------------------------------------------------------------------------------------------------------

    @property
    def warming(self) -> bool:
        """Whether the verifier still is the reference."""
        return self.offline_updates <= self.config.warmup_steps

    def begin_update(self) -> None:
        super().begin_update()
        self.eps_rate.fill_(max(0.01, 1.0 / max(self.offline_updates, 1)))
        if not self.online and self.offline_updates == self.config.warmup_steps + 1:
            self.reference.load_state_dict(self.density.state_dict())
        if self.online and self.warming and self.online_updates == 1:
            warnings.warn(
                f"CAR goes online after {self.offline_updates} of its {self.config.warmup_steps} warm-up updates: "
                "its density of the data is not fitted yet, and stays as it is",
                stacklevel=3,
            )

    def phase(self) -> tuple[Hashable, ...]:
        return (*super().phase(), self.warming)

    def gradient_step(self, batch: Batch) -> Metrics:
        metrics = self.fit_verifier(batch) if self.warming and not self.online else {}
        return metrics | super().gradient_step(batch)

    def fit_verifier(self, batch: Batch) -> Metrics:
        """A step of the verifier, and of its measure of the data's own actions where eps_ood is left to it."""
        nll = self.nll(self.density, batch.observations, batch.actions, self.draws)  # (B,)
        minimize(nll.mean(-1), self.optimizers["density"])
        nll = nll.detach()
        if self.hyper.eps_ood is None:
            quantile = nll.quantile(self.config.eps_quantile, dim=-1)
            self.eps_ood.lerp_(quantile, self.eps_rate)
        return {"density/loss": nll.mean(-1)}

    def update_actor(self, batch: Batch) -> Metrics:
        """A step of the actor; after the warm-up, and offline, also of the reference."""
        pi = self.actor(batch.observations, self.dropout("dropout", batch.observations))  # (B, A)
        loss, metrics = self.policy_loss(batch, pi, self.density if self.warming else self.reference)
        minimize(loss, self.optimizers["actor"])
        if not self.online and not self.warming:
            metrics |= self.propose(batch, pi.detach())
            metrics |= self.fit_reference(batch)
        return metrics

    @torch.no_grad()
    def propose(self, batch: Batch, pi: Tensor) -> Metrics:
        """Keeps the proposals pi (B, A), of before the actor's step, that the verifier accepts."""
        nll = self.nll(self.density, batch.observations, pi, self.proposing)  # (B,)
        accepted = nll <= per_member(self.eps_ood, nll)
        self.proposals.append(torch.cat([batch.observations, pi], dim=-1), accepted)
        return {
            "proposals/accepted": accepted.to(nll.dtype).mean(-1),
            "proposals/nll": nll.mean(-1),
            "proposals/count": self.proposals.size.to(nll.dtype),
            "proposals/eps_ood": self.eps_ood.clone(),
        }

    def fit_reference(self, batch: Batch) -> Metrics:
        """A step of the reference on data and accepted proposals."""
        observations, actions = self.union(batch)
        loss = self.nll(self.reference, observations, actions, self.proposing).mean(-1)
        minimize(loss, self.optimizers["reference"])
        return {"reference/loss": loss.detach()}

    def union(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Observations (B, O) and actions (B, A), each row from the batch or from the proposals."""
        size = self.proposals.size.to(batch.rewards.dtype)
        share = size / (self.spec.transitions + size)
        if self.config.proposal_share is not None:
            share = torch.where(size > 0.0, self.config.proposal_share, 0.0)
        proposed = self.proposing.uniform("proposed", batch.rewards) < per_member(share, batch.rewards)
        rows = self.proposals.gather(self.proposing.uniform("proposal", batch.rewards.double()))
        observations, actions = rows.split([batch.observations.shape[-1], batch.actions.shape[-1]], dim=-1)
        chosen = proposed.unsqueeze(-1)
        return torch.where(chosen, observations, batch.observations), torch.where(chosen, actions, batch.actions)

    @torch.no_grad()
    def target_actions(self, next_observations: Tensor) -> Tensor:
        """The target actor's smoothed action, (B, A), or one of the mixed policy, the reference's: equation 12.

        The paper finds the second right in theory and worse in practice.
        """
        if self.config.target_policy == "learned":
            return super().target_actions(next_observations)
        density = self.density if self.warming else self.reference
        noise = self.proposing.normal("target", density.sample_noise_like(next_observations))
        return density.sample(next_observations, noise)

    # Tools ----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def propose_eps_ood(
        self, dataset: Dataset, quantiles: tuple[float, ...] = (0.5, 0.75, 0.9, 0.95)
    ) -> dict[float, np.ndarray]:
        """The verifier's loss of the data's own actions at the quantiles: eps_ood that accepts as likely actions.

        Values () or (P,), by quantile. Ask after the warm-up, when the verifier is fitted.
        """
        losses = []
        for rows in self.offline_table(dataset).split(10_000):
            batch = self.normalize(self.layout.unpack(rows.expand(*self.lead, *rows.shape)))
            losses.append(self.nll(self.density, batch.observations, batch.actions, self.proposing))
        whole = torch.cat(losses, dim=-1).double().cpu().numpy()
        return {q: np.quantile(whole, q, axis=-1) for q in quantiles}

    @torch.no_grad()
    def predict_density(self, observations: np.ndarray, reference: bool = True) -> np.ndarray:
        """Actions (n, A) that the reference, or the verifier, takes as a policy; in and out in the env's units.

        The paper's table 3 compares the returns of the two; zoo.evaluation.callbacks.ReferenceReturn logs them.
        """
        density = self.reference if reference and not self.warming else self.density
        rows = torch.as_tensor(observations, dtype=self.dtype, device=self.device)
        normalized = self.policy.normalize_observations(rows)
        noise = self.predicting.normal("density", density.sample_noise_like(normalized))
        return self.policy.scale_actions(density.sample(normalized, noise)).to("cpu", torch.float32).numpy()

    def generators(self) -> dict[str, Draws]:
        return super().generators() | {"proposing": self.proposing}

    def memory(self) -> dict[str, Tensor]:
        return self.proposals.tensors()

    def restore_memory(self, tensors: dict[str, Tensor]) -> None:
        self.proposals.restore(tensors)

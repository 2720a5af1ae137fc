"""PARS's table 1: critics of offline SARSA, and how far out the action lies that they like best.

    python examples/offline_sarsa.py hopper-medium-replay

The critics learn r + gamma Q(s', a') with the data's own next action, so no policy has a say in them. Then an actor
climbs the frozen critics, without cloning. Where critics rise towards the edge of the data, its actions end at the edge
of the box. Source: Kim et al. 2025, arXiv 2507.08761, table 1; the numbers of steps are not stated there.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.agents.core.batch import COLUMNS, Batch
from zoo.agents.core.learner import Metrics
from zoo.agents.core.optim import minimize
from zoo.agents.shared.actor_critic import ActorCritic, ActorCriticConfig
from zoo.agents.shared.losses import squared_errors, td_target
from zoo.datasets.dataset import OfflineDataset
from zoo.datasets.load import load_dataset
from zoo.diagnosis.report import sample
from zoo.policies import minimum


class Sarsa(ActorCritic):
    """Only its critics learn, until `climbing`; then only its actor."""

    Config = ActorCriticConfig
    columns = (*COLUMNS, "next_actions", "next_action_valid")
    climbing = False

    def gradient_step(self, batch: Batch) -> Metrics:
        if self.climbing:
            return self.update_actor(batch)
        loss, metrics = self.critic_loss(batch)
        minimize(loss, self.optimizers["critic"])
        self.update_targets()
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Q(s, a) towards r + gamma min Q(s', a'); rows whose next action is unknown and needed do not count."""
        assert batch.next_actions is not None
        assert batch.next_action_valid is not None
        with torch.no_grad():
            next_q = minimum(self.target_critic(batch.next_observations, batch.next_actions))
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.hyper.gamma)
        known = torch.maximum(batch.next_action_valid, batch.terminations)
        qs = self.critic(batch.observations, batch.actions) * known.unsqueeze(-2)
        loss = squared_errors(qs, target_q * known).sum(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        q = minimum(self.critic(batch.observations, self.actor(batch.observations)))
        loss = -q.mean(-1)
        return loss, {"actor/loss": loss.detach()}


class Norms(NamedTuple):
    """Mean length over that of a corner of the box; saturated: share of the actor's coordinates beyond 0.95."""

    data: float
    actor: float
    saturated: float


def norms(dataset: OfflineDataset, norm: str, critic_steps: int, actor_steps: int, **settings: object) -> Norms:
    agent = Sarsa(dataset, critic_norm=norm, device="cpu", **settings)
    agent.learn_offline(dataset, critic_steps)
    agent.climbing = True
    agent.learn_offline(dataset, actor_steps)
    observations, actions = sample(agent, dataset, 2048, seed=0)
    with torch.no_grad():
        pi = agent.actor(observations)
    corner = actions.shape[-1] ** 0.5
    lengths = [float(a.norm(dim=-1).mean()) / corner for a in (actions, pi)]
    return Norms(*lengths, float((pi.abs() > 0.95).float().mean()))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--critic-steps", type=int, default=200_000)
    parser.add_argument("--actor-steps", type=int, default=100_000)
    options = parser.parse_args(words)
    dataset = load_dataset(options.dataset)
    print("LayerNorm  " + "  ".join(Norms._fields))
    for norm in ("none", "before"):
        found = norms(dataset, norm, options.critic_steps, options.actor_steps)
        print(f"{norm:<9}  " + "  ".join(f"{value:.3f}" for value in found))


if __name__ == "__main__":
    main()

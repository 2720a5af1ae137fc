"""What the TD3 family shares: networks, targets, the smoothed target action and the delayed schedule."""

import dataclasses
import math
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from zoo.agents.agent import Agent
from zoo.agents.core.batch import Batch
from zoo.agents.core.config import AgentConfig, Hyper
from zoo.agents.core.draws import Draws
from zoo.agents.core.learner import Metrics
from zoo.agents.core.members import per_member
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.shared.losses import Targets, squared_errors, td_target
from zoo.policies import Critic, DeterministicActor, Policy, minimum
from zoo.policies.mlp import Norm
from zoo.policies.residual import Network


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig(AgentConfig):
    """TD3's settings (Fujimoto et al. 2018, arXiv 1802.09477)."""

    actor_hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = (256, 256)
    actor_norm: Norm = "none"  # LayerNorm "before" or "after" each activation
    critic_norm: Norm = "none"
    actor_network: Network = "mlp"  # "residual": a block with spectral normalisation for each hidden entry
    critic_network: Network = "mlp"
    n_critics: int = 2
    actor_lr: Hyper = 3e-4
    critic_lr: Hyper = 3e-4
    gamma: Hyper = 0.99
    tau: Hyper = 0.005  # weight of the new parameters in the targets
    target_noise: Hyper = 0.2  # of the target action, in units of the half box
    target_noise_clip: Hyper = 0.5
    policy_delay: int = 2  # critic updates for each actor update
    target_delay: int = 2  # critic updates for each step of the targets
    cosine_steps: int = 0  # the actor's learning rate falls to 0 over so many offline updates; 0: it is constant
    search_noise: float = 0.2  # spread of the candidates of evaluation sampling
    # Online:
    exploration_noise: float = 0.1
    online_policy_delay: int = 2
    online_gamma: Hyper | None = None  # None: as offline

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor_lr", "critic_lr"):
            self.check_positive(name)
        for name in ("gamma", "tau") if self.online_gamma is None else ("gamma", "online_gamma", "tau"):
            self.check_between(name, 0.0, 1.0)
        for name in ("target_noise", "target_noise_clip", "search_noise", "exploration_noise"):
            self.check_at_least(name, 0.0)
        for name in ("n_critics", "policy_delay", "target_delay", "online_policy_delay"):
            self.check_at_least(name, 1)
        self.check_at_least("cosine_steps", 0)


class ActorCritic(Agent):
    """A deterministic actor, an ensemble of critics, and targets of both. A paper adds actor_loss."""

    config: ActorCriticConfig

    # The ensemble's one opinion, where candidates are scored; (..., E, B) -> (..., B).
    aggregate: Callable[[Tensor], Tensor] = staticmethod(minimum)

    def build(self) -> None:
        c = self.config
        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        self.policy = Policy(self.new_actor(), self.new_critic(), self.spec.observation_size, low, high, self.aggregate)
        self.target_actor = self.new_actor().requires_grad_(False)
        self.target_critic = self.new_critic().requires_grad_(False)
        self.initialize()
        self.target_actor.load_state_dict(self.actor.state_dict())
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.targets = Targets((self.target_actor, self.actor), (self.target_critic, self.critic))
        self.optimizers = {
            "actor": Adam(self.actor.parameters(), c.actor_lr),
            "critic": Adam(self.critic.parameters(), c.critic_lr),
        }

    def new_actor(self) -> DeterministicActor:
        """A new actor; the policy's and the target's come from here. Override it for a network of your own."""
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        return DeterministicActor(
            *sizes, c.actor_hidden, self.lead, c.search_noise, c.actor_norm, c.actor_network, c.activation
        )

    def new_critic(self) -> Critic:
        """New critics, the policy's or the targets'. Override it for networks of your own."""
        c, sizes = self.config, (self.spec.observation_size, self.spec.action_size)
        return Critic(*sizes, c.critic_hidden, c.n_critics, self.lead, c.critic_norm, c.critic_network, c.activation)

    def initialize(self) -> None:
        """Changes the initial parameters where a paper has its own; by default they are PyTorch's."""

    @property
    def actor(self) -> DeterministicActor:
        return self.policy.actor  # type: ignore[return-value]

    @property
    def critic(self) -> Critic:
        return self.policy.critic

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """TD3: each critic towards r + gamma * min of the target critics; the critics' errors are summed."""
        next_actions = self.target_actions(batch.next_observations)
        next_q = self.aggregate(self.target_critic(batch.next_observations, next_actions))
        target_q = td_target(self.scaled_rewards(batch), batch.terminations, next_q, self.gamma)
        qs = self.critic(batch.observations, batch.actions)  # (E, B)
        loss = squared_errors(qs, target_q).sum(-1)
        return loss, {"critic/loss": loss.detach(), "critic/q": qs.detach().mean((-2, -1))}

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        raise NotImplementedError

    @torch.no_grad()
    def target_actions(self, next_observations: Tensor) -> Tensor:
        """TD3's smoothed target action, in [-1, 1], (B, A)."""
        return self.smooth(self.target_actor(next_observations))

    def smooth(self, pi: Tensor) -> Tensor:
        """clip(pi + clip(noise)), (B, A)."""
        sigma, bound = (per_member(h, pi) for h in (self.hyper.target_noise, self.hyper.target_noise_clip))
        noise = (sigma * self.draws.normal("target_noise", pi)).clamp(-bound, bound)  # type: ignore[arg-type]
        return (pi + noise).clamp(-1.0, 1.0)

    def begin_update(self) -> None:
        super().begin_update()
        self.optimizers["actor"].scale_lr(self.actor_lr_factor())

    def phase(self) -> tuple[Hashable, ...]:
        return (self.actor_due, self.targets_due)

    def gradient_step(self, batch: Batch) -> Metrics:
        loss, metrics = self.critic_loss(batch)
        minimize(loss, self.optimizers["critic"])
        if self.actor_due:
            metrics |= self.update_actor(batch)
        if self.targets_due:
            self.update_targets()
        return metrics

    @property
    def gamma(self) -> float | Tensor:
        h = self.hyper
        return h.online_gamma if self.online and h.online_gamma is not None else h.gamma

    def update_actor(self, batch: Batch) -> Metrics:
        """One step of the actor and of whatever moves with it."""
        loss, metrics = self.actor_loss(batch)
        minimize(loss, self.optimizers["actor"])
        return metrics

    @property
    def policy_delay(self) -> int:
        return self.config.online_policy_delay if self.online else self.config.policy_delay

    @property
    def target_delay(self) -> int:
        return self.config.target_delay

    @property
    def actor_due(self) -> bool:
        return self.updates % self.policy_delay == 0

    @property
    def targets_due(self) -> bool:
        return self.updates % self.target_delay == 0

    def actor_lr_factor(self) -> float:
        """Share of actor_lr in force: a cosine over the offline updates where the config has one, 1 online."""
        horizon = self.config.cosine_steps
        return 1.0 if horizon == 0 or self.online else cosine(self.updates, horizon)

    def update_targets(self) -> None:
        """All targets take a step of tau towards their networks."""
        self.targets.follow(self.hyper.tau)

    def explore(self, observations: Tensor) -> Tensor:
        """The actor's action plus Gaussian noise, inside the box."""
        return explore_around(self.policy, observations, self.config.exploration_noise, self.acting)


def explore_around(policy: Policy, observations: Tensor, noise: float, draws: Draws) -> Tensor:
    """The actor's action plus Gaussian noise of this deviation in half boxes, inside the box, (..., B, A)."""
    pi = policy.actor(policy.normalize_observations(observations))
    return policy.scale_actions((pi + noise * draws.normal("exploration", pi)).clamp(-1.0, 1.0))


def cosine(step: int, horizon: int) -> float:
    """1 at step 0, 0.5 at half the horizon, 0 from the horizon on."""
    return 0.5 * (1.0 + math.cos(math.pi * min(step / horizon, 1.0)))

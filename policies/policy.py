"""The one path from an observation to an action: what predicts is what is evaluated and what ships."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo.policies.actor import Actor
from zoo.policies.critic import Critic, minimum
from zoo.policies.generative import GenerativeActor

UNBOUNDED = 3.0e38  # a limit that no float32 sensor reaches, and a number that every file format knows
MARGIN = 1.0  # observations are clipped to the data's range, widened on each side by so many times its width


class Policy(nn.Module):
    """Limits -> normaliser -> actor -> evaluation sampling -> action scaling.

    Observations enter in the units of the environment, (..., B, O), and actions leave in them, (..., B, A), inside the
    box. The statistics and the box are buffers, so they are in every checkpoint and inside every exported graph.

    actor: a module of policies/actor.py, whose noise has the size of an action, or a GenerativeActor, which says what
        noise makes an action of it.
    critic: scores the candidates of evaluation sampling.

    aggregate: (..., E, B) -> (..., B), the ensemble's one opinion.
    low, high: (A,), the action box.

    What the networks see stays near the data, see limit_observations: far outside they were never trained. A dimension
    that never moved in the data has weights that were never trained either; it is held at its constant.
    """

    observation_low: Tensor
    observation_high: Tensor
    observation_mean: Tensor
    observation_std: Tensor
    action_center: Tensor
    action_half_range: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        actor: Actor | GenerativeActor,
        critic: Critic,
        observation_size: int,
        low: Tensor,
        high: Tensor,
        aggregate: Callable[[Tensor], Tensor] = minimum,
    ):
        super().__init__()
        self.actor = actor
        self.critic = critic
        self.aggregate = aggregate
        self.register_buffer("observation_low", torch.full((observation_size,), -UNBOUNDED))
        self.register_buffer("observation_high", torch.full((observation_size,), UNBOUNDED))
        self.register_buffer("observation_mean", torch.zeros(observation_size))
        self.register_buffer("observation_std", torch.ones(observation_size))
        self.register_buffer("action_center", (low + high) / 2)
        self.register_buffer("action_half_range", (high - low) / 2)
        self.register_buffer("action_low", low)
        self.register_buffer("action_high", high)

    @property
    def generative(self) -> bool:
        """Whether every action is drawn: then predict and policy.onnx take noise for one candidate too."""
        return isinstance(self.actor, GenerativeActor)

    @property
    def noise_size(self) -> int:
        """N, how many standard normal numbers make one candidate."""
        return self.actor.noise_size if isinstance(self.actor, GenerativeActor) else self.action_center.shape[-1]

    @property
    def has_critics(self) -> bool:
        return self.critic.members > 0

    def limit_observations(self, low: Tensor, high: Tensor) -> None:
        """Clips observations to [low, high] (O,), the data's range, widened by MARGIN of its width on each side."""
        margin = MARGIN * (high - low)
        self.observation_low.copy_((low - margin).clamp(-UNBOUNDED, UNBOUNDED))
        self.observation_high.copy_((high + margin).clamp(-UNBOUNDED, UNBOUNDED))

    @property
    def limited(self) -> bool:
        """Whether limits are set; policies of earlier versions have none."""
        return bool((self.observation_low > -UNBOUNDED).any() or (self.observation_high < UNBOUNDED).any())

    @property
    def constant(self) -> list[int]:
        """Indices of the dimensions that never moved in the data and are held at their constant."""
        return torch.nonzero(self.observation_low == self.observation_high).flatten().tolist()

    def normalize_observations(self, observations: Tensor) -> Tensor:
        """Within the limits, then by mean and deviation."""
        seen = torch.minimum(torch.maximum(observations, self.observation_low), self.observation_high)
        return (seen - self.observation_mean) / self.observation_std

    def normalize_actions(self, actions: Tensor) -> Tensor:
        """From the box to [-1, 1]."""
        return (actions - self.action_center) / self.action_half_range

    def scale_actions(self, actions: Tensor) -> Tensor:
        """From [-1, 1] to the box; clamped, because rounding may step over its edge."""
        scaled = self.action_center + self.action_half_range * actions
        return torch.minimum(torch.maximum(scaled, self.action_low), self.action_high)

    def forward(self, observations: Tensor) -> Tensor:
        """The actor's own action, (..., B, A): its mode, or what a generative one makes of noise that is zero."""
        return self.scale_actions(self.actor(self.normalize_observations(observations)))

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """One draw of a stochastic actor. noise: standard normal (..., B, N) -> (..., B, A)."""
        return self.scale_actions(self.actor.sample(self.normalize_observations(observations), noise))

    def search(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Evaluation sampling: the best of M candidates in the critics' opinion; ties go to the first.

        noise: standard normal (..., B, M, N). The actor's mode is not itself a candidate. Of one candidate the critics
        are not asked.
        Source: Cetin et al. 2024, arXiv 2403.13097, section 4 (evaluation sampling).
        """
        observations = self.normalize_observations(observations)
        candidates = self.actor.candidates(observations, noise)  # (..., B, M, A)
        if candidates.shape[-2] == 1:
            return self.scale_actions(candidates.squeeze(-2))
        q = self.aggregate(self.critic.several(observations, candidates).flatten(-2)).unflatten(
            -1, candidates.shape[-3:-1]
        )
        best = q.argmax(-1, keepdim=True).unsqueeze(-1)  # (..., B, 1, 1)
        chosen = candidates.gather(-2, best.expand(*best.shape[:-1], candidates.shape[-1]))
        return self.scale_actions(chosen.squeeze(-2))

    def evaluate(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The critics' aggregate opinion q (..., B) of actions given in the units of the environment."""
        normalized = self.normalize_actions(actions)
        return self.aggregate(self.critic(self.normalize_observations(observations), normalized))

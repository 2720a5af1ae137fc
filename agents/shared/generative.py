"""What agents share whose actor makes every action of noise."""

import dataclasses

from torch import Tensor

from zoo.agents.core.config import Hyper
from zoo.agents.shared.learned_scale import ScaleConfig, Scaled
from zoo.policies import Critic


@dataclasses.dataclass(frozen=True)
class GenerativeConfig(ScaleConfig):
    n_critics: int = 2
    actor_lr: Hyper = 3e-4
    critic_lr: Hyper = 3e-4
    gamma: Hyper = 0.99
    tau: Hyper = 0.005  # weight of the new parameters in the target critics

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("actor_lr", "critic_lr"):
            self.check_positive(name)
        for name in ("gamma", "tau"):
            self.check_between(name, 0.0, 1.0)
        self.check_at_least("n_critics", 1)


class Generative(Scaled):
    """A paper adds build, gradient_step, and the actor's type."""

    config: GenerativeConfig

    @property
    def critic(self) -> Critic:
        return self.policy.critic

    def explore(self, observations: Tensor) -> Tensor:
        """As it acts: one draw, or the best of several in the critics' opinion."""
        shape = (*observations.shape[:-1], self.config.evaluation_samples, self.policy.noise_size)
        return self.policy.search(observations, self.acting.normal("exploration", observations.new_empty(shape)))

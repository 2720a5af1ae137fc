"""AWAC: an actor that clones the data's actions, weighted by how much better they are than its own.

Nair et al. 2020, "AWAC: Accelerating Online Reinforcement Learning with Offline Datasets", arXiv 2006.09359. Critics
learn the policy's own value by TD; the actor's loss is -exp(A / temperature) log pi(a|s).

The defaults are the settings of its re-runs (CORL). The preset "simple-ingredients" is the form of Cetin et al. 2024,
arXiv 2403.13097: a fixed deviation of 0.2, pessimism by the critics' distance, and weights normalised in the batch.
"""

import dataclasses
from typing import Literal

from zoo.agents.core.batch import Batch
from zoo.agents.core.config import Hyper
from zoo.agents.core.learner import Metrics
from zoo.agents.core.optim import minimize
from zoo.agents.shared.weighted import Weighted, WeightedConfig


@dataclasses.dataclass(frozen=True)
class AWACConfig(WeightedConfig):
    normalize_observations: bool = True
    actor_hidden: tuple[int, ...] = (256, 256, 256)
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    policy_mean: Literal["tanh", "linear"] = "linear"
    log_std_min: float = -20.0
    temperature: Hyper = 1.0 / 3.0


class AWAC(Weighted):
    """critic_loss is Weighted's."""

    Config = AWACConfig

    def gradient_step(self, batch: Batch) -> Metrics:
        loss, metrics = self.critic_loss(batch)
        minimize(loss, self.optimizers["critic"])
        loss, actor_metrics = self.cloning_loss(batch, self.sampled_advantage(batch))
        minimize(loss, self.optimizers["actor"])
        self.update_targets()
        return metrics | actor_metrics

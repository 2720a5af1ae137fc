"""TD3+BC with SSAR: cloning weighted state by state, and only where the data deserve it.

Luo et al. 2025, "Learning to Trust Bellman Updates: Selective State-Adaptive Regularization for Offline RL",
arXiv 2505.19923. On top of TD3+BC: LayerNorm critics; a network beta(s) in place of the one cloning weight, which
falls where the data's action lies within n * delta of the policy's and rises where it does not; n grows until the
data's actions are inside on average; and a sub-dataset of trusted transitions, to which the coefficient's loss and
(mask_cloning) the cloning itself are confined. Online, beta is frozen and annealed to zero.
"""

import dataclasses

import torch
from torch import Tensor

from agents.actor_critic import ActorCritic, ActorCriticConfig
from agents.base import Metrics
from agents.batch import COLUMNS, Batch
from agents.config import Hyper, OnlineBuffer
from agents.losses import cloning_errors, per_member, scale_free
from agents.optim import Adam, minimize
from agents.replay import Table
from agents.spec import Dataset
from agents.trust import AdvantageFilter, Trust, by_return, by_success
from policies import Coefficient
from policies.mlp import Norm

CHUNK = 100_000  # rows that the filter judges in one go


@dataclasses.dataclass(frozen=True)
class TD3BCSAConfig(ActorCriticConfig):
    normalize_observations: bool = True
    critic_norm: Norm = "before"
    alpha: Hyper = 2.5  # TD3+BC's; beta begins at 1 / alpha and stays below 1.5 / alpha
    coefficient_hidden: tuple[int, ...] = (512, 512, 512)
    coefficient_lr: Hyper = 3e-8  # not a misprint: half a million weights move together
    coefficient_clip: float = 0.5  # largest norm of its gradient
    delta: Hyper = 0.1  # the unit of the trust region's half width, in half boxes
    n_start: float = 1.0  # its size in units of delta
    n_end: float = 3.0
    n_interval: int = 50_000  # updates between two steps of n
    n_increments: int = 10  # steps from n_start to n_end
    trust: Trust = "return"
    min_return: float | None = None  # trust="return": episodes above it; None: from the average one on
    expectile: float = 0.7  # trust="iql"
    filter_steps: int = 1_000_000  # updates of the filter before the agent's first
    filter_lr: float = 3e-4
    mask_cloning: bool = True  # clone trusted transitions only; False: all, with beta fitted to the trusted ones
    # Online:
    online_buffer: OnlineBuffer = "part"
    buffer_size: int = 2_000_000
    learning_starts: int = 5000
    exploration_noise: float = 0.0
    anneal_steps: int = 400_000  # online updates until cloning has vanished; 0: it stays

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "coefficient_lr", "coefficient_clip", "delta", "n_start", "filter_lr"):
            self.check_positive(name)
        for name in ("n_interval", "n_increments", "filter_steps"):
            self.check_at_least(name, 1)
        self.check_at_least("n_end", self.n_start)
        self.check_between("expectile", 0.0, 1.0)
        self.check_at_least("anneal_steps", 0)
        if self.trust == "iql" and {"gamma", "reward_scale", "reward_shift"} & set(self.sweeps()):
            raise ValueError("trust='iql' trains one filter for all members: gamma and rewards cannot be swept with it")


class TD3BCSA(ActorCritic):
    """critic_loss and update are ActorCritic's. The targets move with the actor, however rarely that is."""

    Config = TD3BCSAConfig
    config: TD3BCSAConfig
    columns = (*COLUMNS, "trusted")
    n: Tensor
    n_rises: Tensor

    def build(self) -> None:
        super().build()
        c, size = self.config, self.spec.observation_size
        self.coefficient = Coefficient(size, 1.5 / self.hyper.alpha, c.coefficient_hidden, self.lead)
        self.optimizers["coefficient"] = Adam(self.coefficient.parameters(), c.coefficient_lr)
        self.register_buffer("n", torch.full(self.lead, c.n_start))
        self.register_buffer("n_rises", torch.ones(self.lead, dtype=torch.bool))
        self.filter: AdvantageFilter | None = None
        if c.trust == "iql":
            self.filter = AdvantageFilter(size, self.spec.action_size, c.expectile, self.hyper.gamma, c.filter_lr)
            self.optimizers |= self.filter.optimizers

    # The trusted sub-dataset ----------------------------------------------------------------------------------------

    @property
    def preparation_steps(self) -> int:
        return self.config.filter_steps if self.filter is not None else 0

    def prepare(self, table: Table) -> Metrics:
        """One update of the filter, which a population shares."""
        assert self.filter is not None
        rows = self.batches.indices("batch", (self.config.batch_size,), table.size)
        batch = self.normalize(self.layout.unpack(table.gather(rows)))
        return self.filter.update(batch, self.scaled_rewards(batch))

    def annotate(self, table: Table, dataset: Dataset) -> None:
        """Marks the trusted rows. Raises ValueError where there are none."""
        if self.config.trust == "return":
            trusted = torch.from_numpy(by_return(dataset, self.config.min_return))
        elif self.config.trust == "success":
            trusted = torch.from_numpy(by_success(dataset))
        elif self.filter is not None:
            chunks = table.rows[: table.size].split(CHUNK)
            trusted = torch.cat([self.filter.keep(self.normalize(self.layout.unpack(rows))) for rows in chunks])
        else:
            return
        table.column("trusted").copy_(trusted)
        self.logger.record("trusted/share", float(trusted.to(torch.float64).mean()))

    # Updates --------------------------------------------------------------------------------------------------------

    @property
    def target_delay(self) -> int:
        return self.policy_delay

    @property
    def anneal(self) -> float:
        """Share of the cloning left, equation 15: 1 offline, falling to 0 over anneal_steps online updates."""
        steps = self.config.anneal_steps
        return max(1.0 - self.online_updates / steps, 0.0) if self.online and steps else 1.0

    def update_actor(self, batch: Batch) -> Metrics:
        """-Q_1(s, pi) / mean|Q_1| + mean beta(s) (pi - a)^2; equations 13 and 14. Offline beta takes a step too."""
        assert batch.trusted is not None
        pi = self.actor(batch.observations)  # (B, A)
        q = self.critic.first(batch.observations, pi)  # (B,)
        with torch.set_grad_enabled(not self.online):
            beta = self.coefficient(batch.observations)  # (B,)
        errors = cloning_errors(pi, batch.actions)  # (B,)
        pull = self.anneal * beta.detach() * (batch.trusted if self.config.mask_cloning else 1.0)
        loss = (pull * errors).mean(-1) - scale_free(q).mean(-1)
        self.optimizers["actor"].scale_lr(self.actor_lr_factor())
        minimize(loss, self.optimizers["actor"])
        metrics = {
            "actor/loss": loss.detach(),
            "actor/bc": errors.detach().mean(-1),
            "actor/q": q.detach().mean(-1),
            "coefficient/beta": beta.detach().mean(-1),
            "coefficient/n": self.n.clone(),
        }
        if not self.online:
            metrics |= self.update_coefficient(batch, pi.detach(), beta)
        return metrics

    def update_coefficient(self, batch: Batch, pi: Tensor, beta: Tensor) -> Metrics:
        """mean (n^2 delta^2 - (pi - a)^2) * beta(s) over the trusted rows, equation 12; then n's own schedule.

        pi: the policy's actions of before its step. Each dimension's error counts at most 1, and the mean divides by
        the whole batch, as in the paper's code.
        """
        trusted = batch.trusted
        assert trusted is not None
        region = per_member((self.n * self.hyper.delta).square(), beta)
        room = region - (pi - batch.actions).square().clamp(max=1.0).mean(-1)  # (B,), positive: inside the region
        loss = (room * trusted * beta).mean(-1)
        minimize(loss, self.optimizers["coefficient"], max_norm=self.config.coefficient_clip)
        if self.updates % self.config.n_interval == 0:
            self.step_n((room * trusted).sum(-1), trusted.sum(-1))
        return {"coefficient/loss": loss.detach(), "coefficient/room": room.mean(-1)}

    def step_n(self, room: Tensor, count: Tensor) -> None:
        """n takes a step, equation 8, until the trusted actions are inside on average; then it stays for good.

        room: its sum over the trusted rows. A batch without any says nothing.
        """
        c = self.config
        self.n_rises &= room <= 0.0
        step = (c.n_end - c.n_start) / c.n_increments
        self.n.copy_(torch.where(self.n_rises & (count > 0.0), (self.n + step).clamp(max=c.n_end), self.n))

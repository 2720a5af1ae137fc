"""What SSAR adds to an algorithm: a coefficient for every state, and a sub-dataset that it trusts.

Luo et al. 2025, "Learning to Trust Bellman Updates: Selective State-Adaptive Regularization for Offline RL",
arXiv 2505.19923. beta(s) takes the place of the one weight of a regulariser. It falls where the data's action lies in a
trust region of size n around the policy's and rises where it does not; n grows until the data's actions are inside on
average. The coefficient's loss, and with mask_cloning the regulariser itself, see the trusted transitions only. Online
beta is frozen and annealed to zero.
"""

import dataclasses
import math
from collections.abc import Hashable
from typing import Literal

import torch
from torch import Tensor

from zoo.agents.agent import Agent
from zoo.agents.core.batch import COLUMNS, Batch
from zoo.agents.core.config import AgentConfig, Hyper
from zoo.agents.core.learner import Metrics, Preparation
from zoo.agents.core.optim import Adam, minimize
from zoo.agents.core.replay import Table
from zoo.agents.core.spec import Dataset
from zoo.agents.shared.trust import AdvantageFilter, Trust, by_return, by_success
from zoo.policies import Coefficient

CHUNK = 100_000  # rows that the filter judges in one go


@dataclasses.dataclass(frozen=True)
class SelectiveConfig(AgentConfig):
    coefficient_hidden: tuple[int, ...] = (512, 512, 512)
    coefficient_lr: Hyper = 3e-8  # not a misprint: half a million weights move together
    coefficient_clip: float = 0.5  # largest norm of its gradient
    n_start: float = 1.0  # size of the trust region
    n_end: float = 3.0
    n_interval: int = 50_000  # updates between two steps of n, a multiple of the coefficient's own interval
    n_increments: int = 10  # steps from n_start to n_end; the paper's text has as many as there are n_intervals
    trust: Trust = "return"
    min_return: float | None = None  # trust="return": episodes above it; None: from the average one on
    expectile: float = 0.7  # trust="iql"
    filter_steps: int = 1_000_000  # updates of the filter before the agent's first
    filter_lr: float = 3e-4
    mask_cloning: bool = True  # regularise trusted transitions only; False: all, with beta fitted to the trusted ones
    # Online:
    # "subset": a buffer that begins with the trusted transitions; the others are AgentConfig's.
    online_buffer: Literal["half", "all", "part", "subset", "none"] = "part"  # type: ignore[assignment]
    buffer_size: int = 2_000_000
    learning_starts: int = 5000
    anneal_steps: int = 400_000  # online updates until the regulariser has vanished; 0: it stays

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("coefficient_lr", "coefficient_clip", "n_start", "filter_lr"):
            self.check_positive(name)
        for name in ("n_interval", "n_increments", "filter_steps"):
            self.check_at_least(name, 1)
        self.check_at_least("n_end", self.n_start)
        self.check_between("expectile", 0.0, 1.0)
        if self.min_return is not None:
            self.check_at_least("min_return", -math.inf)
        self.check_at_least("anneal_steps", 0)
        if self.trust == "iql" and {"gamma", "reward_scale", "reward_shift"} & set(self.sweeps()):
            raise ValueError("trust='iql' trains one filter for all members: gamma and rewards cannot be swept with it")


class Selective(Agent):
    """A paper's file calls build_selection, and update_coefficient with its own measure of the trust region."""

    config: SelectiveConfig
    preparation = Preparation(
        "a filter of the data (trust='iql')",
        "only transitions that it trusts are cloned, so it comes first",
        "filter_steps",
    )
    columns = (*COLUMNS, "trusted")
    annealed: Tensor
    n: Tensor
    n_rises: Tensor

    def build_selection(self, bound: float | Tensor, gamma: float) -> None:
        """bound: the largest beta, a number or one for each member (P,). gamma: of the filter."""
        c, size = self.config, self.spec.observation_size
        self.coefficient = Coefficient(size, bound, c.coefficient_hidden, self.lead)
        self.optimizers["coefficient"] = Adam(self.coefficient.parameters(), c.coefficient_lr)
        self.register_buffer("annealed", torch.ones(()), persistent=False)  # the regulariser's share, 1 offline
        self.register_buffer("n", torch.full(self.lead, c.n_start))
        self.register_buffer("n_rises", torch.ones(self.lead, dtype=torch.bool))
        self.filter: AdvantageFilter | None = None
        if c.trust == "iql":
            self.filter = AdvantageFilter(size, self.spec.action_size, c.expectile, gamma, c.filter_lr)
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
            chunks = map(self.layout.unpack, table.split(CHUNK))
            trusted = torch.cat([self.filter.keep(self.normalize(batch)) for batch in chunks])
            if not trusted.any():
                raise ValueError(
                    f"the filter trusts no transition of {dataset.name}: train it longer (filter_steps), or give a "
                    "smaller expectile, or trust='return'"
                )
        else:
            return
        table.choose("trusted", trusted)
        self.logger.record("trusted/share", float(trusted.to(torch.float64).mean()))

    def starting_rows(self, table: Table, dataset: Dataset) -> Tensor:
        """With online_buffer="subset" the buffer begins with the trusted rows."""
        if self.config.online_buffer == "subset":
            return table.column("trusted").nonzero().squeeze(-1)
        return super().starting_rows(table, dataset)

    # Updates --------------------------------------------------------------------------------------------------------

    def begin_update(self) -> None:
        super().begin_update()
        self.annealed.fill_(self.annealing(self.online_share))

    def annealing(self, online_share: float) -> float:
        """The regulariser's share when online_share of its annealing is done: from 1 at 0 to 0 at 1."""
        raise NotImplementedError

    def phase(self) -> tuple[Hashable, ...]:
        return (*super().phase(), self.n_due)

    @property
    def n_due(self) -> bool:
        return self.updates % self.config.n_interval == 0

    @property
    def online_share(self) -> float:
        """Share of the online annealing that is done: 0 offline, then from 0 to 1 over anneal_steps updates."""
        steps = self.config.anneal_steps
        return min(self.online_updates / steps, 1.0) if self.online and steps else 0.0

    def update_coefficient(self, batch: Batch, room: Tensor, beta: Tensor) -> Metrics:
        """mean room(s, a) * beta(s) over the trusted rows, equations 5 and 12; then n's own schedule.

        room: (B,), without gradient, positive where the data's action is inside the trust region. The mean divides by
        the whole batch, as in the paper's code.
        """
        trusted = batch.trusted
        assert trusted is not None
        loss = (room * trusted * beta).mean(-1)
        minimize(loss, self.optimizers["coefficient"], max_norm=self.config.coefficient_clip)
        if self.n_due:
            self.step_n((room * trusted).sum(-1), trusted.sum(-1))
        return {"coefficient/loss": loss.detach(), "coefficient/room": room.mean(-1), "coefficient/n": self.n.clone()}

    def step_n(self, room: Tensor, count: Tensor) -> None:
        """n takes a step, equation 8, until the trusted actions are inside on average; then it stays for good.

        room: its sum over the trusted rows. A batch without any says nothing.
        """
        c = self.config
        self.n_rises &= room <= 0.0
        step = (c.n_end - c.n_start) / c.n_increments
        self.n.copy_(torch.where(self.n_rises & (count > 0.0), (self.n + step).clamp(max=c.n_end), self.n))

"""Cal-QL: CQL whose penalty stops at what the behaviour is known to have earned, so that online begins well.

Nakamoto et al. 2023, "Cal-QL: Calibrated Offline RL Pre-Training for Efficient Online Fine-Tuning", arXiv 2303.05479.
CQL pushes the values of the policy's actions below those of the data without a limit; online the agent then climbs back
before it improves. Here they are pushed down to the return of the data from the state on, and not below. Online the
floor stays, with the returns of the episodes that have ended.
"""

import dataclasses
from typing import Literal

from zoo.agents.cql import CQL, CQLConfig


@dataclasses.dataclass(frozen=True)
class CalQLConfig(CQLConfig):
    return_floor: Literal["none", "dense", "sparse"] = "dense"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.return_floor == "none":
            raise ValueError('without return_floor Cal-QL is CQL: give return_floor="dense" or "sparse", or use CQL')


class CalQL(CQL):
    """Every loss is CQL's; see its return_floor."""

    Config = CalQLConfig

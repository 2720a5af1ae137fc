"""The agents, one file for each paper, and the loader for a checkpoint of any of them."""

import os
from collections.abc import Iterable

import torch

from zoo.agents.agent import Agent
from zoo.agents.asac import ASAC, ASACConfig
from zoo.agents.aspc import ASPC, ASPCConfig
from zoo.agents.awac import AWAC, AWACConfig
from zoo.agents.bc import BC, BCConfig
from zoo.agents.calql import CalQL, CalQLConfig
from zoo.agents.car import CAR, CARConfig
from zoo.agents.core.batch import Batch
from zoo.agents.core.learner import OURS
from zoo.agents.core.spec import DataSpec
from zoo.agents.cql import CQL, CQLConfig
from zoo.agents.cqlsa import CQLSA, CQLSAConfig
from zoo.agents.diffusion_ql import DiffusionQL, DiffusionQLConfig
from zoo.agents.edac import EDAC, EDACConfig
from zoo.agents.files.checkpoint import CheckpointError, read_checkpoint
from zoo.agents.fql import FQL, FQLConfig
from zoo.agents.iql import IQL, IQLConfig
from zoo.agents.pars import PARS, PARSConfig
from zoo.agents.rebrac import ReBRAC, ReBRACConfig
from zoo.agents.rlpd import RLPD, RLPDConfig
from zoo.agents.sacn import SACN, SACNConfig
from zoo.agents.spot import SPOT, SPOTConfig
from zoo.agents.td3 import TD3, TD3Config
from zoo.agents.td3bc import TD3BC, TD3BCConfig
from zoo.agents.td3bcsa import TD3BCSA, TD3BCSAConfig

AGENTS: dict[str, type[Agent]] = {
    "BC": BC,
    "TD3": TD3,
    "TD3BC": TD3BC,
    "ReBRAC": ReBRAC,
    "SPOT": SPOT,
    "PARS": PARS,
    "TD3BCSA": TD3BCSA,
    "CAR": CAR,
    "ASPC": ASPC,
    "AWAC": AWAC,
    "ASAC": ASAC,
    "IQL": IQL,
    "CQL": CQL,
    "CQLSA": CQLSA,
    "DiffusionQL": DiffusionQL,
    "FQL": FQL,
    "CalQL": CalQL,
    "SACN": SACN,
    "EDAC": EDAC,
    "RLPD": RLPD,
}


def load(path: str | os.PathLike, device: str | torch.device = "auto", classes: Iterable[type[Agent]] = ()) -> Agent:
    """The agent of a checkpoint, of whatever class it is. Raises CheckpointError for one that is not known.

    classes: your own subclasses of agents, which are known too.
    """
    config = read_checkpoint(path)[0]
    name = config["class"]
    of_ours = str(config.get("module", OURS)).startswith(OURS)  # a user's class may have the same name
    entered = {key: cls for key, cls in AGENTS.items() if cls.__module__.startswith(OURS) == of_ours}
    known = entered | {cls.__name__: cls for cls in classes}
    if name in known:
        return known[name].load(path, device=device)
    kin = f", a subclass of {config['paper']}" if config.get("paper", name) != name else ""
    raise CheckpointError(
        f"{path} holds a {name}{kin}, which is not one of this version's agents, {', '.join(AGENTS)}. If the class is "
        f"yours, name it: zoo.load(path, classes=[{name}]), or {name}.load(path); on the "
        "command line --import its module"
    )


__all__ = [
    "AGENTS",
    "ASAC",
    "ASPC",
    "AWAC",
    "BC",
    "CAR",
    "CQL",
    "CQLSA",
    "EDAC",
    "FQL",
    "IQL",
    "PARS",
    "RLPD",
    "SACN",
    "SPOT",
    "TD3",
    "TD3BC",
    "TD3BCSA",
    "ASACConfig",
    "ASPCConfig",
    "AWACConfig",
    "Agent",
    "BCConfig",
    "Batch",
    "CARConfig",
    "CQLConfig",
    "CQLSAConfig",
    "CalQL",
    "CalQLConfig",
    "CheckpointError",
    "DataSpec",
    "DiffusionQL",
    "DiffusionQLConfig",
    "EDACConfig",
    "FQLConfig",
    "IQLConfig",
    "PARSConfig",
    "RLPDConfig",
    "ReBRAC",
    "ReBRACConfig",
    "SACNConfig",
    "SPOTConfig",
    "TD3BCConfig",
    "TD3BCSAConfig",
    "TD3Config",
    "load",
]

"""Small seeded data, an environment and agents for tests."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from zoo.agents import AGENTS, Agent, Batch
from zoo.agents.core.draws import Draws
from zoo.agents.core.replay import Table
from zoo.agents.files.saving import agent_tensors
from zoo.datasets.dataset import OfflineDataset
from zoo.policies import MLP

WITH_CRITICS = {name: cls for name, cls in AGENTS.items() if "critic_hidden" in cls.Config.names()}
LEARNING_ONLINE = {name: cls for name, cls in AGENTS.items() if cls.offline_only is None}


def candidates(cls: type[Agent], count: int) -> int:
    """Candidates for the critics to choose from, where an agent has any."""
    return count if cls in WITH_CRITICS.values() else 1


OBS, ACT, LENGTH = 3, 2, 7
# Not the unit box, so that a forgotten scale or shift shows. Centre (-0.5, 0.25), half range (1.5, 0.25).
LOW, HIGH = (-2.0, 0.0), (1.0, 0.5)
BOX = Box(np.array(LOW, np.float32), np.array(HIGH, np.float32))
SMALL = {
    "actor_hidden": (16, 16),
    "critic_hidden": (16, 16),
    "n_critics": 3,
    "batch_size": 16,
    "buffer_size": 500,
    "learning_starts": 0,
    "online_buffer": "half",
    # Phases and schedules that begin at once, rates that show within a few updates.
    "density_hidden": (16, 16),
    "density_steps": 2,
    "warmup_steps": 2,
    "value_hidden": (16, 16),
    "reference_lr": 1e-3,
    "coefficient_hidden": (16, 16),
    "coefficient_lr": 1e-3,
    "n_interval": 2,
    "filter_steps": 3,
    "penalty_actions": 2,
    "alpha_interval": 1,
    "actor_target_start": 0,
    "actor_target_delay": 2,
    "evaluation_samples": 1,
}


def toy_dataset(rows: int = 210, seed: int = 0, name: str = "toy", rewards: np.ndarray | None = None) -> OfflineDataset:
    """Random transitions in episodes of 7, ended by a time limit and by a termination in turn; rewards in [0, 1]."""
    rng = np.random.default_rng(seed)
    last = np.arange(rows) % LENGTH == LENGTH - 1
    failed = last & (np.arange(rows) // LENGTH % 2 == 1)
    observations = rng.normal(2.0, 3.0, (rows + 1, OBS))
    return OfflineDataset.from_arrays(
        observations=observations[:-1],
        actions=rng.uniform(LOW, HIGH, (rows, ACT)),
        rewards=rng.integers(0, 9, rows) / 8 if rewards is None else rewards,  # eighths: exact in float32
        next_observations=observations[1:],
        terminations=failed,
        truncations=last & ~failed,
        action_space=BOX,
        name=name,
    )


def toy_batch(rows: int = 2) -> Batch:
    """A normalised float64 batch. Rewards 1, 2, 3, ...; only the second row is terminated."""
    rng = torch.Generator().manual_seed(0)
    wide = [torch.rand(rows, size, generator=rng, dtype=torch.float64) for size in (OBS, ACT, OBS)]
    index = torch.arange(rows, dtype=torch.float64)
    return Batch(wide[0], wide[1], 1.0 + index, wide[2], (index == 1.0).double())


def whole(data: OfflineDataset, agent: Agent) -> Batch:
    """All of a dataset as the agent's losses see it."""
    return agent.normalize(agent.layout.unpack(Table.of(data, agent.layout, agent.device, agent.dtype).rows))


def tiny(cls: type[Agent], data: OfflineDataset | None = None, **settings) -> Agent:
    """An agent with small networks and batches, for toy data unless others are given."""
    small = {name: value for name, value in SMALL.items() if name in cls.Config.names()}
    return cls(data or toy_dataset(), **({"device": "cpu"} | small | settings))


def prepared(cls: type[Agent], data: OfflineDataset, **settings) -> Agent:
    """The same with its preparation behind it, so that it may go online at once."""
    return tiny(cls, data, **settings).learn_offline(data, 0)


class ToyEnv(gym.Env):
    """Episodes of 7 steps, ended by a time limit and by a termination in turn. observation: (x, y, steps so far)."""

    observation_space = Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = BOX

    def __init__(self):
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode = 0 if seed is not None else self.episode + 1  # a seeded reset leaves nothing of the past
        self.place, self.steps = self.np_random.normal(size=2), 0
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action} is not a float32 action inside {self.action_space}"
        self.place = 0.9 * self.place + action
        self.steps += 1
        over, failed = self.steps == LENGTH, self.episode % 2 == 1
        return self._observation(), float(1.0 - abs(self.place[0])), over and failed, over and not failed, {}

    def _observation(self):
        return np.array([*self.place, self.steps], np.float32)


class FixedDraws:
    """Stands in for core.draws.Draws with given numbers by name; a name that is not given must not be drawn."""

    def __init__(self, **numbers):
        self.numbers = {name: torch.as_tensor(value) for name, value in numbers.items()}

    def normal(self, name: str, like: Tensor) -> Tensor:
        return self.numbers[name].to(like).expand(like.shape)

    uniform = normal

    def subset(self, name: str, lead: tuple[int, ...], size: int, of: int) -> Tensor:
        assert self.numbers[name].shape == (*lead, size)
        return self.numbers[name]


class Recorder:
    """Passes draws on and remembers them, so that a member of a population can be run again alone."""

    def __init__(self, draws: Draws):
        self.draws, self.log = draws, []

    def __getattr__(self, kind: str):
        def draw(name, *args, **kwargs):
            self.log.append((name, getattr(self.draws, kind)(name, *args, **kwargs)))
            return self.log[-1][1]

        return draw


class MemberOf:
    """Hands out one member's share of recorded draws, in their order."""

    def __init__(self, recorder: Recorder, index: int):
        self.log, self.index = iter(recorder.log), index

    def __getattr__(self, kind: str):
        def draw(name, *args, **kwargs):
            recorded, value = next(self.log)
            assert recorded == name
            return value[self.index]

        return draw


@torch.no_grad()
def constant_(mlp: MLP, values: float | list[float]) -> None:
    """Makes every network of an MLP a constant: one value, or one for each member of its ensemble."""
    mlp.linears[-1].weight.zero_()
    mlp.linears[-1].bias.copy_(torch.tensor(values).unsqueeze(-1) if isinstance(values, list) else torch.tensor(values))


@torch.no_grad()
def diverge_(agent: Agent, member: int | None = None) -> None:
    """Makes the actor NaN, or one member's of a population."""
    for parameter in agent.policy.actor.parameters():
        (parameter if member is None else parameter[member]).fill_(float("nan"))


def state(agent: Agent) -> dict[str, Tensor]:
    """Copies of all tensors that a checkpoint keeps, by name."""
    groups = agent_tensors(agent)
    return {f"{group}/{name}": value.clone() for group, tensors in groups.items() for name, value in tensors.items()}


def assert_same_state(one: Agent, other: Agent, **tolerance) -> None:
    """Every tensor equal, bit for bit unless a tolerance is given, and the counters with them."""
    mine, theirs = state(one), state(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        if tolerance:
            torch.testing.assert_close(mine[name], theirs[name], **tolerance, msg=lambda m, name=name: f"{name}: {m}")
        else:
            assert torch.equal(mine[name], theirs[name]), f"{name} differs"
    assert one.get_extra_state() == other.get_extra_state()


def changed(before: dict[str, Tensor], agent: Agent, group: str = "state/") -> set[str]:
    """Names of the tensors of a group that are no longer what they were."""
    now = {name: value for name, value in state(agent).items() if name.startswith(group)}
    return {name for name, value in now.items() if not torch.equal(value, before[name])}

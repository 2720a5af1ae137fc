"""What an agent remembers of the dataset that it was built for."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from gymnasium import spaces

from zoo.agents.core.conventions import STATED, check_convention, convention_of

WHOLE = 10_000_000  # rows that are all looked at for their range; of more, one piece in a hundred
PIECE = 10_000  # rows


class Dataset(Protocol):
    """What agents ask of a dataset; zoo.OfflineDataset is one."""

    @property
    def name(self) -> str: ...
    @property
    def env_id(self) -> str | None: ...
    @property
    def observation_space(self) -> spaces.Box: ...
    @property
    def action_space(self) -> spaces.Box: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...
    @property
    def stated(self) -> Mapping[str, Any]: ...
    def __len__(self) -> int: ...
    def column(self, name: str) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Spaces and a few facts of a dataset; kept in the checkpoint, so that loading needs no data."""

    name: str
    env_id: str | None
    observation_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    transitions: int
    reward_min: float
    reward_mean: float
    provenance: dict[str, Any]
    return_min: float = 0.0  # of the episodes, raw
    return_max: float = 1.0
    stated: dict[str, Any] = dataclasses.field(default_factory=dict)  # names, units, ranges, rate: zoo.export.stated
    reward_std: float = 1.0
    observation_low: tuple[float, ...] = ()  # least and largest number of each dimension; () in older checkpoints
    observation_high: tuple[float, ...] = ()
    history: int = 1  # observation_size is that of a row of the past, see core.stack: so many observations,
    delay: int = 0  # and so many actions
    reward_convention: str | None = None  # of sparse rewards, see core.conventions; older checkpoints do not say

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Raises TypeError for spaces that are not flat boxes, ValueError for an unbounded or empty action box."""
        observations, actions = dataset.observation_space, dataset.action_space
        for label, space in (("observation", observations), ("action", actions)):
            if not isinstance(space, spaces.Box) or len(space.shape) != 1:
                raise TypeError(
                    f"{label} space must be a Box of one axis, got {space}; wrap the environment in "
                    "gymnasium.wrappers.FlattenObservation, or concatenate the entries when you build the dataset"
                )
        if not (
            np.isfinite(actions.low).all() and np.isfinite(actions.high).all() and (actions.low < actions.high).all()
        ):
            raise ValueError(f"action box must be bounded with low < high, got low={actions.low}, high={actions.high}")
        rewards = dataset.column("rewards")
        returns = np.bincount(dataset.column("episode_ids"), weights=rewards.astype(np.float64))
        low, high = observed_range(dataset)
        return cls(
            name=dataset.name,
            env_id=dataset.env_id,
            observation_size=int(observations.shape[0]),
            action_low=tuple(actions.low.tolist()),
            action_high=tuple(actions.high.tolist()),
            transitions=len(dataset),
            reward_min=float(rewards.min()),
            reward_mean=float(rewards.mean(dtype=np.float64)),
            provenance={
                name: value.item() if isinstance(value, np.generic) else value  # JSON knows no NumPy scalars
                for name, value in dataset.provenance.items()
            },
            return_min=float(returns.min()),
            return_max=float(returns.max()),
            stated=dict(dataset.stated),
            reward_std=float(rewards.std(dtype=np.float64)),
            observation_low=low,
            observation_high=high,
            reward_convention=check_convention(dataset.provenance.get(STATED)) or convention_of(rewards),
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of dataclasses.asdict after a trip through JSON."""
        tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**(values | tuples))

    @property
    def benchmark(self) -> str | None:
        """The benchmark's dataset that these data are known to be, such as hopper-medium-v2."""
        name = self.provenance.get("benchmark")
        return None if name is None else str(name)

    def stacked(self, history: int, delay: int) -> Self:
        """The same data seen with so much of the past; of a spec that is so already, itself."""
        if (history, delay) == (self.history, self.delay):
            return self
        size = history * self.sent_size + delay * self.action_size
        # The range of each dimension is for observations as they are sent.
        return dataclasses.replace(
            self, observation_size=size, history=history, delay=delay, observation_low=(), observation_high=()
        )

    @property
    def sent_size(self) -> int:
        """O, of an observation as the environment or a robot sends it."""
        return (self.observation_size - self.delay * self.action_size) // self.history

    @property
    def observation_space(self) -> spaces.Box:
        """Of an observation as it is sent."""
        return spaces.Box(-np.inf, np.inf, (self.sent_size,), np.float32)

    @property
    def action_space(self) -> spaces.Box:
        return spaces.Box(
            np.array(self.action_low, np.float32), np.array(self.action_high, np.float32), dtype=np.float32
        )

    @property
    def action_size(self) -> int:
        return len(self.action_low)

    def check_env(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        """Raises ValueError where an environment is not the one that the data describe."""
        if not isinstance(observation_space, spaces.Box):
            raise ValueError(
                f"observations are {observation_space}, the agent takes vectors {self.observation_space.shape}: wrap "
                "the environment in gymnasium.wrappers.FlattenObservation"
            )
        if observation_space.shape != self.observation_space.shape:
            raise ValueError(
                f"observations have shape {observation_space.shape}, the agent was built for "
                f"{self.observation_space.shape} ({self.name})"
            )
        if not same_box(action_space, self.action_space):
            raise ValueError(f"actions are {action_space}, the agent was built for {self.action_space}")


def same_box(one: spaces.Space, other: spaces.Box) -> bool:
    """Whether two action spaces are one box: their bounds differ by a hundred-thousandth of its width at most.

    The unit in the last place of a float32 bound is let pass too, since one of both may have been rounded to it.
    """
    if not isinstance(one, spaces.Box) or one.shape != other.shape:
        return False
    low, high = other.low.astype(np.float64), other.high.astype(np.float64)
    rounding = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32)).astype(np.float64)
    tolerance = 1e-5 * (high - low) + rounding
    return bool((np.abs(one.low - low) <= tolerance).all() and (np.abs(one.high - high) <= tolerance).all())


def observed_range(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The least and the largest number of each dimension of the observations; of large data in a hundredth of them."""
    observations, count = dataset.column("observations"), len(dataset)
    if count == 0:
        return (), ()
    step, taken = (PIECE, PIECE) if count <= WHOLE else (100 * PIECE, PIECE)
    pieces = [observations[start : start + taken] for start in range(0, count, step)]
    low, high = (reduce([reduce(piece, axis=0) for piece in pieces], axis=0) for reduce in (np.min, np.max))
    return tuple(low.tolist()), tuple(high.tolist())

"""Hyper-parameters: checks, and sweeps over a population."""

import dataclasses
import difflib
import math
from collections.abc import Iterable
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

from zoo.policies.mlp import Activation

# One number, or one for each member of a population.
Hyper = float | tuple[float, ...]

# Where the batches of online fine-tuning come from. "half": offline_ratio of each from the dataset, the rest from the
# new transitions; "all": one buffer that begins with the dataset; "part": with its episodes of highest return;
# "none": new transitions only.
OnlineBuffer = Literal["half", "all", "part", "none"]

# What other libraries call our fields.
ELSEWHERE = {
    "learning_rate": ("actor_lr", "critic_lr"),
    "lr": ("actor_lr", "critic_lr"),
    "discount": ("gamma",),
    "polyak": ("tau",),
    "policy_freq": ("policy_delay",),
    "hidden_dims": ("actor_hidden", "critic_hidden"),
    "net_arch": ("actor_hidden", "critic_hidden"),
    "gradient_steps": ("updates_per_step",),
    "activation_fn": ("activation",),
}


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """What every agent has. Fields typed Hyper take a sequence too: one value for each member of the population."""

    batch_size: int = 256
    normalize_observations: bool = False  # by mean and std + 1e-3 of the dataset
    evaluation_samples: int = 1  # candidates that the critics choose from when acting; 1: the actor's own action
    activation: Activation = "relu"  # of the hidden layers of actor and critics; "none": they are linear
    reward_scale: Hyper = 1.0  # the update sees reward_scale * reward + reward_shift
    reward_shift: Hyper = 0.0
    history: int = 1  # observations that the networks see, the newest and those before it
    delay: int = 0  # actions beside them: so many ticks later an action acts. zoo data check estimates it
    actor_observations: tuple[str, ...] = ()  # names and groups that the actor may see; (): all. Critics see all
    # Online:
    online_buffer: OnlineBuffer = "half"
    buffer_size: int = 1_000_000  # online transitions kept, beside the rows that the buffer began with
    learning_starts: int = 0  # environment steps before the first update
    updates_per_step: int = 1  # gradient steps for each environment step
    offline_ratio: float = 0.5  # "half": share of each batch that comes from the dataset
    part_episodes: int = 50  # "part": how many episodes the buffer begins with

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, value := tuple(value))
            if not any(_fits(value, kind) for kind in kinds(hint)):
                raise self._misfit(name, value, hint)
        for name in ("batch_size", "evaluation_samples", "buffer_size", "updates_per_step", "part_episodes"):
            self.check_at_least(name, 1)
        self.check_positive("reward_scale")
        self.check_at_least("history", 1)
        self.check_at_least("delay", 0)
        self.check_at_least("learning_starts", 0)
        self.check_between("offline_ratio", 0.0, 1.0)

    def _misfit(self, name: str, value: Any, hint: Any) -> Exception:
        """What a value of another kind than the field's is told: TypeError, or ValueError for a wrong choice."""
        field = f"{type(self).__name__}.{name}"
        if isinstance(value, tuple) and not any(get_origin(kind) is tuple for kind in kinds(hint)):
            return TypeError(f"{field} is one value for the whole population and cannot be swept, got {value}")
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        error = ValueError if type(value) in map(type, choices) else TypeError
        return error(f"{field} must be {' or '.join(map(_kind_name, kinds(hint)))}, got {value!r}")

    def check_at_least(self, name: str, low: float) -> None:
        self._check(name, lambda value: value >= low, f"at least {low}")

    def check_between(self, name: str, low: float, high: float) -> None:
        self._check(name, lambda value: low <= value <= high, f"in [{low}, {high}]")

    @property
    def offline_rows(self) -> int:
        """Rows of each online batch that come straight from the dataset."""
        return round(self.offline_ratio * self.batch_size) if self.online_buffer == "half" else 0

    @property
    def buffer_begins_with_data(self) -> bool:
        return self.online_buffer not in ("half", "none")

    def check_positive(self, name: str) -> None:
        self._check(name, lambda value: value > 0, "positive")

    def _check(self, name: str, holds: Any, expected: str) -> None:
        for value in as_values(getattr(self, name)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise TypeError(f"{type(self).__name__}.{name} must be a finite number, got {value!r}")
            if not holds(value):
                raise ValueError(f"{type(self).__name__}.{name} must be {expected}, got {value}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def build(cls, settings: dict[str, Any]) -> Self:
        """A config from names and values; an unknown name raises TypeError and lists the known ones."""
        unknown = sorted(set(settings) - set(cls.names()))
        if unknown:
            hint = "".join(map(cls.nearest, unknown))
            raise TypeError(f"{cls.__name__} has no field {', '.join(unknown)}{hint}; it has {', '.join(cls.names())}")
        return cls(**settings)

    @classmethod
    def nearest(cls, name: str) -> str:
        """ " (did you mean alpha?)" for a name that no field has; empty where none is near."""
        meant = [field for field in ELSEWHERE.get(name.lower(), ()) if field in cls.names()]
        meant = meant or difflib.get_close_matches(name.lower(), cls.names(), n=1, cutoff=0.7)
        return f" (did you mean {' or '.join(meant)}?)" if meant else ""

    @classmethod
    def upgrade(cls, settings: dict[str, Any], version: int) -> dict[str, Any]:
        """The settings of a checkpoint of an older format, in today's units."""
        return settings

    def member(self, index: int) -> Self:
        """The config of one member of the population: every sweep replaced by that member's value."""
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in self.sweeps()})

    def sweeps(self) -> tuple[str, ...]:
        """Names of the fields that hold one value for each member."""
        return tuple(name for name in self._hyper_names() if isinstance(getattr(self, name), tuple))

    @classmethod
    def _hyper_names(cls) -> tuple[str, ...]:
        """Names of the fields typed Hyper, or Hyper | None."""
        return tuple(name for name, hint in get_type_hints(cls).items() if tuple[float, ...] in get_args(hint))

    def check_population(self, population: int | None) -> None:
        """Raises where a field is a sequence that is not one value for each member."""
        hints, sweeps = get_type_hints(type(self)), self.sweeps()
        for name in self.names():
            value = getattr(self, name)
            if not isinstance(value, tuple) or hints[name] in (tuple[int, ...], tuple[str, ...]):  # widths, names
                continue
            if name not in sweeps:
                raise TypeError(f"{name} is one value for the whole population and cannot be swept, got {value}")
            if population is None:
                raise ValueError(f"{name}={value} is a sweep; give population={len(value)} as well")
            if len(value) != population:
                raise ValueError(f"{name} has {len(value)} values for a population of {population}: {value}")

    def tensors(self, device: torch.device, dtype: torch.dtype) -> SimpleNamespace:
        """The fields as formulas use them: numbers as they are, sweeps as tensors (P,)."""
        values = dataclasses.asdict(self)
        for name in self.sweeps():
            values[name] = torch.tensor(values[name], device=device, dtype=dtype)
        return SimpleNamespace(**values)


def as_values(value: Hyper) -> Iterable[Any]:
    """A hyper-parameter as a sequence: the members' values, or the only one."""
    return value if isinstance(value, tuple) else (value,)


def kinds(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a field's type: float | None is (float, None)."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a field of this kind may hold the value. Kinds that the table below does not name are not checked."""
    if get_origin(kind) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        return isinstance(value, tuple) and all(_fits(item, of) and (of is not int or item >= 1) for item in value)
    if kind in (int, float):
        numbers = (int, np.integer) if kind is int else (int, float, np.integer, np.floating)
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in _KINDS else True


def _kind_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    return _KINDS.get(kind, str(kind))


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    type(None): "none",
    tuple[int, ...]: "whole numbers from 1 on in brackets, such as (256, 256)",
    tuple[float, ...]: "one number for each member of the population",
}

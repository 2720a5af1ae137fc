"""Learner: what every agent is, its state and its batches, and what a paper fills in."""

import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from zoo.agents.core import compute
from zoo.agents.core.batch import COLUMNS, Batch
from zoo.agents.core.config import AgentConfig
from zoo.agents.core.draws import Draws
from zoo.agents.core.log import make_logger
from zoo.agents.core.members import affine
from zoo.agents.core.observed import actor_columns
from zoo.agents.core.optim import Adam
from zoo.agents.core.presets import Preset, choose_preset
from zoo.agents.core.replay import Layout, Table, starting_rows
from zoo.agents.core.spec import Dataset, DataSpec, observed_range
from zoo.agents.core.stack import Stack, StackedDataset, stacked_columns
from zoo.agents.core.vector import vectorize
from zoo.agents.core.window import Packed, table_of
from zoo.policies import Policy, ResidualMLP, limit_sight, narrowed

Metrics = dict[str, Tensor]
OURS = "zoo.agents."
CHUNK = 100_000  # rows that the normaliser looks at in one go


class Preparation(NamedTuple):
    """A phase before the first gradient step, in words: what is fitted, why, and the field that has its steps."""

    what: str
    why: str
    field: str


def paper(cls: type) -> type:
    """The agent of this package that a class is, or the nearest one that a user's class comes from."""
    return next((base for base in cls.__mro__ if base.__module__.startswith(OURS)), cls)


def check_data(name: str, dataset: Any) -> None:
    """Raises TypeError that says what to write for what stands in the dataset's place in other libraries."""
    if isinstance(dataset, str | Path):
        raise TypeError(
            f"{name} learns from data and takes a dataset first: {name}(zoo.load_dataset({str(dataset)!r})), where "
            f"that names one. Policies have no name here, and an environment comes second: {name}(dataset, env)"
        )
    if isinstance(dataset, gym.Env | VecEnv | VectorEnv):
        raise TypeError(f"{name} takes a dataset first and the environment second: {name}(dataset, env)")


class Learner(nn.Module):
    """State, batches, and the pieces of an update. A paper defines Config, build, gradient_step and explore.

    dataset: what it will learn from; gives the spaces, the normaliser's statistics and the name of the preset.
    env: for fine-tuning, may come later. seed: of weights, batches, draws and environment; None draws one.
    population: train so many independent members at once; None is one ordinary agent, without a population axis.
    device: "auto" takes the GPU if there is one. precision: "fp32", or "bf16" matrix products where the CPU has them.
    verbose: 1 prints the log. tensorboard_log: folder for TensorBoard and CSV files.
    preset: the paper's settings to take, by the name of their dataset ("hopper-medium-v2") or of a variant
        ("simple-ingredients"). Without it: those of the benchmark that the data are known to be, else the defaults. The
        attribute says what was taken, None for the defaults, and checkpoints keep it.
    policy_kwargs, settings: fields of the agent's Config; they win over the preset.
    """

    Config: ClassVar[type[AgentConfig]]
    columns: ClassVar[tuple[str, ...]] = COLUMNS
    preparation: ClassVar[Preparation | None] = None  # in words, where preparation_steps may be above 0
    uncapturable: ClassVar[str | None] = None  # why a GPU cannot record gradient_step, where it cannot
    offline_only: ClassVar[str | None] = None  # why it cannot be fine-tuned online, where it cannot

    policy: Policy
    optimizers: dict[str, Adam]

    def __init__(
        self,
        dataset: Dataset | DataSpec,
        env: gym.Env | VecEnv | VectorEnv | None = None,
        *,
        seed: int | None = 0,
        population: int | None = None,
        device: str | torch.device = "auto",
        dtype: torch.dtype = torch.float32,
        precision: str = "fp32",
        verbose: int = 0,
        tensorboard_log: str | None = None,
        preset: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        **settings: Any,
    ):
        super().__init__()
        check_data(type(self).__name__, dataset)
        self.spec = dataset if isinstance(dataset, DataSpec) else DataSpec.of(dataset)
        loading = isinstance(dataset, DataSpec) and preset is None  # a checkpoint has its whole config
        known = Preset(None, {}, ()) if loading else choose_preset(paper(type(self)).__name__, self.spec, preset)
        self.config = self.Config.build(known.settings | (policy_kwargs or {}) | settings)
        self.config.check_population(population)
        self.spec = self.spec.stacked(self.config.history, self.config.delay)
        self.stack = Stack.of(self.spec)  # None: the newest observation is all that is seen
        self.seed = seed = int(np.random.default_rng().integers(2**31)) if seed is None else int(seed)
        self.population = population
        self.lead = () if population is None else (population,)
        self.device = compute.choose_device(device)
        self.dtype = dtype
        self.precision = compute.check_precision(precision, self.device)
        self.verbose = verbose
        self.tensorboard_log = tensorboard_log
        self.preset = known.name
        for doubt in known.doubts:
            warnings.warn(doubt, stacklevel=2)
        if verbose and not loading and not known.doubts:
            taken = f"the paper's settings for {self.preset}: {known.settings}"
            print(f"{type(self).__name__}:", taken if self.preset else f"no preset for {self.spec.name}: the defaults")

        self.hyper = self.config.tensors(self.device, dtype)
        self.layout = Layout(self.columns, self.spec.observation_size, self.spec.action_size)
        streams = [int(state) for state in np.random.SeedSequence(seed).generate_state(5)]
        self.batches = Draws(streams[0], self.device)
        self.draws = Draws(streams[1], self.device)
        self.acting = Draws(streams[2], self.device)  # of exploration
        self.predicting = Draws(streams[4], self.device)  # of predict alone: asking an agent changes nothing it learns
        self.updates = 0  # gradient steps, offline and online
        self.env_steps = 0  # environment steps seen online
        self.num_timesteps = 0  # offline gradient steps plus environment steps: the clock of callbacks and logs
        self.online_updates = 0  # gradient steps online
        self.prepared = 0  # steps of the phase before the first gradient step, see preparation_steps
        self.online = False
        self.finite_at: int | None = None  # num_timesteps when all of it was last seen to be finite
        self.replay: Table | None = None
        self.episodes: deque[dict[str, float]] = deque(maxlen=100)  # the last online episodes, as Monitor tells them
        self.successes: deque[float] = deque(maxlen=100)  # and whether they succeeded, where infos have "is_success"
        self.dump: Callable[[], None] | None = None  # writes the log, while there is a training
        self._env: VecEnv | None = None
        self._logger: Logger | None = None

        with self._seeded(streams[3]):
            self.build()
        self.sight = actor_columns(self.spec, self.config.actor_observations)  # columns; None: all
        if self.sight is not None:
            limit_sight(self, stacked_columns(self.spec, self.sight))
        self.residual = [module for module in self.modules() if isinstance(module, ResidualMLP)]
        if not isinstance(dataset, DataSpec):
            seen = self.stacked(dataset)
            self._limit_observations(seen)
            if self.config.normalize_observations:
                self._fit_normalizer(seen.column("observations"))
        if env is not None:
            self.set_env(env)

    # What a paper defines -------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Makes self.policy, the agent's other modules and self.optimizers. Called once, under the agent's seed."""
        raise NotImplementedError

    def gradient_step(self, batch: Batch) -> Metrics:
        """One gradient step on every network that is due. Metrics are detached, on the device, () or (P,).

        Nothing here may wait for the device, nor depend on the host but for what `phase` tells: a GPU records it once
        for each phase and replays the record.
        """
        raise NotImplementedError

    def explore(self, observations: Tensor) -> Tensor:
        """Actions to collect data with: raw observations (..., B, O) to actions (..., B, A), both in env units."""
        raise NotImplementedError

    # What a paper may define ----------------------------------------------------------------------------------------

    @property
    def preparation_steps(self) -> int:
        """Steps of a phase before the first gradient step: of a density model, of a filter of the data, ..."""
        return 0

    def prepare(self, table: Table) -> Metrics:
        """One step of that phase, on the dataset's rows."""
        raise NotImplementedError

    def annotate(self, table: Table, dataset: Dataset) -> None:
        """Fills in the columns of the dataset's table that are the agent's own choice (batch.CHOSEN)."""

    def episode_ended(self, table: Table, rows: Tensor, terminated: bool) -> None:
        """Told of every online episode that has ended: its rows (n,) of the buffer, in time order."""

    def memory(self) -> dict[str, Tensor]:
        """Tensors beside parameters and buffers that a checkpoint keeps, of a size that changes while learning."""
        return {}

    def restore_memory(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of memory. Raises ValueError for tensors that are not its own."""

    def starting_rows(self, table: Table, dataset: Dataset) -> Tensor:
        """Indices of the dataset's rows that the online buffer begins with."""
        return starting_rows(self.config, dataset).to(self.device)

    def begin_update(self) -> None:
        """The host's part of an update: it counts. A paper sets here what follows a schedule, as tensors."""
        self.updates += 1

    def phase(self) -> tuple[Hashable, ...]:
        """What tells this update's operations from other updates': the networks that are due, a warm-up, ..."""
        return ()

    def scaled_rewards(self, batch: Batch) -> Tensor:
        """reward_scale * r + reward_shift, (B,). Datasets, buffers and logs hold the raw rewards."""
        return affine(batch.rewards, self.hyper.reward_scale, self.hyper.reward_shift)

    # Updates and batches --------------------------------------------------------------------------------------------

    def update(self, batch: Batch) -> Metrics:
        """One update: of the counters and schedules, then of every network that is due."""
        self.begin_update()
        return self.device_step(batch)

    def device_step(self, batch: Batch) -> Metrics:
        """The device's part of an update: spectral norms are brought up to date, then gradient_step."""
        for network in self.residual:
            network.power_iteration_()
        return self.gradient_step(batch)

    def sample(self, table: Table, size: int | None = None) -> Batch:
        """A uniform batch with replacement, on the device, normalised; (*lead, size) rows, by default batch_size."""
        return self.normalize(self.layout.unpack(self._rows(table, size or self.config.batch_size)))

    def sample_mixed(self, offline: Table, online: Table, offline_size: int) -> Batch:
        """A batch whose first `offline_size` rows come from the dataset and the rest from the online transitions."""
        rows = [self._rows(offline, offline_size), self._rows(online, self.config.batch_size - offline_size)]
        return self.normalize(self.layout.unpack(torch.cat(rows, dim=-2)))

    def normalize(self, batch: Batch) -> Batch:
        """A raw batch in the units that the networks see."""
        return batch._replace(
            observations=self.policy.normalize_observations(batch.observations),
            next_observations=self.policy.normalize_observations(batch.next_observations),
            actions=self.policy.normalize_actions(batch.actions),
            next_actions=None if batch.next_actions is None else self.policy.normalize_actions(batch.next_actions),
        )

    # State ----------------------------------------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, int]:
        """The counters, which are plain integers so that schedules never wait for the device."""
        return {
            "updates": self.updates,
            "env_steps": self.env_steps,
            "num_timesteps": self.num_timesteps,
            "online_updates": self.online_updates,
            "prepared": self.prepared,
            "online": int(self.online),
        }

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.updates = state["updates"]
        self.env_steps = state["env_steps"]
        self.num_timesteps = state["num_timesteps"]
        self.online_updates = state["online_updates"]
        self.prepared = state["prepared"]
        self.online = bool(state["online"])

    def generators(self) -> dict[str, Draws]:
        """Every stream of random numbers, by the name it has in the checkpoint."""
        return {"batches": self.batches, "draws": self.draws, "acting": self.acting, "predicting": self.predicting}

    @contextmanager
    def predicting_from(self, seed: int) -> Iterator[None]:
        """Predictions draw from a stream of this seed, and the agent's own one stays where it is."""
        before, self.predicting = self.predicting, Draws(seed, self.device)
        try:
            yield
        finally:
            self.predicting = before

    @property
    def offline_updates(self) -> int:
        """Gradient steps offline."""
        return self.updates - self.online_updates

    def new_table(self, capacity: int) -> Table:
        """An empty table for transitions."""
        return Table(self.layout, capacity, self.device, self.dtype)

    @property
    def shipped(self) -> Policy:
        """The policy as a robot gets it: where the actor sees some of the observations only, it takes only these."""
        return self.policy if self.sight is None else narrowed(self.policy, stacked_columns(self.spec, self.sight))

    def stacked(self, dataset: Dataset) -> Dataset:
        """The dataset as the networks see it: with the past where the config asks for it.

        Raises ValueError where that is asked of data that stay in their file.
        """
        if self.stack is None or isinstance(dataset, StackedDataset):
            return dataset
        if isinstance(dataset, Packed):
            raise ValueError(f"{dataset.name} stays in its file, which history and delay need in memory: load_dataset")
        return StackedDataset(dataset, self.stack)

    def offline_table(self, dataset: Dataset) -> Table:
        """The dataset on the agent's device, or of one that is packed in a file what its memory has room for.

        Raises ValueError for spaces that are not those the agent was built for.
        """
        self.spec.check_env(dataset.observation_space, dataset.action_space)
        dataset = self.stacked(dataset)
        if not isinstance(dataset, Packed):
            return Table.of(dataset, self.layout, self.device, self.dtype)
        offline_batches = self.prepared + self.offline_updates
        drawn = self.config.batch_size * offline_batches + self.config.offline_rows * self.online_updates
        return table_of(dataset, self.layout, self.device, self.dtype, self.seed, drawn)

    # Surroundings ---------------------------------------------------------------------------------------------------

    @property
    def observation_space(self) -> Box:
        return self.spec.observation_space

    @property
    def action_space(self) -> Box:
        return self.spec.action_space

    @property
    def logger(self) -> Logger:
        if self._logger is None:
            self._logger = make_logger(type(self).__name__, self.verbose, self.tensorboard_log)
        return self._logger

    def set_logger(self, logger: Logger) -> None:
        self._logger = logger

    def get_env(self) -> VecEnv | None:
        return self._env

    def set_env(self, env: gym.Env | VecEnv | VectorEnv) -> None:
        """Raises ValueError where the spaces are not those of the dataset, or where the env normalises by itself."""
        self._env = vectorize(env, self.spec)

    def get_vec_normalize_env(self) -> None:
        """Always None: normalising is the policy's own work."""
        return None

    def compute(self) -> AbstractContextManager[None]:
        """Where gradient steps run: matrix products in the agent's precision, memory kept between steps."""
        return compute.compute(self.precision)

    # Inside ---------------------------------------------------------------------------------------------------------

    def _rows(self, table: Table, size: int) -> Tensor:
        return table.gather(self.batches.indices("batch", (*self.lead, size), table.size))

    def _limit_observations(self, dataset: Dataset) -> None:
        """Tells the policy the range of the data, and the user what it will ignore."""
        known = self.spec.observation_low, self.spec.observation_high
        low, high = known if known[0] else observed_range(dataset)
        self.policy.limit_observations(torch.tensor(low), torch.tensor(high))
        if constant := self.policy.constant:
            warnings.warn(
                f"{self.spec.name}: observations {', '.join(map(str, constant))} never change. The policy ignores what "
                "they read later: nothing could be learned about it",
                stacklevel=3,
            )

    def _fit_normalizer(self, observations: np.ndarray) -> None:
        """Mean and std of the dataset, std + 1e-3, in float64 and by chunks, for data larger than memory."""
        count = len(observations)
        starts = range(0, count, CHUNK)
        mean = sum(observations[i : i + CHUNK].sum(0, dtype=np.float64) for i in starts) / count
        variance = sum(np.square(observations[i : i + CHUNK] - mean).sum(0) for i in starts) / count
        self.policy.observation_mean.copy_(torch.as_tensor(mean))
        self.policy.observation_std.copy_(torch.as_tensor(np.sqrt(variance) + 1e-3))

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        """New parameters come from this seed, on the agent's device and in its dtype; global state stays as it was."""
        devices = [self.device] if self.device.type == "cuda" else []
        default = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with torch.random.fork_rng(devices), self.device:
                torch.manual_seed(seed)
                yield
        finally:
            torch.set_default_dtype(default)

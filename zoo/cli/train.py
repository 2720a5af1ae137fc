"""zoo train: an agent offline on a dataset."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

if TYPE_CHECKING:
    from zoo.agents import Agent

Sweep = Annotated[tuple[str, ...], tyro.conf.arg(name="sweep", metavar="FIELD=(VALUE,...)")]
Settings = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="FIELD=VALUE")]


@dataclass(frozen=True)
class Train:
    """Train an agent offline on a dataset.

    Args:
        agent: class name, such as PARS.
        dataset: an embedded or D4RL name, the path of an HDF5 file, or a packed folder of zoo data export.
        out: folder for checkpoints, logs and evaluations; a run that stopped goes on from it.
        steps: gradient steps, those of an earlier part of the run counted in.
        seed: of weights and batches.
        population: so many independent members at once; with --sweep, so many of each combination.
        settings: config fields that win over the paper's preset: alpha=0.01 "critic_hidden=(256, 256)".
        sweep: fields with several values each, "alpha=(0.5,2.5)" "critic_lr=(1e-4,3e-4)"; a member is a combination.
        eval_every: steps between evaluations, where the environment is installed.
        save_every: steps between checkpoints.
        device: auto, cpu or cuda.
        precision: of the matrix products.
        workers: processes that step environments in evaluations; by default one for each core, at most 4.
        memory_mb: for the rows of a packed folder; of larger ones batches come from a window that moves over the file.
    """

    agent: Positional[str]
    dataset: Positional[str]
    out: Path
    steps: int = 100_000
    seed: int = 0
    population: int | None = None
    settings: Settings = ()
    sweep: Sweep = ()
    eval_every: int = 5_000
    save_every: int = 5_000
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    workers: int | None = None
    memory_mb: int = 512

    def run(self) -> None:
        print(f"saved {train(self)}; logs and evaluations are in {self.out}")


def train(command: Train) -> Path:
    """Trains offline, or goes on where out/latest.zip stands. Returns the path of the final checkpoint.

    With a sweep a population holds every combination, `population` times, by default once. Each member has a folder of
    its own in `out`, with its evaluations and at the end its checkpoint.
    """
    from contextlib import ExitStack, closing
    from functools import partial

    from zoo.datasets.load import open_dataset
    from zoo.evaluation.callbacks import Evaluation, SaveLatest, member_path
    from zoo.evaluation.envs import make_env

    if command.memory_mb < 1:
        raise ValueError(f"--memory-mb must be at least 1, got {command.memory_mb}")
    out, latest, final = command.out, command.out / "latest.zip", command.out / "final.zip"
    data = open_dataset(command.dataset, command.memory_mb * 2**20)
    learner = begin(command, data, latest)
    tell_window(data, learner)
    learner.tensorboard_log = str(out / "logs")
    learner.verbose = 0  # the progress bar shows the losses; the files have all
    out.mkdir(parents=True, exist_ok=True)
    callbacks: list = [SaveLatest(latest, command.save_every)]
    with ExitStack() as stack:
        if data.env_id is not None:
            make = partial(make_env, learner.spec)
            evaluation = Evaluation(make, command.eval_every, out / "evaluations.csv", workers=command.workers)
            callbacks.append(stack.enter_context(closing(evaluation)))
        remaining = max(command.steps - learner.num_timesteps, 0)
        learner.learn_offline(data, remaining, callback=callbacks, progress_bar=True)
    for member in range(learner.population or 0):
        learner.member(member).save(member_path(final, member))
    if learner.population:
        print(members_table(learner, out / "evaluations.csv"))
    return learner.save(final)


def begin(command: Train, data: Any, latest: Path) -> "Agent":
    """A new agent, or the one of the run's last checkpoint."""
    from zoo.agents import AGENTS
    from zoo.agents.loop.footprint import check_population_fits

    if command.agent not in AGENTS:
        raise ValueError(f"there is no agent {command.agent!r}; choose one of {', '.join(AGENTS)}")
    cls = AGENTS[command.agent]
    swept = grid(parse_settings(command.sweep), command.population or 1)
    population = len(next(iter(swept.values()))) if swept else command.population
    if latest.exists():
        learner = cls.load(latest, device=command.device)
        print(f"going on from {latest} at step {learner.num_timesteps:,} of {command.steps:,}")
        return learner
    chosen = parse_settings(command.settings) | swept
    if population is not None:
        check_population_fits(cls, data, population, command.device, **chosen)
    return cls(
        data,
        seed=command.seed,
        population=population,
        device=command.device,
        precision=command.precision,
        verbose=1,
        **chosen,
    )


def tell_window(data: Any, learner: "Agent") -> None:
    """Says so where a packed dataset does not fit its memory."""
    from zoo.agents.core.window import room_for
    from zoo.datasets.packed import PackedDataset

    if isinstance(data, PackedDataset) and (room := room_for(data, learner.layout, learner.dtype)) < len(data):
        print(
            f"{data.name} has {len(data):,} transitions: batches come from a window of {room:,} that moves over the "
            "file; --memory-mb gives it more"
        )


def parse_settings(items: tuple[str, ...]) -> dict[str, Any]:
    """("alpha=0.01", "critic_hidden=(256, 256)") to a dict of Python values. Raises ValueError for another form."""
    settings = {}
    for item in items:
        name, equals, text = item.partition("=")
        try:
            settings[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            if not equals or not text.isidentifier():
                raise ValueError(f"--set takes FIELD=VALUE, such as alpha=0.01, got {item!r}") from error
            settings[name] = text  # a bare word, as in critic_norm=before
    return settings


def grid(sweep: Mapping[str, Any], seeds: int) -> dict[str, Any]:
    """Every combination of the sweeps' values, `seeds` times each: one value for each member of a population.

    {"alpha": (1, 2), "tau": (3, 4)} with one seed: {"alpha": (1, 1, 2, 2), "tau": (3, 4, 3, 4)}.
    """
    for name, values in sweep.items():
        if not isinstance(values, tuple | list) or not values:
            raise ValueError(f"--sweep takes FIELD=(VALUE, VALUE, ...), such as alpha=(0.5,2.5), got {name}={values!r}")
    combinations = [values for values in product(*sweep.values()) for _ in range(seeds)]
    return dict(zip(sweep, zip(*combinations, strict=True), strict=True))


def members_table(learner: "Agent", evaluations: Path) -> str:
    """What each member has of the sweep, and its returns, last and mean of the last three."""
    import numpy as np

    from zoo.evaluation.callbacks import member_path, read_curve

    names = learner.config.sweeps()
    lines = ["member  " + "".join(f"{name:>16}" for name in names) + f"{'last':>10}{'mean of 3':>12}"]
    for member in range(learner.population or 0):
        curve = [point.return_mean for point in read_curve(member_path(evaluations, member))]
        returns = f"{curve[-1]:>10.1f}{np.mean(curve[-3:]):>12.1f}" if curve else f"{'-':>10}{'-':>12}"
        values = "".join(f"{getattr(learner.config, name)[member]:>16g}" for name in names)
        lines.append(f"{member:<8}{values}{returns}")
    return "\n".join(lines)

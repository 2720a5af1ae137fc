"""zoo train: an agent offline on a dataset."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from zoo.cli.arguments import agent_class, check_counts, parse_settings, parse_sweep

if TYPE_CHECKING:
    from zoo.agents import Agent
    from zoo.agents.core.spec import DataSpec

Sweep = Annotated[tuple[str, ...], tyro.conf.arg(name="sweep", metavar="FIELD=(VALUE,...)")]
Settings = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="FIELD=VALUE")]
MOST_MEMBERS = 10_000  # more are a slip of the finger: no machine of today has room for them


@dataclass(frozen=True)
class Train:
    """Train an agent offline on a dataset.

    Args:
        agent: name, such as PARS.
        dataset: an embedded or D4RL name, the path of an HDF5 file, or a packed folder of zoo data export.
        out: folder for checkpoints, logs and evaluations; a run that stopped goes on from it, with equal settings.
        steps: gradient steps, those of an earlier part of the run counted in.
        seed: of weights and batches.
        population: so many independent members at once; with --sweep, so many of each combination.
        preset: the paper's settings to take, by the name of their dataset or of a variant; by default those of the
            benchmark that the data are known to be.
        delay: ticks between an action and its effect; zoo data check estimates them.
        history: observations that the networks see, the newest and those before it.
        settings: config fields that win over the preset: alpha=0.01 "critic_hidden=(256, 256)".
        sweep: fields with several values each, "alpha=(0.5,2.5)" "critic_lr=(1e-4,3e-4)"; a member is a combination.
        env: Gymnasium id to evaluate in; by default the dataset's.
        eval_every: steps between evaluations, where the environment is installed; there is one at the end too.
        episodes: of each evaluation. D4RL's protocol for AntMaze is --episodes 100 --eval-every 50000.
        save_every: steps between checkpoints.
        device: auto, cpu or cuda.
        precision: of the matrix products.
        workers: processes that step environments in evaluations; by default one for each core, at most 4.
        memory_mb: for the rows of a packed folder; of larger ones batches come from a window that moves over the file.
        trust: import the module and pass the arguments that the file names for its environment.
        fresh: remove the run that is in `out` and begin anew.
    """

    agent: Positional[str]
    dataset: Positional[str]
    out: Path
    steps: int = 100_000
    seed: int = 0
    population: int | None = None
    preset: str | None = None
    delay: int | None = None
    history: int | None = None
    settings: Settings = ()
    sweep: Sweep = ()
    env: str | None = None
    eval_every: int = 5_000
    episodes: int = 10
    save_every: int = 5_000
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    workers: int | None = None
    memory_mb: int = 512
    trust: bool = False
    fresh: bool = False

    def run(self) -> None:
        from zoo.cli.resuming import only_writer

        with only_writer(self.out):
            print(f"saved {train(self)}; logs and evaluations are in {self.out}")


def train(command: Train) -> Path:
    """Trains offline, or goes on where out/latest.zip stands. Returns the path of the final checkpoint.

    With a sweep a population holds every combination, `population` times, by default once. Each member has a folder of
    its own in `out`, with its evaluations and at the end its checkpoint.
    """
    from contextlib import ExitStack, closing

    from zoo.agents.core.compute import choose_device
    from zoo.datasets.load import open_dataset
    from zoo.evaluation.callbacks import Evaluation, SaveLatest, member_path
    from zoo.selection.trouble import signs, told

    check_counts(command, steps=1, seed=0, population=1, eval_every=1, episodes=1, save_every=1, workers=1, memory_mb=1)
    choose_device(command.device)
    cls = agent_class(command.agent)
    chosen, swept = parse_settings(cls.Config, command.settings), parse_sweep(cls.Config, command.sweep)
    for name in ("delay", "history"):
        if getattr(command, name) is not None:
            if name in chosen:
                raise ValueError(f"{name} is given twice: --{name} and --set {name}")
            chosen[name] = getattr(command, name)
    if both := sorted(chosen.keys() & swept.keys()):
        raise ValueError(f"{', '.join(both)}: --set gives one value and --sweep several; give one of the two")
    out, latest, final = command.out, command.out / "latest.zip", command.out / "final.zip"
    data = open_dataset(command.dataset, command.memory_mb * 2**20)
    learner = begin(command, cls, data, chosen, swept)
    tell_window(data, learner)
    learner.tensorboard_log = str(out / "logs")
    learner.verbose = 0  # the progress bar shows the losses; the files have all
    learner.set_logger(learner.logger)  # now, so that what it lacks is said before the first step
    callbacks: list = []
    with ExitStack() as stack:
        if (make := environment(command, learner.spec)) is not None:
            curve, every = out / "evaluations.csv", command.eval_every
            evaluation = Evaluation(make, every, curve, command.episodes, workers=command.workers)
            callbacks.append(stack.enter_context(closing(evaluation)))
        callbacks.append(SaveLatest(latest, command.save_every))  # after the evaluation of the same step
        remaining = command.steps - learner.num_timesteps
        learner.learn_offline(data, remaining, callback=callbacks, progress_bar=True)
    for member in range(learner.population or 0):
        learner.member(member).save(member_path(final, member))
    if learner.population:
        print(members_table(learner, out / "evaluations.csv"))
    else:
        logs = sorted(out.glob("logs/*/progress.csv"), key=lambda path: path.stat().st_mtime)
        print(told(signs(learner, learner.stacked(data), logs[-1] if logs else None)))
        print(f"a page about this run: zoo report {out} {out / 'report.html'}")
    return learner.save(final)


def environment(command: Train, spec: "DataSpec") -> "Callable[[], Any] | None":
    """What makes the environment of the evaluations. None, and a word about it, where the data name one that nobody
    has trusted, or that is not installed.
    """
    from functools import partial

    from zoo.evaluation.envs import UntrustedError, environment_of, make_env

    if command.env is not None:
        make_env(command.env).close()  # a wrong id shows now
        return partial(make_env, command.env)
    try:
        if environment_of(spec.name, spec.env_id, spec.provenance, command.trust)[0] is None:
            return None
        make = partial(make_env, spec, trust=command.trust)
        make().close()
    except (UntrustedError, ImportError) as reason:
        print(f"no evaluations: {reason}")
        return None
    return make


def begin(
    command: Train,
    cls: "type[Agent]",
    data: Any,
    chosen: Mapping[str, Any],
    swept: Mapping[str, tuple[Any, ...]],
) -> "Agent":
    """A new agent, or the one of the run's last checkpoint where the settings are the same. Writes run.json."""
    from zoo.agents import load
    from zoo.agents.core.presets import choose_preset
    from zoo.agents.core.spec import DataSpec
    from zoo.agents.loop.footprint import check_population_fits
    from zoo.cli.resuming import begin_run, read_record

    count = len(list(product(*swept.values()))) if swept else 1
    population = None if command.population is None and not swept else count * (command.population or 1)
    if population is not None and population > MOST_MEMBERS:
        raise ValueError(f"a population of {population:,} members: at most {MOST_MEMBERS:,} can be asked for")
    settings = dict(chosen) | grid(swept, command.population or 1)
    spec = DataSpec.of(data)
    preset = choose_preset(cls.__name__, spec, command.preset)
    settings |= shorter_preparation(command, cls, preset.settings | settings)
    config = cls.Config.build(preset.settings | settings)
    config.check_population(population)
    asked = {
        "command": "zoo train",
        "agent": cls.__name__,
        **about_data(spec),
        "seed": command.seed,
        "population": population,
        "precision": command.precision,
        "preset": preset.name,
        "config": asdict(config),
    }
    latest = command.out / "latest.zip"
    if latest.exists() and not command.fresh:
        learner = load(latest, device=command.device)
        earlier = None if read_record(command.out) else about_agent(learner)
        begin_run(command.out, asked, command.fresh, earlier)
        if command.steps < learner.num_timesteps:
            raise ValueError(
                f"{latest} has {learner.num_timesteps:,} steps behind it, --steps {command.steps:,} are fewer. Give "
                "another --out, or --fresh to remove that run and begin anew"
            )
        print(f"going on from {latest} at step {learner.num_timesteps:,} of {command.steps:,}")
        return learner
    if population is not None:
        check_population_fits(cls, data, population, command.device, preset=command.preset, **settings)
    learner = cls(
        data,
        seed=command.seed,
        population=population,
        device=command.device,
        precision=command.precision,
        preset=command.preset,
        verbose=1,
        **settings,
    )
    begin_run(command.out, asked, command.fresh)
    return learner


def shorter_preparation(command: Train, cls: "type[Agent]", settings: Mapping[str, Any]) -> dict[str, Any]:
    """A preparation that is no longer than the training, where the user does not say how long. Says so.

    The papers' lengths are for a million steps. A run that goes on keeps the length that it began with.
    """
    from zoo.cli.resuming import read_record

    field = None if cls.preparation is None else cls.preparation.field
    if field is None or any(name.partition("=")[0].strip().lower() == field for name in command.settings):
        return {}
    before = None if command.fresh else read_record(command.out)
    paper = getattr(cls.Config.build(dict(settings)), field)
    if before is not None and isinstance(before.get("config"), dict) and field in before["config"]:
        return {field: before["config"][field]}
    if paper <= command.steps:
        return {}
    print(f"{field}: {command.steps:,}, as many as --steps, in place of {paper:,}; --set {field}={paper} takes those")
    return {field: command.steps}


def about_data(spec: Any) -> dict[str, Any]:
    """What tells a run's data from others; where they lie does not matter."""
    return {
        "dataset": spec.name,
        "transitions": spec.transitions,
        "action_low": spec.action_low,
        "action_high": spec.action_high,
        "sha256": spec.provenance.get("sha256"),
    }


def about_agent(learner: "Agent") -> dict[str, Any]:
    """The same, of a checkpoint whose run has no run.json. Earlier versions did not keep every hash."""
    data = {name: value for name, value in about_data(learner.spec).items() if value is not None}
    own = {"agent": type(learner).__name__, "seed": learner.seed, "population": learner.population}
    return own | data | {"precision": learner.precision, "config": asdict(learner.config)}


def tell_window(data: Any, learner: "Agent") -> None:
    """Says so where a packed dataset does not fit its memory."""
    from zoo.agents.core.window import room_for
    from zoo.datasets.packed import PackedDataset

    if isinstance(data, PackedDataset) and (room := room_for(data, learner.layout, learner.dtype)) < len(data):
        print(
            f"{data.name} has {len(data):,} transitions: batches come from a window of {room:,} that moves over the "
            "file; --memory-mb gives it more"
        )


def grid(sweep: Mapping[str, tuple[Any, ...]], seeds: int) -> dict[str, Any]:
    """Every combination of the sweeps' values, `seeds` times each: one value for each member of a population.

    {"alpha": (1, 2), "tau": (3, 4)} with one seed: {"alpha": (1, 1, 2, 2), "tau": (3, 4, 3, 4)}.
    """
    if not sweep:
        return {}
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

"""From arguments to calls: training and fine-tuning, each in reading order."""

import ast
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from agents import AGENTS, Agent, load
from agents.footprint import check_population_fits
from agents.window import room_for
from zoo.callbacks import Evaluation, SaveLatest, member_path, read_curve
from zoo.envs import make_env, recorded_kwargs
from zoo.packed import PackedDataset, open_dataset


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


def train(
    agent: str,
    dataset: str,
    steps: int,
    out: Path,
    seed: int,
    population: int | None,
    settings: tuple[str, ...],
    sweep: tuple[str, ...],
    eval_every: int,
    save_every: int,
    device: str,
    precision: str,
    workers: int | None,
    memory_mb: int,
) -> Path:
    """Trains offline, or goes on where out/latest.zip stands. Returns the path of the final checkpoint.

    sweep: FIELD=(VALUE, ...); a population holds every combination, `population` times, by default once. Each member
    has a folder of its own in `out`, with its evaluations and at the end its checkpoint. workers: of Evaluation.
    memory_mb: for the rows of a packed folder.
    """
    if agent not in AGENTS:
        raise ValueError(f"there is no agent {agent!r}; choose one of {', '.join(AGENTS)}")
    swept = grid(parse_settings(sweep), population or 1)
    if swept:
        population = len(next(iter(swept.values())))
    if memory_mb < 1:
        raise ValueError(f"--memory-mb must be at least 1, got {memory_mb}")
    data = open_dataset(dataset, memory_mb * 2**20)
    latest, final = out / "latest.zip", out / "final.zip"
    if latest.exists():
        learner: Agent = AGENTS[agent].load(latest, device=device)
        print(f"going on from {latest} at step {learner.num_timesteps:,} of {steps:,}")
    else:
        chosen = parse_settings(settings) | swept
        if population is not None:
            check_population_fits(AGENTS[agent], data, population, device, **chosen)
        learner = AGENTS[agent](
            data,
            seed=seed,
            population=population,
            device=device,
            precision=precision,
            verbose=1,
            **chosen,
        )
    if isinstance(data, PackedDataset) and (room := room_for(data, learner.layout, learner.dtype)) < len(data):
        print(
            f"{data.name} has {len(data):,} transitions: batches come from a window of {room:,} that moves over the "
            "file; --memory-mb gives it more"
        )
    learner.tensorboard_log = str(out / "logs")
    learner.verbose = 0  # the progress bar shows the losses; the files have all
    out.mkdir(parents=True, exist_ok=True)
    callbacks: list = [SaveLatest(latest, save_every)]
    with ExitStack() as stack:
        if data.env_id is not None:
            make = partial(make_env, learner.spec)
            evaluation = Evaluation(make, eval_every, out / "evaluations.csv", workers=workers)
            callbacks.append(stack.enter_context(closing(evaluation)))
        remaining = max(steps - learner.num_timesteps, 0)
        learner.learn_offline(data, remaining, callback=callbacks, progress_bar=True)
    for member in range(learner.population or 0):
        learner.member(member).save(member_path(final, member))
    if learner.population:
        print(members_table(learner, out / "evaluations.csv"))
    return learner.save(final)


def members_table(learner: Agent, evaluations: Path) -> str:
    """What each member has of the sweep, and its returns, last and mean of the last three."""
    names = learner.config.sweeps()
    lines = ["member  " + "".join(f"{name:>16}" for name in names) + f"{'last':>10}{'mean of 3':>12}"]
    for member in range(learner.population or 0):
        curve = [point.return_mean for point in read_curve(member_path(evaluations, member))]
        returns = f"{curve[-1]:>10.1f}{np.mean(curve[-3:]):>12.1f}" if curve else f"{'-':>10}{'-':>12}"
        values = "".join(f"{getattr(learner.config, name)[member]:>16g}" for name in names)
        lines.append(f"{member:<8}{values}{returns}")
    return "\n".join(lines)


def finetune(
    checkpoint: Path, dataset: str | None, env: str | None, steps: int, out: Path, eval_every: int, workers: int | None
) -> Path:
    """Fine-tunes a checkpoint online. Returns the path of the new checkpoint. workers: of Evaluation."""
    agent = load(checkpoint)
    environment = env or agent.spec.env_id
    if environment is None:
        raise ValueError(f"{checkpoint} names no environment; give --env, a Gymnasium id")
    kwargs = {} if env else recorded_kwargs(agent.spec.name, agent.spec.provenance)
    data = (
        open_dataset(dataset or agent.spec.name)
        if agent.config.offline_rows or agent.config.buffer_begins_with_data
        else None
    )
    agent.tensorboard_log = str(out / "logs")
    out.mkdir(parents=True, exist_ok=True)
    make = partial(make_env, environment, **kwargs)
    with closing(Evaluation(make, eval_every, out / "evaluations.csv", workers=workers)) as evaluation:
        callbacks = [SaveLatest(out / "latest.zip", eval_every), evaluation]
        agent.finetune_online(make(), steps, callback=callbacks, progress_bar=True, dataset=data)
    return agent.save(out / "final.zip")

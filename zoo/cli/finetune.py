"""zoo finetune: from a checkpoint on, online or on new data."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from zoo.cli.arguments import check_counts


@dataclass(frozen=True)
class Finetune:
    """Go on from a checkpoint: online in an environment, or with --updates on a dataset, such as a robot's log.

    Args:
        checkpoint: file of zoo train or agent.save.
        out: folder for the new checkpoint, logs and evaluations; a run that stopped goes on from it.
        steps: environment steps, those of an earlier part of the run counted in; with 0 no environment is needed.
        updates: gradient steps on the dataset, before the first of them.
        dataset: for these and the offline part of the batches; by default the one of the training, found by its path
            and hash.
        env: Gymnasium id; by default the dataset's.
        eval_every: environment steps between evaluations and checkpoints.
        episodes: of each evaluation.
        workers: processes that step environments in evaluations; by default one for each core, at most 4.
        device: auto, cpu or cuda.
        trust: import the module and pass the arguments that the file names for its environment.
        fresh: remove the run that is in `out` and begin anew.
    """

    checkpoint: Positional[Path]
    out: Path
    steps: int = 20_000
    updates: int = 0
    dataset: str | None = None
    env: str | None = None
    eval_every: int = 1_000
    episodes: int = 10
    workers: int | None = None
    device: str = "auto"
    trust: bool = False
    fresh: bool = False

    def run(self) -> None:
        from zoo.cli.resuming import only_writer

        with only_writer(self.out):
            print(f"saved {finetune(self)}")


def finetune(command: Finetune) -> Path:
    """Fine-tunes the checkpoint, or goes on where out/latest.zip stands. Returns the path of the final checkpoint."""
    import hashlib
    from contextlib import closing
    from functools import partial

    from zoo.agents import load
    from zoo.agents.files.checkpoint import existing
    from zoo.cli.resuming import begin_run
    from zoo.datasets.reopen import reopen
    from zoo.evaluation.callbacks import Evaluation, SaveLatest
    from zoo.evaluation.envs import environment_of, make_env

    check_counts(command, steps=0, updates=0, eval_every=1, episodes=1, workers=1)
    if not (command.steps or command.updates):
        raise ValueError("nothing to do: give --steps of an environment, or --updates on a dataset")
    out, agent = command.out, load(command.checkpoint, device=command.device)
    if agent.population is not None:
        raise ValueError(
            f"{command.checkpoint} is a population of {agent.population}: fine-tune its members one by one, "
            f"{command.checkpoint.parent / 'member_0' / 'final.zip'} and so on"
        )
    spec = agent.spec
    environment, kwargs = (
        (command.env, {})
        if command.env or not command.steps
        else environment_of(spec.name, spec.env_id, spec.provenance, command.trust)
    )
    if environment is None and command.steps:
        raise ValueError(f"{command.checkpoint} names no environment; give --env, a Gymnasium id")
    if command.fresh and existing(command.checkpoint).parent.absolute() == out.absolute():
        raise ValueError(f"--fresh would remove {command.checkpoint} itself: give another --out")
    needed = command.updates or agent.config.offline_rows or agent.config.buffer_begins_with_data
    data = reopen(agent.spec, command.checkpoint, command.dataset) if needed else None
    make = partial(make_env, environment or "", **kwargs)
    env = make() if command.steps else None
    asked = {
        "command": "zoo finetune",
        "checkpoint": hashlib.sha256(existing(command.checkpoint).read_bytes()).hexdigest(),
        "env": environment,
        "env_kwargs": kwargs,
        "updates": command.updates,
        "dataset": None if data is None else data.provenance.get("sha256", data.name),
    }
    begin_run(out, asked, command.fresh)
    latest, every = out / "latest.zip", command.eval_every
    updates, steps = command.updates + agent.offline_updates, command.steps + agent.env_steps  # of the whole life
    if latest.exists():
        agent = load(latest, device=command.device)
        print(f"going on from {latest} at step {command.steps - steps + agent.env_steps:,} of {command.steps:,}")
    agent.tensorboard_log = str(out / "logs")
    if data is not None and updates > agent.offline_updates:
        agent.learn_offline(data, updates - agent.offline_updates, SaveLatest(latest, every), progress_bar=True)
    if env is None:
        return agent.save(out / "final.zip")
    remaining = steps - agent.env_steps
    if remaining < 0:
        done = command.steps - remaining
        raise ValueError(f"{latest} has {done:,} steps behind it, --steps {command.steps:,} are fewer")
    curve = out / "evaluations.csv"
    with closing(Evaluation(make, every, curve, command.episodes, workers=command.workers)) as evaluation:
        callbacks: list = [evaluation, SaveLatest(latest, every)]
        agent.finetune_online(env, remaining, callback=callbacks, progress_bar=True, dataset=data)
    return agent.save(out / "final.zip")

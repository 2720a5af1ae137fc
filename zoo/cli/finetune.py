"""zoo finetune: online, from a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Finetune:
    """Go on online from a checkpoint.

    Args:
        checkpoint: file of zoo train or agent.save.
        out: folder for the new checkpoint, logs and evaluations.
        steps: environment steps.
        dataset: for the offline part of the batches; by default the one of the training.
        env: Gymnasium id; by default the dataset's.
        eval_every: environment steps between evaluations and checkpoints.
        workers: processes that step environments in evaluations; by default one for each core, at most 4.
    """

    checkpoint: Positional[Path]
    out: Path
    steps: int = 20_000
    dataset: str | None = None
    env: str | None = None
    eval_every: int = 1_000
    workers: int | None = None

    def run(self) -> None:
        print(f"saved {finetune(self)}")


def finetune(command: Finetune) -> Path:
    """Returns the path of the new checkpoint."""
    from contextlib import closing
    from functools import partial

    from zoo.agents import load
    from zoo.datasets.load import open_dataset
    from zoo.evaluation.callbacks import Evaluation, SaveLatest
    from zoo.evaluation.envs import make_env, recorded_kwargs

    out, agent = command.out, load(command.checkpoint)
    environment = command.env or agent.spec.env_id
    if environment is None:
        raise ValueError(f"{command.checkpoint} names no environment; give --env, a Gymnasium id")
    kwargs = {} if command.env else recorded_kwargs(agent.spec.name, agent.spec.provenance)
    data = (
        open_dataset(command.dataset or agent.spec.name)
        if agent.config.offline_rows or agent.config.buffer_begins_with_data
        else None
    )
    agent.tensorboard_log = str(out / "logs")
    out.mkdir(parents=True, exist_ok=True)
    make = partial(make_env, environment, **kwargs)
    every = command.eval_every
    with closing(Evaluation(make, every, out / "evaluations.csv", workers=command.workers)) as evaluation:
        callbacks = [SaveLatest(out / "latest.zip", every), evaluation]
        agent.finetune_online(make(), command.steps, callback=callbacks, progress_bar=True, dataset=data)
    return agent.save(out / "final.zip")

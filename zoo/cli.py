"""The command line: zoo demo | train | finetune | evaluate | export | data."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from zoo.cli_data import app as data

app = tyro.extras.SubcommandApp()
app.command(data, name="data")

Sweep = Annotated[tuple[str, ...], tyro.conf.arg(name="sweep", metavar="FIELD=(VALUE,...)")]
Settings = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="FIELD=VALUE")]


@app.command
def demo(out: Path = Path("runs/demo"), seed: int = 0) -> None:
    """The whole path in minutes: real Hopper data, PARS offline, fine-tuned, exported, run without torch.

    Interrupted, the same command goes on where it stopped; another --out starts anew.

    Args:
        out: folder for checkpoints, logs, the picture and the exported files.
        seed: of weights, batches and exploration.
    """
    from zoo.demo import run

    run(out, seed)


@app.command
def train(
    agent: Positional[str],
    dataset: Positional[str],
    out: Path,
    steps: int = 100_000,
    seed: int = 0,
    population: int | None = None,
    settings: Settings = (),
    sweep: Sweep = (),
    eval_every: int = 5_000,
    save_every: int = 5_000,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    workers: int | None = None,
    memory_mb: int = 512,
) -> None:
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
    from zoo import train as run

    path = run.train(
        agent,
        dataset,
        steps,
        out,
        seed,
        population,
        settings,
        sweep,
        eval_every,
        save_every,
        device,
        precision,
        workers,
        memory_mb,
    )
    print(f"saved {path}; logs and evaluations are in {out}")


@app.command
def finetune(
    checkpoint: Positional[Path],
    out: Path,
    steps: int = 20_000,
    dataset: str | None = None,
    env: str | None = None,
    eval_every: int = 1_000,
    workers: int | None = None,
) -> None:
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
    from zoo import train as run

    print(f"saved {run.finetune(checkpoint, dataset, env, steps, out, eval_every, workers)}")


@app.command
def evaluate(
    path: Positional[Path],
    env: str | None = None,
    episodes: int = 10,
    seed: int = 100,
    evaluation_samples: int | None = None,
    last: int = 5,
    workers: int | None = None,
) -> None:
    """Returns and scores of a checkpoint, or of an exported folder, over deterministic episodes.

    Where its run's evaluations.csv lies beside it: also the last of them, the mean of the last k, and the best.

    Args:
        path: checkpoint, exported folder, or .onnx file.
        env: Gymnasium id; by default the dataset's.
        episodes: one for each reset seed from `seed` on.
        seed: of the first episode.
        evaluation_samples: candidates that the critics choose from; by default the agent's own setting.
        last: k, of the mean of the last k evaluations during training.
        workers: processes that step the environments; by default one for up to 20 episodes, else one for each core.
    """
    from zoo.evaluation_report import evaluation_report

    print(evaluation_report(path, env, episodes, seed, evaluation_samples, last, workers))


@app.command
def export(
    checkpoint: Positional[Path],
    directory: Positional[Path],
    evaluation_samples: int | None = None,
    contract: Path | None = None,
    guard: float | None = None,
    dataset: str | None = None,
) -> None:
    """Write a bundle for a robot without torch: the policy as ONNX, verified against the agent, and its contract.

    Args:
        checkpoint: file of zoo train, zoo finetune or agent.save.
        directory: where the files go; older ones there are replaced.
        evaluation_samples: candidates that the critics choose from; by default the agent's own setting.
        contract: TOML file with the robot's names, units, ranges and control rate; docs/contract.md explains it.
        guard: share of the data's own actions that a guard lets pass, such as 0.999; docs/control.md explains it.
        dataset: for the guard's threshold; by default the one of the training.
    """
    from zoo.deploy import export_report

    print(export_report(checkpoint, directory, evaluation_samples, contract, guard, dataset))


def main() -> None:
    """Console script. Errors that a user can act on end in one line, not a traceback; ZOO_TRACEBACK=1 shows it."""
    try:
        app.cli(prog="zoo", description=__doc__)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print(f"\nzoo: {stop or 'stopped'}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, KeyError, ImportError, FloatingPointError, MemoryError) as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"zoo: {type(error).__name__}: {message}", file=sys.stderr)
        sys.exit(1)

"""The command line: zoo demo | train | finetune | evaluate | export | data."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

app = tyro.extras.SubcommandApp()
data = tyro.extras.SubcommandApp()
app.command(data, name="data")

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
    eval_every: int = 5_000,
    save_every: int = 5_000,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Train an agent offline on a dataset.

    Args:
        agent: class name, such as PARS.
        dataset: an embedded or D4RL name, or the path of an HDF5 file.
        out: folder for checkpoints, logs and evaluations; a run that stopped goes on from it.
        steps: gradient steps, those of an earlier part of the run counted in.
        seed: of weights and batches.
        population: so many independent members at once.
        settings: config fields that win over the paper's preset: alpha=0.01 "critic_hidden=(256, 256)".
        eval_every: steps between evaluations, where the environment is installed.
        save_every: steps between checkpoints.
        device: auto, cpu or cuda.
        precision: of the matrix products.
    """
    from zoo import train as run

    path = run.train(agent, dataset, steps, out, seed, population, settings, eval_every, save_every, device, precision)
    print(f"saved {path}; logs and evaluations are in {out}")


@app.command
def finetune(
    checkpoint: Positional[Path],
    out: Path,
    steps: int = 20_000,
    dataset: str | None = None,
    env: str | None = None,
    eval_every: int = 1_000,
) -> None:
    """Go on online from a checkpoint.

    Args:
        checkpoint: file of zoo train or agent.save.
        out: folder for the new checkpoint, logs and evaluations.
        steps: environment steps.
        dataset: for the offline part of the batches; by default the one of the training.
        env: Gymnasium id; by default the dataset's.
        eval_every: environment steps between evaluations and checkpoints.
    """
    from zoo import train as run

    print(f"saved {run.finetune(checkpoint, dataset, env, steps, out, eval_every)}")


@app.command
def evaluate(
    path: Positional[Path],
    env: str | None = None,
    episodes: int = 10,
    seed: int = 100,
    evaluation_samples: int | None = None,
    last: int = 5,
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
    """
    from zoo.evaluation_report import evaluation_report

    print(evaluation_report(path, env, episodes, seed, evaluation_samples, last))


@app.command
def export(
    checkpoint: Positional[Path],
    directory: Positional[Path],
    evaluation_samples: int | None = None,
    contract: Path | None = None,
) -> None:
    """Write a bundle for a robot without torch: the policy as ONNX, verified against the agent, and its contract.

    Args:
        checkpoint: file of zoo train, zoo finetune or agent.save.
        directory: where the files go; older ones there are replaced.
        evaluation_samples: candidates that the critics choose from; by default the agent's own setting.
        contract: TOML file with the robot's names, units, ranges and control rate; docs/contract.md explains it.
    """
    from zoo.deploy import export_report

    print(export_report(checkpoint, directory, evaluation_samples, contract))


@data.command
def info(path: Positional[str]) -> None:
    """What is in a dataset: sizes, episodes, returns, spaces, warnings.

    Args:
        path: name or path of a dataset, as load_dataset takes it.
    """
    from zoo.data_info import describe
    from zoo.datasets import load_dataset

    print(describe(load_dataset(path)))


@data.command
def collect(
    env: Positional[str],
    out: Positional[Path],
    policies: tuple[str, ...] = ("random",),
    weights: tuple[float, ...] = (),
    steps: int = 100_000,
    envs: int = 8,
    seed: int = 0,
    noise: float = 0.0,
    deterministic: bool = True,
) -> None:
    """Run policies in an environment and write what happens as a dataset; interrupted, it goes on where it stopped.

    Args:
        env: Gymnasium id, with its package where one registers it: gymnasium_robotics:AdroitHandPen-v1.
        out: HDF5 file in D4RL's layout. MuJoCo's qpos, qvel and ctrl are in it too.
        policies: random, SAC:model.zip or TD3:model.zip (Stable-Baselines3; pickled, load only what you trust), the
            .zip of an agent, an exported folder, package.module:function of observations; several are a mixture.
        weights: shares of the episodes, one for each policy; by default equal.
        steps: transitions, exactly.
        envs: environments side by side; a killed run loses at most the episode in progress of each.
        seed: of resets, random actions and noise.
        noise: Gaussian, on every action, as a fraction of half the action box.
        deterministic: the policies' modes; --no-deterministic draws from them.
    """
    from zoo import collect as run

    print(f"saved {run.run(env, out, policies, weights, steps, envs, seed, noise, deterministic)}")


@data.command
def check(path: Positional[str]) -> None:
    """Find what is wrong with a dataset, and explain it. Exit status: 0 healthy, 2 warnings, 3 errors.

    Args:
        path: name or path of a dataset, as load_dataset takes it; also one that it refuses.
    """
    from zoo import doctor

    findings = doctor.check(path)
    print(doctor.report(path, findings))
    sys.exit(doctor.status(findings))


@data.command(name="export")
def export_data(
    path: Positional[str], out: Positional[str], format: Literal["d4rl", "minari", "packed"] = "d4rl"
) -> None:
    """Write a dataset in a layout that others' tools read, or one that agents learn from without loading it.

    Args:
        path: name or path of a dataset, as load_dataset takes it.
        out: for d4rl the HDF5 file to write; for minari the id of a new local dataset, such as mine/hopper-v0; for
            packed a folder.
        format: d4rl, minari, or packed, for data larger than memory.
    """
    from zoo.writers import export

    print(export(path, out, format))


@data.command
def maze(
    maze: Positional[Literal["open", "umaze", "medium", "large"]],
    out: Positional[Path],
    steps: int = 1_000_000,
    noise: float = 0.0,
    dense: bool = False,
    envs: int = 1,
    seed: int = 0,
) -> None:
    """A maze set by D4RL's maze2d protocol: a controller wanders from goal to goal, the maze's own goal is rewarded.

    Args:
        maze: D4RL's maps, in gymnasium-robotics' PointMaze.
        out: HDF5 file in D4RL's layout; interrupted, the same command goes on.
        steps: transitions, exactly.
        noise: standard deviation of the noise on the force.
        dense: reward exp(-distance) in place of 1 within 0.45.
        envs: trajectories side by side.
        seed: of places, goals and noise.
    """
    from zoo.mazes import make_maze_set

    print(f"saved {make_maze_set(maze, out, steps, noise, dense, envs, seed)}")


@data.command
def behaviours(
    env: Positional[str],
    out: Positional[Path],
    algorithm: Literal["SAC", "TD3"] = "SAC",
    steps: int = 1_000_000,
    samples: int = 1_000_000,
    every: int = 10_000,
    medium: float = 1 / 3,
    noise: float = 0.0,
    envs: int = 8,
    seed: int = 0,
) -> None:
    """Train a Stable-Baselines3 policy and cut D4RL's sets from it; interrupted, the same command goes on.

    Writes random, medium, expert, medium-replay, full-replay and medium-expert.

    Args:
        env: Gymnasium id.
        out: folder; its name begins the files' names.
        algorithm: with Stable-Baselines3's settings.
        steps: environment steps of the training, a gradient step each.
        samples: transitions of random, medium and expert.
        every: steps between saved policies.
        medium: how far from the untrained policy's return to the best one's.
        noise: on the actions of random, medium and expert, as a fraction of half the action box.
        envs: environments side by side, while sampling.
        seed: of the training and the sampling.
    """
    from zoo.behaviours import make_sets

    for path in make_sets(env, out, algorithm, steps, samples, every, medium, noise, envs, seed):
        print(f"saved {path}")


mood = tyro.extras.SubcommandApp()
data.command(mood, name="mood")


@mood.command(name="collect")
def mood_collect(
    out: Positional[Path],
    domains: tuple[str, ...] = ("cheetah", "walker", "quadruped", "humanoid"),
    objectives: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    steps: int | None = None,
) -> None:
    """Train MOOD's TD3 and exploring learners and record every step; interrupted, the same command goes on.

    Args:
        out: folder of the recordings, the base sets and the sets.
        domains: cheetah, walker, quadruped, humanoid.
        objectives: tasks of the domains, or rnd; by default all of them.
        seeds: one learner each.
        steps: of a task's learner, twice that for rnd; by default the paper's, 1 million and 10 for humanoid.
    """
    from zoo.mood_collect import collect_all

    for path in collect_all(out, domains, objectives, seeds, steps):
        print(f"saved {path}")


@mood.command(name="merge")
def mood_merge(
    out: Positional[Path],
    domains: tuple[str, ...] = ("cheetah", "walker", "quadruped", "humanoid"),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    keep: float = 0.1,
    kinds: tuple[Literal["same", "cross", "mixed"], ...] = ("same", "cross", "mixed"),
) -> None:
    """Subsample the recordings, reward them for every target, check that against what was logged, and write the sets.

    Args:
        out: the folder of zoo data mood collect.
        domains: those that are collected.
        seeds: those that are collected.
        keep: fraction of the episodes.
        kinds: the target's own data, each other objective's, and everything.
    """
    from zoo.mood import merge

    for path in merge(out, domains, seeds, keep, kinds):
        print(f"saved {path}")


def main() -> None:
    """Console script. Errors that a user can act on end in one line, not a traceback; ZOO_TRACEBACK=1 shows it."""
    try:
        app.cli(prog="zoo", description=__doc__)
    except KeyboardInterrupt as stop:
        print(f"\nzoo: {stop or 'stopped'}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, KeyError, ImportError, FloatingPointError) as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"zoo: {type(error).__name__}: {message}", file=sys.stderr)
        sys.exit(1)

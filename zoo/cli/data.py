"""zoo data: map | import | merge | split | filter | download | info | check | export, and makers of data."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from tyro.conf import Positional

from zoo.cli.arguments import check_counts
from zoo.cli.editing import Filter, Merge, Split
from zoo.cli.logs import Import, MapCommand
from zoo.cli.reading import Reading


@dataclass(frozen=True)
class Info(Reading):
    """What is in a dataset: sizes, episodes, returns, spaces, warnings.

    Args:
        path: name or path of a dataset, as load_dataset takes it.
    """

    path: Positional[str]

    def run(self) -> None:
        from zoo.datasets.doctor.info import describe

        print(describe(self.load(self.path)))


@dataclass(frozen=True)
class Collect:
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

    env: Positional[str]
    out: Positional[Path]
    policies: tuple[str, ...] = ("random",)
    weights: tuple[float, ...] = ()
    steps: int = 100_000
    envs: int = 8
    seed: int = 0
    noise: float = 0.0
    deterministic: bool = True

    def run(self) -> None:
        from zoo.collecting.recording import count_rows

        path = collect(self)
        print(f"saved {path}, {count_rows(path):,} rows")


def collect(command: Collect) -> Path:
    """Returns the path of the dataset."""
    from zoo.collecting import collect
    from zoo.evaluation.envs import make_env

    check_counts(command, steps=1, envs=1, seed=0, noise=0)

    env = make_env(command.env)
    actors = [collect.load_actor(policy, command.deterministic, env) for policy in command.policies]
    env.close()
    weights = command.weights or (1.0,) * len(actors)
    actor: collect.Actor = collect.Mixture(actors, weights) if len(actors) > 1 or command.weights else actors[0]
    actor = collect.Noisy(actor, command.noise) if command.noise else actor
    about = {
        "env_id": command.env,
        "policy": " + ".join(command.policies),
        "weights": " : ".join(map(str, command.weights)),
        "noise": command.noise,
        "deterministic": command.deterministic,
    }
    size = command.steps, about, command.envs, command.seed
    return collect.collect(lambda: make_env(command.env), actor, command.out, *size, progress_bar=True)


@dataclass(frozen=True)
class Check(Reading):
    """Find what is wrong with a dataset or a log, and explain it. Exit status: 0 healthy, 2 warnings, 3 errors.

    Args:
        path: name or path of a dataset or a packed folder; also one that load_dataset refuses.
        html: page to write: a histogram and a trace for each dimension, with the findings beside them.
    """

    path: Positional[str]
    html: Path | None = None

    def run(self) -> None:
        from zoo.datasets.doctor import doctor
        from zoo.datasets.doctor.page import page
        from zoo.export.files import write_whole

        recording, findings = doctor.diagnose(self.path, **self.options)
        print(doctor.report(self.path, findings))
        if self.html is not None and recording is not None and "rewards" in recording.columns:
            write_whole(self.html, page(recording, findings).encode())
            print(f"wrote {self.html}")
        sys.exit(doctor.status(findings))


@dataclass(frozen=True)
class ExportData:
    """Write a dataset in a layout that others' tools read, or one that agents learn from without loading it.

    Args:
        path: name or path of a dataset, as load_dataset takes it.
        out: for d4rl the HDF5 file to write; for minari the id of a new local dataset, such as mine/hopper-v0; for
            packed a folder.
        format: d4rl, minari, or packed, for data larger than memory.
        overwrite: replace the file or the packed folder of that name.
    """

    path: Positional[str]
    out: Positional[str]
    format: Literal["d4rl", "minari", "packed"] = "d4rl"
    overwrite: bool = False

    def run(self) -> None:
        from zoo.datasets.writers import export

        print(export(self.path, self.out, self.format, self.overwrite))


@dataclass(frozen=True)
class Download:
    """Fetch benchmarks' datasets: D4RL's, OGBench's, and through its library Minari's. Interrupted, it goes on.

    Args:
        names: ids, or patterns of D4RL's in quotes: hopper-medium-v2, "antmaze-*", antmaze-medium-navigate-v0,
            mujoco/hopper/medium-v0.
        mirror: folder on another server that has the files under their names.
    """

    names: Positional[tuple[str, ...]]
    mirror: str | None = None

    def run(self) -> None:
        from tqdm import tqdm

        from zoo.datasets.download import download

        if not self.names:
            raise ValueError("zoo data download takes one or more names")
        with tqdm(unit="B", unit_scale=True, unit_divisor=1024, disable=None) as bar:

            def progress(have: int, total: int | None) -> None:
                bar.total = total
                bar.update(have - bar.n)

            for path in download(self.names, self.mirror, progress):
                bar.write(f"{path} is there and whole")
                bar.reset()


@dataclass(frozen=True)
class Maze:
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

    maze: Positional[Literal["open", "umaze", "medium", "large"]]
    out: Positional[Path]
    steps: int = 1_000_000
    noise: float = 0.0
    dense: bool = False
    envs: int = 1
    seed: int = 0

    def run(self) -> None:
        from zoo.collecting.mazes import make_maze_set

        check_counts(self, steps=1, envs=1, seed=0, noise=0)
        print(f"saved {make_maze_set(**vars(self))}")


@dataclass(frozen=True)
class Behaviours:
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

    env: Positional[str]
    out: Positional[Path]
    algorithm: Literal["SAC", "TD3"] = "SAC"
    steps: int = 1_000_000
    samples: int = 1_000_000
    every: int = 10_000
    medium: float = 1 / 3
    noise: float = 0.0
    envs: int = 8
    seed: int = 0

    def run(self) -> None:
        from zoo.collecting.behaviours import make_sets

        check_counts(self, steps=1, samples=1, every=1, envs=1, seed=0, noise=0, medium=0)
        for path in make_sets(**vars(self)):
            print(f"saved {path}")


@dataclass(frozen=True)
class MoodCollect:
    """Train MOOD's TD3 and exploring learners and record every step; interrupted, the same command goes on.

    Args:
        out: folder of the recordings, the base sets and the sets.
        domains: cheetah, walker, quadruped, humanoid.
        objectives: tasks of the domains, or rnd; by default all of them.
        seeds: one learner each.
        steps: of a task's learner; by default the paper's, 1 million and 10 for humanoid.
        exploration_steps: of rnd's learner; by default twice those.
    """

    out: Positional[Path]
    domains: tuple[str, ...] = ("cheetah", "walker", "quadruped", "humanoid")
    objectives: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int | None = None
    exploration_steps: int | None = None

    def run(self) -> None:
        from zoo.collecting.mood.collect import check_objectives, collect_all

        check_counts(self, seeds=0, steps=1, exploration_steps=1)
        check_objectives(self.domains, self.objectives)
        for path in collect_all(**vars(self)):
            print(f"saved {path}")


@dataclass(frozen=True)
class MoodMerge:
    """Subsample the recordings, reward them for every target, check that against what was logged, and write the sets.

    Args:
        out: the folder of zoo data mood collect.
        domains: those that are collected.
        seeds: those that are collected.
        keep: fraction of the episodes.
        kinds: the target's own data, each other objective's, and everything.
    """

    out: Positional[Path]
    domains: tuple[str, ...] = ("cheetah", "walker", "quadruped", "humanoid")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    keep: float = 0.1
    kinds: tuple[Literal["same", "cross", "mixed"], ...] = ("same", "cross", "mixed")

    def run(self) -> None:
        from zoo.collecting.mood.sets import merge

        check_counts(self, seeds=0)
        if not 0.0 < self.keep <= 1.0:
            raise ValueError(f"--keep must be a share above 0, at most 1, got {self.keep}")
        for path in merge(**vars(self)):
            print(f"saved {path}")


def subcommands(commands: dict[str, Any]) -> tyro.extras.SubcommandApp:
    app = tyro.extras.SubcommandApp()
    for name, command in commands.items():
        app.command(command, name=name)
    return app


app = subcommands(
    {
        "map": MapCommand,
        "import": Import,
        "merge": Merge,
        "split": Split,
        "filter": Filter,
        "download": Download,
        "info": Info,
        "check": Check,
        "export": ExportData,
        "collect": Collect,
        "maze": Maze,
        "behaviours": Behaviours,
        "mood": subcommands({"collect": MoodCollect, "merge": MoodMerge}),
    }
)

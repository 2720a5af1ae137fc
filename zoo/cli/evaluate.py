"""zoo evaluate: episodes of a policy, and the curve of its training."""

import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tyro.conf import Positional

from zoo.cli.arguments import check_counts

FEW = 20  # episodes that are over before another process would have started


@dataclass(frozen=True)
class Evaluate:
    """Returns and scores of a checkpoint, or of an exported folder, over deterministic episodes; of a population each
    member's.

    Where its run's evaluations.csv lies beside it: also the last of them, the mean of the last k, and the best.

    Args:
        path: checkpoint, exported folder, or .onnx file.
        env: Gymnasium id; by default the dataset's.
        episodes: one for each reset seed from `seed` on.
        seed: of the first episode.
        evaluation_samples: candidates that the critics choose from; by default the agent's own setting.
        last: k, of the mean of the last k evaluations during training.
        workers: processes that step the environments; by default one for up to 20 episodes, else one for each core.
        trust: import the module and pass the arguments that the file names for its environment.
    """

    path: Positional[Path]
    env: str | None = None
    episodes: int = 10
    seed: int = 100
    evaluation_samples: int | None = None
    last: int = 5
    workers: int | None = None
    trust: bool = False

    def run(self) -> None:
        print(evaluation_report(self))


def evaluation_report(command: Evaluate) -> str:
    """Episodes of a checkpoint or an exported bundle, and the curve of its run where evaluations.csv lies beside it."""
    from zoo.evaluation.callbacks import member_path, read_curve
    from zoo.evaluation.envs import environment_of, make_env
    from zoo.evaluation.protocols import environment_note
    from zoo.evaluation.report import curve_summary, episodes_summary, open_policy
    from zoo.evaluation.rollouts import rollouts

    check_counts(command, episodes=1, seed=0, evaluation_samples=1, last=1, workers=1)
    path, episodes, seed = command.path, command.episodes, command.seed
    policy, name, trained_in, provenance, keywords = open_policy(path, command.evaluation_samples)
    env_id, kwargs = (command.env, {}) if command.env else environment_of(name, trained_in, provenance, command.trust)
    if env_id is None:
        raise ValueError(f"{path} names no environment; give --env, a Gymnasium id")
    workers = 1 if command.workers is None and episodes <= FEW else command.workers
    lines = [f"{path}: {episodes} episodes of {env_id}, reset seeds {seed} to {seed + episodes - 1}"]
    evaluations = path.parent / "evaluations.csv"
    population = getattr(policy, "population", None)
    for member in range(population or 1):
        one = policy if population is None else policy.member(member)
        result = rollouts(one, partial(make_env, env_id, **kwargs), episodes, seed, workers=workers, **keywords)
        lines += [] if population is None else ["", f"member {member} of {population}"]
        lines += episodes_summary(name, result)
        curve_file = evaluations if population is None else member_path(evaluations, member)
        if curve := read_curve(curve_file):
            lines += ["", f"{curve_file}: the evaluations during training", *curve_summary(name, curve, command.last)]
    note = environment_note(name, env_id)
    if note:
        lines += ["", *textwrap.wrap(f"environment: {env_id}. {note}", 100)]
    return "\n".join(lines)

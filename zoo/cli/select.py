"""zoo select: which of several trained policies goes on the robot."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

if TYPE_CHECKING:
    from zoo.selection.candidates import Candidate
    from zoo.selection.ranking import Ranking


@dataclass(frozen=True)
class Select:
    """Rank checkpoints, of different agents too, without a simulator, or with a few episodes of one.

    Args:
        runs: checkpoints, or folders of zoo train and zoo study: every final.zip below them is a candidate, and so is
            every member of a population.
        dataset: logged data to judge them on, best such that none of them was trained on, by name or path.
        methods: fqe, bvft, td-error, first-q, action-distance; the first one decides.
        steps: gradient steps of fitted Q evaluation.
        gamma: its discount.
        env: Gymnasium id, or dataset: the dataset's own environment. Without one nothing is run.
        rollouts: episodes that may be run there in all; a bandit shares them out.
        seed: of the regression, and with 100 added of the first episode.
        device: auto, cpu or cuda.
    """

    runs: Positional[tuple[Path, ...]]
    dataset: str
    methods: tuple[str, ...] = ("fqe", "bvft", "td-error", "first-q", "action-distance")
    steps: int = 20_000
    gamma: float = 0.99
    env: str | None = None
    rollouts: int = 20
    seed: int = 0
    device: str = "auto"

    def run(self) -> None:
        print(selection_report(self))


def selection_report(command: Select) -> str:
    """The rankings, the choice, and how sure it is, in words."""
    from zoo.datasets.load import load_dataset
    from zoo.selection.candidates import find_candidates
    from zoo.selection.fqe import FQEConfig
    from zoo.selection.ranking import rank

    candidates = find_candidates(command.runs, command.device)
    data = load_dataset(command.dataset)
    candidates[0].agent.spec.check_env(data.observation_space, data.action_space)
    config = FQEConfig(gamma=command.gamma, steps=command.steps, seed=command.seed)
    rankings = rank(candidates, data, command.methods, config, command.device, progress_bar=True)
    lines = [f"{len(candidates)} candidates on {len(data):,} rows of {data.name}", ""]
    for ranking in rankings:
        lines += [str(ranking), ""]
    first = rankings[0]
    best, alike = int(first.order[0]), first.alike()
    if command.env is not None:
        return "\n".join(lines + tried(command, candidates, first))
    lines.append(f"choice: {first.names[best]}, by {first.method}")
    if alike.sum() > 1:
        others = ", ".join(first.names[k] for k in first.order if alike[k] and k != best)
        lines.append(
            f"The data cannot tell it from {others} (marked =): run a few episodes of each (--env, --rollouts)."
        )
    lines.append(
        "An estimate from logs may be wrong, above all for actions that the logs do not hold (docs/choosing.md). If "
        "you can run a few episodes, do: --env ID --rollouts 20."
    )
    return "\n".join(lines)


def tried(command: Select, candidates: "list[Candidate]", prior: "Ranking") -> list[str]:
    """The candidates' episodes, shared out by a bandit that begins with the ranking `prior`."""
    from functools import partial

    import numpy as np

    from zoo.evaluation.envs import make_env
    from zoo.evaluation.rollouts import evaluate
    from zoo.selection.bandit import sequential_halving

    spec = candidates[0].agent.spec
    make = partial(make_env, spec if command.env in (None, "dataset") else str(command.env))

    def run(index: int, episodes: int, seed: int) -> np.ndarray:
        return evaluate(candidates[index].agent, make, episodes, seed)

    found = sequential_halving(run, prior.scores.tolist(), command.rollouts, command.seed + 100)
    lines = [f"{found.episodes} episodes, shared out by sequential halving:"]
    for rank, index in enumerate(found.order, 1):
        returns = found.returns[index]
        told = f"{returns.mean():>10.1f} in {len(returns)}" if len(returns) else f"{'not run':>10}"
        lines.append(f"{rank:>3} {told:<20} {candidates[index].name}")
    return [*lines, f"choice: {candidates[found.order[0]].name}"]

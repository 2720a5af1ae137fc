"""zoo diagnose: what is wrong inside an agent."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from zoo.cli.arguments import check_counts


@dataclass(frozen=True)
class Diagnose:
    """Neurons, values, disagreement, actions and an estimate of the return of a checkpoint, on data.

    Args:
        checkpoint: file of zoo train or agent.save.
        dataset: name or path, as for zoo train; the one of the training.
        out: folder for measures.csv, landscape.csv, kernel.csv and their pictures.
        rows: of the data, drawn at random.
        tau: a neuron is dormant up to this score; 0 counts those that never act.
        seed: of the rows and of random actions.
    """

    checkpoint: Positional[Path]
    dataset: Positional[str]
    out: Path
    rows: int = 2048
    tau: float = 0.0
    seed: int = 0

    def run(self) -> None:
        from zoo.agents import load
        from zoo.datasets.load import load_dataset
        from zoo.diagnosis.report import diagnose

        check_counts(self, rows=1, seed=0)
        agent = load(self.checkpoint, device="cpu")
        found = diagnose(agent, load_dataset(self.dataset), self.out, self.rows, self.tau, self.seed)
        for one in found:
            print(f"{one.name:<28}{one.value:>14.4g}  {one.source}")
        print(f"numbers and pictures are in {self.out}; docs/diagnostics.md says how to read them")

"""zoo demo: the whole path, from data to a robot's policy."""

from dataclasses import dataclass
from pathlib import Path

from zoo.cli.arguments import check_counts


@dataclass(frozen=True)
class Demo:
    """The whole path in minutes: real Hopper data, PARS offline, fine-tuned, exported, run without torch.

    Interrupted, the same command goes on where it stopped; another --out or --fresh starts anew.

    Args:
        out: folder for checkpoints, logs, the picture and the exported files.
        seed: of weights, batches and exploration.
        fresh: remove the demo that is in `out` and begin anew.
    """

    out: Path = Path("runs/demo")
    seed: int = 0
    fresh: bool = False

    def run(self) -> None:
        from zoo.cli.demonstration import demonstrate
        from zoo.cli.resuming import only_writer

        check_counts(self, seed=0)
        with only_writer(self.out):
            demonstrate(self.out, self.seed, self.fresh)

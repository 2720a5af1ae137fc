"""zoo demo: the whole path, from data to a robot's policy."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """The whole path in minutes: real Hopper data, PARS offline, fine-tuned, exported, run without torch.

    Interrupted, the same command goes on where it stopped; another --out starts anew.

    Args:
        out: folder for checkpoints, logs, the picture and the exported files.
        seed: of weights, batches and exploration.
    """

    out: Path = Path("runs/demo")
    seed: int = 0

    def run(self) -> None:
        from zoo.cli.demonstration import demonstrate

        demonstrate(self.out, self.seed)

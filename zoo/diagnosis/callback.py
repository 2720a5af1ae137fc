"""The measures of an agent while it trains."""

import csv
from pathlib import Path
from typing import Any

from zoo.datasets.dataset import OfflineDataset
from zoo.diagnosis.report import measures, sample
from zoo.evaluation.callbacks import OnGrid
from zoo.export.files import whole


class Diagnosis(OnGrid):
    """Every `every` steps: what zoo.diagnosis.report.measures says, into the log and a CSV file.

    A run that goes on keeps the rows of before. rows: of the data that are looked at, the same each time.
    """

    def __init__(self, dataset: OfflineDataset, every: int, path: Path, rows: int = 1024, tau: float = 0.0):
        super().__init__(every)
        self.dataset, self.path, self.rows, self.tau = dataset, path, rows, tau

    def act(self) -> None:
        agent: Any = self.model
        found = measures(agent, sample(agent, self.dataset, self.rows, seed=0), self.tau)
        now = self.model.num_timesteps
        lines = [row for row in self.lines() if int(row["timesteps"]) < now]
        lines += [{"timesteps": str(now), "measure": one.name, "value": str(one.value)} for one in found]
        with whole(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["timesteps", "measure", "value"])
            writer.writeheader()
            writer.writerows(lines)
        for one in found:
            self.logger.record(f"diagnosis/{one.name}", one.value)

    def lines(self) -> list[dict[str, str]]:
        """The rows of the file; none where it is not there yet."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

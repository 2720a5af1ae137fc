"""zoo report: one page about a training or a study."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about a training or a study: curves, tables, settings, what the policy does.

    Args:
        source: the --out of zoo train, or the TOML file or name of a study.
        out: the page to write.
        dataset: of a training: its data, by default where they were then.
        folder: of a study: its --out.
    """

    source: Positional[str]
    out: Positional[Path]
    dataset: str | None = None
    folder: Path | None = None

    def run(self) -> None:
        print(f"wrote {report(self)}")


def report(command: Report) -> Path:
    """Returns the path of the page."""
    source = Path(command.source)
    if source.is_dir():
        from zoo.reports.run import run_report

        return run_report(source, command.dataset).write(command.out)
    from zoo.cli.study import known_cells, opened
    from zoo.reports.study import study_report

    study, folder = opened(command.source, command.folder)
    return study_report(study, folder, known_cells(study, folder)).write(command.out)

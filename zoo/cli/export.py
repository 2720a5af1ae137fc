"""zoo export: from a checkpoint to a bundle, with what is known of its returns."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from zoo.cli.arguments import check_counts


@dataclass(frozen=True)
class Export:
    """Write a bundle for a robot without torch: the policy as ONNX, verified against the agent, and its contract.

    Args:
        checkpoint: file of zoo train, zoo finetune or agent.save.
        directory: where the files go.
        evaluation_samples: candidates that the critics choose from; by default the agent's own setting.
        contract: TOML file with the robot's names, units, ranges and control rate; docs/contract.md explains it.
        guard: share of the data's own actions that a guard lets pass, such as 0.999; docs/control.md explains it.
        dataset: for the guard's threshold; by default the one of the training.
        also: leapp adds policy.yaml, for tools that deploy LEAPP graphs.
        c: add policy.h, the actor as one C99 header without dependencies, its golden test inside.
        overwrite: replace the bundle that is there, as one folder.
    """

    checkpoint: Positional[Path]
    directory: Positional[Path]
    evaluation_samples: int | None = None
    contract: Path | None = None
    guard: float | None = None
    dataset: str | None = None
    also: tuple[Literal["leapp"], ...] = ()
    c: bool = False
    overwrite: bool = False

    def run(self) -> None:
        print(export_report(self))


def export_report(command: Export) -> str:
    """Exports a checkpoint; returns what was checked and the hash of the contract, as text."""
    from zoo.agents import load
    from zoo.datasets.reopen import reopen
    from zoo.evaluation.known import known_scores
    from zoo_robot.disagreement import Disagreement

    check_counts(command, evaluation_samples=1)
    if command.guard is not None and not 0.0 < command.guard < 1.0:
        raise ValueError(f"--guard must be a share between 0 and 1, such as 0.999, got {command.guard}")
    if (command.directory / "contract.json").exists() and not command.overwrite:
        raise FileExistsError(
            f"{command.directory} holds a bundle already; --overwrite replaces it, or give another name"
        )
    agent = load(command.checkpoint)
    data = None if command.guard is None else reopen(agent.spec, command.checkpoint, command.dataset)
    samples = command.evaluation_samples
    scores = known_scores(agent, command.checkpoint.parent / "evaluations.csv", samples)
    folder = agent.export_onnx(command.directory, samples, command.contract, scores)
    report = json.loads((folder / "report.json").read_text())
    lines = [json.dumps(report, indent=2)]
    if command.guard is not None and data is not None:
        calibration = Disagreement(agent.write_guard(data, folder, command.guard)).metadata["calibration"]
        lines.append(
            f"disagreement.onnx: threshold {calibration['threshold']:.4g}, median {calibration['median']:.4g} on "
            f"{calibration['rows']:,} rows; it refuses the actor in {calibration['policy_alarms']:.2%} of their states"
        )
    if "leapp" in command.also:
        lines.append(f"{agent.write_leapp(folder).name}: a LEAPP graph of one node, actor.onnx")
    if command.c:
        header = agent.write_c(folder)
        lines.append(f"{header.name}: {header.stat().st_size:,} bytes; cc -std=c99 -O2 -DPOLICY_MAIN -x c {header} -lm")
    digest = hashlib.sha256((folder / "contract.json").read_bytes()).hexdigest()
    lines.append(f"contract.json has the SHA-256 {digest}")
    lines.append(f"exported to {folder}; on the robot: python -m zoo_robot verify {folder}")
    return "\n".join(lines)

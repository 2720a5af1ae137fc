"""The whole circle: a policy runs and is recorded, its log becomes data, the data a better policy, and that runs.

    python examples/robot_loop/circle.py OUT [--checkpoint final.zip] [--steps 2000] [--updates 1000] [--rounds 1]

Without a checkpoint a small TD3BC is trained on the shipped Hopper data first, so that nothing is needed. Each round:
export, run with the recorder, replay the policy on its own log, import the log, go on training on it, export, compare
the new policy with the old one on that log, and run it. OUT holds what every step wrote.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))  # run.py and hopper.py

import run  # noqa: E402

from zoo import TD3BC, load_dataset  # noqa: E402
from zoo.cli.export import Export, export_report  # noqa: E402
from zoo.cli.finetune import Finetune, finetune  # noqa: E402
from zoo.cli.logs import Import  # noqa: E402
from zoo_robot.control import Report  # noqa: E402
from zoo_robot.inspection import Finding  # noqa: E402
from zoo_robot.runlog import read_log  # noqa: E402
from zoo_robot.runtime import OnnxPolicy  # noqa: E402
from zoo_robot.shadow import replay, shadow  # noqa: E402


def first_checkpoint(out: Path, updates: int) -> Path:
    """A small agent on the shipped data."""
    dataset = load_dataset("hopper-medium-replay")
    agent = TD3BC(dataset, seed=0, device="cpu", actor_hidden=(64, 64), critic_hidden=(64, 64))
    agent.learn_offline(dataset, updates, progress_bar=True)
    return agent.save(out / "first.zip")


def drive(bundle: Path, log: Path, steps: int, rate: float) -> Report:
    """Runs a bundle on the robot, adds the ticks to the log, and prints how it went."""
    report, result = run.drive(bundle, rate, rate, steps, [], "hold", None, log)
    returns = np.array((result or {}).get("returns", []))
    print(f"{bundle.name}: {report.kept} of {report.deadlines} deadlines kept, {len(returns)} whole episodes")
    if len(returns):
        print(f"{bundle.name}: return {returns.mean():.1f} ± {returns.std():.1f}")
    return report


def circle(checkpoint: Path, out: Path, steps: int, updates: int, rate: float) -> tuple[Path, list[Finding]]:
    """One round. Returns the new checkpoint, and what shadow found of it."""
    old, new, log, data = (out / name for name in ("old", "new", "run.log", "run.hdf5"))
    export_report(Export(checkpoint, old))
    drive(old, log, steps, rate)
    again = replay(OnnxPolicy(old, providers="cpu"), read_log(log).runs[-1])
    print(again.text)
    if again.bad:
        raise SystemExit("the policy does not repeat its own log: nothing that follows could be trusted")
    Import((log, data), reward="hopper:reward", done="hopper:done").run()
    tuned = finetune(Finetune(checkpoint, out / "tuned", steps=0, updates=updates, dataset=str(data)))
    export_report(Export(tuned, new))
    findings = shadow(old, new, read_log(log).runs[-1])
    print("\n".join(f"{'!' if finding.bad else ' '} {finding.text}" for finding in findings))
    drive(new, out / "run-new.log", steps, rate)
    return tuned, findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="of an agent for Hopper-v5; by default a small one is trained")
    parser.add_argument("--first", type=int, default=3_000, help="gradient steps of that small one")
    parser.add_argument("--steps", type=int, default=2_000, help="of the robot in each run")
    parser.add_argument("--updates", type=int, default=1_000, help="gradient steps on the log")
    parser.add_argument("--rate", type=float, default=125.0, help="of robot and loop, ticks a second")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.checkpoint or first_checkpoint(options.out, options.first)
    for number in range(options.rounds):
        folder = options.out / f"round-{number}"
        if (folder / "run.log").exists():
            raise SystemExit(f"{folder} holds an earlier circle: give another folder")
        checkpoint, _ = circle(checkpoint, folder, options.steps, options.updates, options.rate)
    print(f"the new policy: {checkpoint}")


if __name__ == "__main__":
    main()

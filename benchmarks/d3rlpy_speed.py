"""Milliseconds of one gradient step beside d3rlpy's, both with their own sampling, on one core of a CPU.

    python3 -m venv d3
    d3/bin/pip install torch==2.13.0 numpy==2.4.6 d3rlpy==2.8.1
    python benchmarks/d3rlpy_speed.py --python d3/bin/python [--json d3rlpy_speed.json]

d3rlpy asks for an older gymnasium, so it has an environment of its own, whose Python answers from a process beside this
one. The two take turns, round by round. What a step works on (batch, networks, critics, delays, actions that CQL
asks about) must be equal on both sides, and the same torch: else the script says what differs and measures nothing.
d3rlpy runs as a user gets it; it normalises no observations, which TD3BC and CQL do here.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from measuring import clocked, in_turns, machine, random_columns, versus, write_json

from zoo.agents import CQL, IQL, TD3BC, Agent, ReBRAC
from zoo.agents.core.replay import Table
from zoo.datasets.dataset import OfflineDataset
from zoo.policies import MLP

SIDE = Path(__file__).with_name("d3rlpy_side.py")
AGENTS: dict[str, Callable[[OfflineDataset], Agent]] = {
    "TD3BC": TD3BC,
    "IQL": IQL,
    "ReBRAC": ReBRAC,
    "CQL": partial(CQL, actor_hidden=(256, 256), critic_hidden=(256, 256)),
}


class Side:
    """d3rlpy in its own Python, which answers one line of JSON with another."""

    def __init__(self, python: Path):
        self.log = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        command = [str(python), str(SIDE)]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
            )
        except OSError as error:
            raise SystemExit(f"{python} does not start ({error}): give the Python of d3rlpy's environment") from None
        self.hello = self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # its input ends, and so does it
        self.log.close()

    def ask(self, **message: object) -> Any:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, and the answer says so
            print(json.dumps(message), file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            said = self.log.read().decode(errors="replace").strip().splitlines()[-5:]
            raise SystemExit("\n".join([f"the other Python ended with status {self.process.wait()}:", *said]))
        return json.loads(line)


def works_on(agent: Agent) -> dict[str, object]:
    """What d3rlpy_side.py says of the other side."""
    c: Any = agent.config
    trunks = {name: module for name, module in agent.named_modules() if isinstance(module, MLP)}
    count = {name: sum(p.numel() for p in trunk.parameters()) for name, trunk in trunks.items()}
    return {
        "batch": c.batch_size,
        "critics": c.n_critics,
        "updates for each of the actor's": getattr(c, "policy_delay", 1),
        "actions of each kind asked about": getattr(c, "penalty_actions", 0),
        "actor's parameters": count["policy.actor.trunk"],
        "critics' parameters": count["policy.critic.trunk"],
        "value's parameters": count.get("value.trunk", 0),
        "activations": ["ReLU"],
    }


def check_same(name: str, ours: dict[str, object], theirs: dict[str, object]) -> None:
    differing = [
        f"{key}: {ours.get(key)} here, {theirs.get(key)} there" for key in ours if ours[key] != theirs.get(key)
    ]
    if differing:
        raise SystemExit(f"{name} works on other things in d3rlpy, {'; '.join(differing)}: make them equal first")


def measure(name: str, side: Side, dataset: OfflineDataset, rounds: int, each: int) -> dict[str, Any]:
    agent = AGENTS[name](dataset)
    same = works_on(agent)
    check_same(name, same, side.ask(case=name))
    table = Table.of(dataset, agent.layout, agent.device, agent.dtype)
    with agent.compute():
        times = in_turns(
            {
                "step": clocked(lambda: agent.update(agent.sample(table)), 2 * each, updates=1),
                "d3rlpy": lambda: side.ask(case=name, what="step", each=each),
                "sample": clocked(lambda: agent.sample(table), 2 * each, updates=1),
                "d3rlpy sample": lambda: side.ask(case=name, what="sample", each=each),
            },
            rounds,
        )
    ms = {what: float(np.median(values)) for what, values in times.items()}
    return {
        "agent": name,
        "works_on": same,
        "step": ms["step"],
        "sample": ms["sample"],
        "d3rlpy": versus(times["step"], times["d3rlpy"]),
        "d3rlpy_sample": ms["d3rlpy sample"],
    }


def line(row: dict[str, Any]) -> str:
    r = row["d3rlpy"]
    return (
        f"{row['agent']:<8} {row['step']:7.2f} ms, sampling {row['sample']:.2f}   d3rlpy {r['ms']:7.2f} ms, sampling "
        f"{row['d3rlpy_sample']:.2f}   {r['ratio']:.2f} x ({r['q1']:.2f} to {r['q3']:.2f})"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="of the environment that has d3rlpy")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--only", nargs="+", choices=AGENTS, default=list(AGENTS), metavar="AGENT")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--each", type=int, default=20, help="turns of two updates in a round")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    dataset = OfflineDataset.from_arrays(**random_columns(), name="random")  # type: ignore[arg-type]
    with Side(options.python) as side:
        if side.hello["torch"] != torch.__version__:
            raise SystemExit(f"torch {torch.__version__} here, {side.hello['torch']} there: install the same")
        result: dict[str, Any] = {"machine": machine() | {"d3rlpy": side.hello["d3rlpy"]}}
        result |= {"rounds": options.rounds, "each": options.each, "rows": []}
        for name in options.only:
            result["rows"].append(measure(name, side, dataset, options.rounds, options.each))
            print(line(result["rows"][-1]), flush=True)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()

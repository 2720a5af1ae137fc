"""The report of one training: what it was, how it did, what it does on the data, and what to be careful about."""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from zoo.agents import Agent, load
from zoo.datasets.reopen import reopen
from zoo.evaluation.callbacks import Point, read_curve
from zoo.reports import charts
from zoo.reports.page import Page, image, svg
from zoo.selection.candidates import Candidate
from zoo.selection.trouble import signs

ROWS = 5_000  # of the data that distributions are made of
LONGEST = 180  # seconds that a video may take
# MuJoCo's ways to draw, the user's own first: with a screen, on a GPU or Mesa without one, in software.
DRAWING: tuple[dict[str, str], ...] = ({}, {"MUJOCO_GL": "egl"}, {"MUJOCO_GL": "osmesa"})


def run_report(folder: Path, other: str | None = None) -> Page:
    """The page of a folder of zoo train, of one agent. other: another place of its data than the one they had then.

    Raises FileNotFoundError where the folder holds no checkpoint, ValueError for a population.
    """
    checkpoint = next((folder / name for name in ("final.zip", "latest.zip") if (folder / name).is_file()), None)
    if checkpoint is None:
        raise FileNotFoundError(f"{folder} holds no final.zip and no latest.zip: give the --out of zoo train")
    agent = load(checkpoint)
    if agent.population is not None:
        raise ValueError(f"{folder} holds a population: report one of its members, {folder}/member_0")
    dataset = reopen(agent.spec, checkpoint, other)
    curve = read_curve(folder / "evaluations.csv")
    kind, data = type(agent).__name__, agent.spec.name
    page = Page(f"{kind} on {data}", f"{agent.updates:,} gradient steps, seed {agent.seed}, {checkpoint}")
    log = newest_log(folder)
    summarize(page, curve, dataset)
    warn(page, agent, dataset, log)
    losses(page, log)
    distributions(page, agent, dataset)
    video(page, agent, checkpoint)
    bundle(page, agent)
    settings(page, agent)
    return page


def summarize(page: Page, curve: list[Point], dataset: Any) -> None:
    returns = np.bincount(dataset.column("episode_ids"), weights=dataset.column("rewards").astype(np.float64))
    page.heading("Returns")
    rows: list[tuple[str, str]] = [("the data, mean of its episodes", f"{returns.mean():.1f}")]
    rows.append(("the data, best episode", f"{returns.max():.1f}"))
    if not curve:
        page.table(("", "return"), rows)
        page.text("There are no evaluations: the environment was not there, or the run was shorter than an interval.")
        return
    last = curve[-1]
    tail = [point.return_mean for point in curve[-3:]]
    best = max(curve, key=lambda point: point.return_mean)
    rows += [
        (
            f"last evaluation, at step {curve[-1].timesteps:,}",
            f"{curve[-1].return_mean:.1f} ± {curve[-1].return_std:.1f}",
        ),
        (f"mean of the last {len(tail)}", f"{np.mean(tail):.1f}"),
        (f"best, at step {best.timesteps:,}, chosen with hindsight", f"{best.return_mean:.1f}"),
    ]
    page.table(("", "return"), rows)
    phases = {
        name: ([p.timesteps for p in curve if p.online is online], [p.return_mean for p in curve if p.online is online])
        for name, online in (("offline", False), ("online", True))
    }
    levels = {"the data, mean": float(returns.mean()), "the data, best": float(returns.max())}
    drawn = {name: phase for name, phase in phases.items() if phase[0]}
    page.figure(
        svg(charts.lines(drawn, "steps", "return", levels)), f"each point is {last.episodes} deterministic episodes"
    )


def warn(page: Page, agent: Agent, dataset: Any, log: Path | None) -> None:
    page.heading("Signs of trouble")
    for sign in signs(agent, dataset, log):
        page.text(f"{sign.name}: {sign.text}", "bad" if sign.bad else "")
    page.text("None of them proves that a policy is good; each is a reason not to run one yet.", "faint")


def losses(page: Page, log: Path | None) -> None:
    if log is None:
        return
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    drawn: dict[str, charts.Curve] = {}
    for name in ("critic/loss", "actor/loss"):
        points = [(int(row["time/total_timesteps"]), float(row[name])) for row in rows if row.get(name)]
        if len(points) > 1:
            drawn[name] = [step for step, _ in points], [value for _, value in points]
    if drawn:
        page.heading("Losses")
        page.figure(svg(charts.lines(drawn, "steps", "loss")), "from the run's log")


def distributions(page: Page, agent: Agent, dataset: Any) -> None:
    rows = np.linspace(0, len(dataset) - 1, min(ROWS, len(dataset))).astype(np.int64)
    observations, logged = (dataset.column(name)[rows] for name in ("observations", "actions"))
    judged = Candidate("", agent)
    chosen = judged.actions(observations)
    page.heading("What it does on the data")
    names = names_of(dataset, logged.shape[1])
    drawn = charts.histograms({"the data": logged, "the policy": chosen}, names, "action, in the environment's units")
    page.figure(svg(drawn), f"actions in {len(rows):,} states of the data, dimension by dimension")
    if judged.values:
        q = np.stack([judged.q(observations, logged), judged.q(observations, chosen)], axis=1)
        groups = {"logged actions": q[:, :1], "the policy's": q[:, 1:]}
        page.figure(
            svg(charts.histograms(groups, ["Q"], "discounted return, in the units of the rewards")),
            "what its critics say of the logged actions, and of its own",
        )


def names_of(dataset: Any, size: int) -> list[str]:
    known = getattr(dataset, "action_names", ()) or ()
    return [known[i] if i < len(known) and known[i] else f"action {i}" for i in range(size)]


def video(page: Page, agent: Agent, checkpoint: Path) -> None:
    """Some seconds of an episode, where the environment is installed and the machine can draw without a screen."""
    page.heading("An episode")
    if agent.spec.env_id is None:
        page.text("The data name no environment.", "faint")
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "episode.webp"
        # In a process of its own: a driver that cannot draw may take its process with it.
        command = [sys.executable, "-m", "zoo.reports.video", str(checkpoint), str(out)]
        for drawing in DRAWING:
            environment = os.environ | drawing
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, env=environment)
            if out.is_file():
                break
        content = out.read_bytes() if out.is_file() else None
    if content is None:
        why = (done.stderr.strip().splitlines() or ["the process ended without a word"])[-1]
        page.text(f"No video: {agent.spec.env_id} could not be drawn here ({why}).", "faint")
        return
    words = f"{type(agent).__name__} in {agent.spec.env_id}"
    page.figure(image(content, "webp", words), f"{words}, the beginning of the episode of reset seed 100")


def bundle(page: Page, agent: Agent) -> None:
    """Size and latency of the files that a robot would run."""
    page.heading("On a robot")
    try:
        from zoo_robot.runtime import OnnxPolicy, measure

        with tempfile.TemporaryDirectory() as folder:
            directory = agent.export_onnx(Path(folder) / "deploy")
            size = (directory / "policy.onnx").stat().st_size
            policy = OnnxPolicy(directory, providers="cpu")
            obs = np.zeros(policy.observation_size, np.float32)
            times = measure([lambda: policy.predict(obs)], 500)[0]
    except ModuleNotFoundError as missing:
        page.text(f"Not measured: {missing}.", "faint")
        return
    page.pairs(
        {
            "policy.onnx": f"{size / 1e3:.0f} kB",
            "one decision on one core of this machine": f"{np.median(times):.3f} ms in the median, "
            f"{np.quantile(times, 0.99):.3f} ms at p99",
            "difference from the agent": "at most 1e-5 of the half box, checked at export",
        }
    )


def settings(page: Page, agent: Agent) -> None:
    page.heading("Settings")
    page.pairs({"preset": agent.preset or "none, the defaults", **vars(agent.config)})
    page.heading("Data")
    page.pairs({"transitions": f"{agent.spec.transitions:,}", **agent.spec.provenance})


def newest_log(folder: Path) -> Path | None:
    logs = sorted(folder.glob("logs/**/progress.csv"), key=lambda path: path.stat().st_mtime)
    return logs[-1] if logs else None

"""Pictures of a run."""

from pathlib import Path

import numpy as np

from zoo.evaluation.callbacks import Point


def plot_curve(points: list[Point], data_returns: np.ndarray, path: Path) -> Path:
    """Return against training steps, offline and online, beside the data's mean and best episode; a PNG."""
    from matplotlib.figure import Figure  # not at the top: an extra; Figure needs no display

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for online, label, color in ((False, "offline", "tab:blue"), (True, "fine-tuning online", "tab:orange")):
        part = [point for point in points if point.online == online]
        if part:
            steps = np.array([point.timesteps for point in part])
            mean, std = (np.array([getattr(point, name) for point in part]) for name in ("return_mean", "return_std"))
            axes.plot(steps, mean, "o-", color=color, label=label)
            axes.fill_between(steps, mean - std, mean + std, color=color, alpha=0.2)
    axes.axhline(data_returns.mean(), color="gray", linestyle="--", label="mean of the data")
    axes.axhline(data_returns.max(), color="gray", linestyle=":", label="best of the data")
    axes.set_xlabel("gradient steps offline, then environment steps")
    axes.set_ylabel("return of 10 deterministic episodes")
    axes.legend()
    figure.savefig(path, dpi=120)
    return path

"""The pictures of a report, by matplotlib; lines are told apart in light and dark, and without colour."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.reports.page import INK

try:
    from cycler import cycler
    from matplotlib import rc_context
    from matplotlib.figure import Figure
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(f"a report needs {missing.name}: pip install 'offline-agent-zoo[plot]'") from missing

# Okabe and Ito's colours, which people with any colour vision tell apart, mid-bright for both backgrounds.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f")
LOOK: dict[Any, Any] = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=["-", "--", "-.", ":", "-", "--", "-."]),
    "legend.frameon": False,
    "font.family": "sans-serif",
    "font.size": 10,
}
Curve = tuple[Sequence[float], Sequence[float]]  # steps, values


def figure(width: float = 7.0, height: float = 3.0, columns: int = 1, rows: int = 1) -> tuple[Any, NDArray[Any]]:
    made = Figure(figsize=(width, height), layout="constrained")
    return made, np.atleast_1d(made.subplots(rows, columns)).ravel()


@rc_context(LOOK)
def lines(
    curves: Mapping[str, Curve], x: str, y: str, levels: Mapping[str, float] | None = None, log: bool = False
) -> Any:
    """Named curves, and named horizontal lines."""
    made, (axes,) = figure()
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, label=name, marker="o" if len(steps) < 30 else None, markersize=3)
    for style, (name, level) in zip((":", "-."), (levels or {}).items(), strict=False):
        axes.axhline(level, color=INK, linewidth=0.8, linestyle=style, label=name)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize=9)
    return made


@rc_context(LOOK)
def bands(curves: Mapping[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]], x: str, y: str) -> Any:
    """Named means with an interval: steps, mean, low, high, each (points,)."""
    made, (axes,) = figure()
    for name, (steps, mean, low, high) in curves.items():
        (line,) = axes.plot(steps, mean, label=name)
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize=9)
    return made


@rc_context(LOOK)
def histograms(groups: Mapping[str, NDArray[Any]], names: Sequence[str], x: str) -> Any:
    """groups: name -> (N, D). A small histogram for each dimension, the groups over one another."""
    count = len(names)
    columns = min(count, 4)
    rows = -(-count // columns)
    made, axes = figure(7.0, 1.6 * rows + 0.4, columns, rows)
    every = np.concatenate(list(groups.values()))
    for dimension, name in enumerate(names):
        bins = np.linspace(every[:, dimension].min(), every[:, dimension].max() + 1e-9, 31)
        for values in groups.values():
            axes[dimension].hist(values[:, dimension], bins, density=True, histtype="step", linewidth=1.3)
        axes[dimension].set_title(name, fontsize=9)
        axes[dimension].set_yticks([])
    for spare in axes[count:]:
        spare.set_visible(False)
    axes[0].legend(list(groups), fontsize=8)
    made.supxlabel(x, fontsize=9)
    return made

"""zoo data check --html: a page of a recording, without scripts: what was found, beside what it concerns.

For each dimension a histogram and a trace of the first rows; lengths and returns of the episodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from zoo.datasets.checks import Array
from zoo.datasets.doctor.recording import Finding, Recording

BINS, SHOWN = 40, 600  # of a histogram; rows of a trace
WIDTH, HEIGHT = 360, 80
STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 68em; color: #222; padding: 0 1em}
table {border-collapse: collapse} td {padding: .3em 1em .3em 0; vertical-align: top}
svg {background: #f6f6f6} .bar {fill: #4a7dbd} .line {fill: none; stroke: #4a7dbd}
.finding {border-left: 4px solid; padding: .2em .8em; margin: .6em 0}
.error {border-color: #b3261e} .warning {border-color: #d98e04} .note {border-color: #7a7a7a}
.limit {stroke: #b3261e; stroke-dasharray: 3} small {color: #666}
"""


def page(recording: Recording, findings: list[Finding]) -> str:
    """The whole page as HTML."""
    of_all = [finding for finding in findings if not finding.parts]
    lengths = np.diff(np.append(-1, np.flatnonzero(recording.ends)))
    starts = np.append(0, np.flatnonzero(recording.ends)[:-1] + 1)
    returns = np.add.reduceat(np.nan_to_num(recording.columns["rewards"].astype(np.float64)), starts)
    rows = len(recording.columns["rewards"])
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(recording.name)}</title><style>{STYLE}</style>",
        f"<h1>{escape(recording.name)}</h1><p>{rows:,} rows, {len(lengths):,} episodes. ",
        f"{len(findings)} findings.</p>" if findings else "Nothing was found.</p>",
        *map(_finding, of_all),
        "<h2>Episodes</h2><table>",
        _row("length", "steps", lengths, (), recording.ends, trace=False),
        _row("return", "", returns, (), recording.ends, trace=False),
        "</table>",
    ]
    for key in ("observations", "actions", "rewards"):
        column = recording.columns[key].reshape(rows, -1)
        parts.append(f"<h2>{key.capitalize()}</h2><table>")
        for i in range(column.shape[1]):
            place = f"{key}[{i}]" if key != "rewards" else key
            about = [finding for finding in findings if place in finding.parts or (key in finding.parts and i == 0)]
            name = recording.part(key, i) if key != "rewards" else key
            parts.append(_row(name, place, column[:, i], about, recording.ends, limits=_limits(recording, key, i)))
        parts.append("</table>")
    return "\n".join(parts) + "</html>\n"


def _limits(recording: Recording, key: str, index: int) -> tuple[float, float] | None:
    if key == "observations" and index < len(recording.limits):
        return recording.limits[index]
    if key == "actions":
        low, high = (np.ravel(bound) for bound in (recording.action_low, recording.action_high))
        return float(low[index % len(low)]), float(high[index % len(high)])
    return None


def _row(
    name: str,
    place: str,
    values: Array,
    findings: Iterable[Finding],
    ends: Array,
    *,
    limits: tuple[float, float] | None = None,
    trace: bool = True,
) -> str:
    sound = values[np.isfinite(values)].astype(np.float64)
    numbers = f"{sound.min():.4g} to {sound.max():.4g}, mean {sound.mean():.4g}" if len(sound) else "no numbers"
    stated = f"<br>limits {limits[0]:.4g} to {limits[1]:.4g}" if limits and np.isfinite(limits).any() else ""
    cells = [
        f"<td><b>{escape(name)}</b><br><small>{escape(place)}<br>{numbers}{stated}</small></td>",
        f"<td>{_histogram(sound, limits)}</td>",
        f"<td>{_trace(values[:SHOWN].astype(np.float64), ends[:SHOWN])}</td>" if trace else "",
    ]
    return f"<tr>{''.join(cells)}</tr>" + "".join(f"<tr><td colspan=3>{_finding(item)}</td></tr>" for item in findings)


def _finding(finding: Finding) -> str:
    return (
        f'<div class="finding {finding.severity}"><b>{finding.severity}: {escape(finding.title)}</b> '
        f"<small>{escape(finding.where)}</small><br>{escape(finding.meaning)} <i>{escape(finding.fix)}</i></div>"
    )


def _histogram(values: Array, limits: tuple[float, float] | None) -> str:
    if len(values) == 0:
        return ""
    counts, edges = np.histogram(values, bins=BINS)
    step = WIDTH / BINS
    bars = "".join(
        f'<rect class=bar x="{i * step:.1f}" y="{HEIGHT * (1 - count / counts.max()):.1f}" width="{step - 1:.1f}" '
        f'height="{HEIGHT * count / counts.max():.1f}"/>'
        for i, count in enumerate(counts)
    )
    span = edges[-1] - edges[0]
    lines = "".join(
        f'<line class=limit x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>'
        for limit in limits or ()
        if 0 <= (x := WIDTH * (limit - edges[0]) / span) <= WIDTH
    )
    return f'<svg width="{WIDTH}" height="{HEIGHT}" role=img aria-label="histogram">{bars}{lines}</svg>'


def _trace(values: Array, ends: Array) -> str:
    """The first rows over time; a gap between episodes."""
    sound = values[np.isfinite(values)]
    if len(sound) < 2:
        return ""
    low, high = float(sound.min()), float(sound.max())
    heights = HEIGHT * (1 - (values - low) / ((high - low) or 1.0)) * 0.9 + 0.05 * HEIGHT
    lines, points = [], []
    for i, (height, end) in enumerate(zip(heights, ends, strict=True)):
        if np.isfinite(height):
            points.append(f"{WIDTH * i / len(values):.1f},{height:.1f}")
        if end or not np.isfinite(height) or i == len(values) - 1:
            lines.append(f'<polyline class=line points="{" ".join(points)}"/>')
            points = []
    return f'<svg width="{WIDTH}" height="{HEIGHT}" role=img aria-label="trace">{"".join(lines)}</svg>'

"""What a log of the control loop shows: deadlines, times, causes, doubt, actions against their limits.

As text for a terminal, and as one static page without scripts or links. Nothing is served unless asked for, and then to
this computer alone. Needs numpy, and runlog.py beside it.
"""

from __future__ import annotations  # Python 3.9 reads this file

import html
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from .runlog import Log, Run, read_log

PERCENTILES = (50.0, 99.0, 99.9, 100.0)
POINTS = 600  # of a curve; of more ticks each point is a range
WIDTH, HEIGHT = 900, 90  # of a curve, pixels
BAR = 40  # characters


def text(log: Log, ticks: int | None = None) -> str:
    """The last run in a screenful; ticks: only so many of its last ones."""
    run = _last(log, ticks)
    lines = [*_head(log, run)]
    if not len(run.rows):
        return "\n".join([*lines, "no ticks yet"])
    lines += ["", f"{'ms':<12}" + "".join(f"{_percent(p):>10}" for p in PERCENTILES)]
    for name in ("lateness", "work"):
        values = np.percentile(run.rows[name], PERCENTILES) * 1e3
        lines.append(f"{name:<12}" + "".join(f"{value:>10.3f}" for value in values))
    lines += ["", *(f"{name:<12}{count:>10,}{share:>9.2%}" for name, count, share in _causes(run))]
    doubt = run.rows["doubt"][np.isfinite(run.rows["doubt"])]
    if len(doubt):
        lines += ["", f"doubt: median {np.median(doubt):.3g}, largest {doubt.max():.3g}, threshold {_threshold(run)}"]
    lines += ["", "actions as they were written, from the low limit to the high one:"]
    limits = run.about["limits"]
    for j, name in enumerate(run.names("actions")):
        low, high, written = limits["low"][j], limits["high"][j], run.rows["written"][:, j]
        lines.append(f"{name[:24]:<24} [{_bar(written, low, high)}] {written[-1]:.3g}")
    return "\n".join(lines)


def _bar(values: np.ndarray, low: float, high: float) -> str:
    """Where the values were: darker is more often."""
    places = np.clip((values - low) / max(high - low, 1e-12) * BAR, 0, BAR - 1).astype(int)
    counts = np.bincount(places, minlength=BAR)
    shades = " .:-=+*#%@"
    level = np.ceil(counts / max(counts.max(), 1) * (len(shades) - 1)).astype(int)
    return "".join(shades[i] for i in level)


def page(log: Log, ticks: int | None = None, refresh: int | None = None) -> str:
    """The same as HTML with curves; refresh: seconds after which a browser asks again."""
    run = _last(log, ticks)
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    curves = "".join(_curves(run)) if len(run.rows) else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{again}<title>control loop</title><style>'
        "body{font-family:sans-serif;margin:2em;max-width:960px}svg{background:#f6f6f6;display:block}"
        "pre{background:#f6f6f6;padding:1em;overflow:auto}h2{font-size:1em;margin:1em 0 .2em}</style></head><body>"
        f"<pre>{html.escape(text(log, ticks))}</pre>{curves}</body></html>\n"
    )


def _curves(run: Run) -> Iterator[str]:
    rows, limits = run.rows, run.about["limits"]
    period = 1e3 / run.about["rate"]
    yield _curve("lateness, ms; the line is the period", rows["lateness"] * 1e3, [period])
    yield _curve("work, ms; the line is the period", rows["work"] * 1e3, [period])
    if np.isfinite(rows["doubt"]).any():
        threshold = run.about.get("threshold")
        lines = [] if threshold is None else [threshold]
        yield _curve("the guard's doubt; the line is its threshold", rows["doubt"], lines)
    for j, name in enumerate(run.names("actions")):
        edges = [limits["low"][j], limits["high"][j]]
        yield _curve(f"{name}, as written; the lines are its limits", rows["written"][:, j], edges)


def _curve(title: str, values: np.ndarray, lines: list[float]) -> str:
    """Least and largest value of each piece of the ticks, as an SVG."""
    finite = np.isfinite(values)
    known = np.append(values[finite], lines)
    low, high = float(known.min()), float(known.max())
    span = high - low or 1.0

    def y(value: float) -> float:
        return HEIGHT - 4 - (value - low) / span * (HEIGHT - 8)

    pieces = np.array_split(np.arange(len(values)), min(POINTS, len(values)))
    marks = []
    for i, piece in enumerate(pieces):
        inside = values[piece][finite[piece]]
        if len(inside):
            x = i / max(len(pieces) - 1, 1) * WIDTH
            top, bottom = y(float(inside.max())), y(float(inside.min()))
            marks.append(f"M{x:.1f} {top - 0.7:.1f}V{bottom + 0.7:.1f}")
    rules = "".join(f'<path d="M0 {y(v):.1f}H{WIDTH}" stroke="#c33" stroke-dasharray="4"/>' for v in lines)
    return (
        f"<h2>{html.escape(title)}: {low:.4g} to {high:.4g}</h2>"
        f'<svg width="{WIDTH}" height="{HEIGHT}">{rules}<path d="{"".join(marks)}" stroke="#246" fill="none" '
        f'stroke-width="1.4"/></svg>'
    )


def serve(path: Path, port: int, ticks: int | None, told: Callable[[str], None] = print) -> None:
    """The page on this computer's own address alone, read anew for every visit, until Ctrl-C. port 0: a free one."""
    handler = partial(_Handler, path, ticks)
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        told(f"http://127.0.0.1:{server.server_address[1]}/ shows {path}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            told("ended")


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, path: Path, ticks: int | None, *given: object):
        self.log_path, self.ticks = path, ticks
        super().__init__(*given)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path != "/":
            self.send_error(404)
            return
        try:
            content = page(read_log(self.log_path), self.ticks, refresh=2).encode()
        except (OSError, ValueError) as error:
            self.send_error(503, str(error))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        """Visits are nobody's business."""


def _last(log: Log, ticks: int | None) -> Run:
    run = log.runs[-1]
    return run if ticks is None else Run(run.about, run.rows[-ticks:], run.end)


def _head(log: Log, run: Run) -> Iterator[str]:
    agent = (run.about.get("policy") or {}).get("agent", "a policy")
    state = "still running, or cut off" if run.end is None else run.end["reason"]
    yield f"run {len(log.runs)} of the log, {agent} at {run.about['rate']:g} Hz: {state}"
    if not len(run.rows):
        return
    passed = int(run.rows["tick"][-1] - run.rows["tick"][0]) + 1
    kept = int((run.rows["late"] == 0).sum())
    dropped = int(run.rows["number"][-1] - run.rows["number"][0]) + 1 - len(run.rows)
    yield f"{kept:,} of {passed:,} deadlines kept ({kept / passed:.2%}), {dropped:,} ticks dropped by the recorder"
    if log.damaged:
        yield f"{log.damaged:,} bytes of the file are damaged or cut off"


def _causes(run: Run) -> Iterator[tuple[str, int, float]]:
    """Name, ticks and share: of the outcomes, of the causes, and of limited actions; those that there were."""
    for key, names in (("outcome", run.about["outcomes"]), ("cause", run.about["causes"])):
        counts = np.bincount(run.rows[key], minlength=len(names))
        for name, count in zip(names, counts):  # noqa: B905, not in Python 3.9
            if count and name != "none":
                yield name, int(count), count / len(run.rows)
    if limited := int(run.rows["limited"].sum()):
        yield "limited", limited, limited / len(run.rows)


def _threshold(run: Run) -> str:
    threshold = run.about.get("threshold")
    return "unknown" if threshold is None else f"{threshold:.3g}"


def _percent(p: float) -> str:
    return "max" if p == 100.0 else f"p{p:g}"

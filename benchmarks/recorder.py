"""What recording costs the control loop: deadlines, lateness and work with the recorder and without, in turns.

    python benchmarks/recorder.py [--rate 1000] [--seconds 10] [--rounds 3] [--json recorder.json]

The robot is a function that answers at once (O = 48, A = 12) and the policy a matrix product, so that what is seen is
the loop and the recorder. The last lines are the time of one note() and the bytes that a tick takes on the disk.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from zoo_robot.control import ControlLoop, Limits, Report
from zoo_robot.recorder import Recorder
from zoo_robot.runlog import read_log

O, A = 48, 12  # noqa: E741
QUANTILES = ("50", "99", "99.9", "100")


def run(rate: float, seconds: float, recorder: Recorder | None) -> Report:
    rng = np.random.default_rng(0)
    obs, weight = rng.standard_normal(O), 0.1 * rng.standard_normal((O, A)).astype(np.float32)
    loop = ControlLoop(
        lambda: obs,
        lambda seen: seen @ weight,
        lambda action: None,
        Limits([-1.0] * A, [1.0] * A, [0.0] * A),
        rate=rate,
        observation_size=O,
        stale_after=1.0,
        recorder=recorder,
    )
    return loop.run(int(rate * seconds))


def note_seconds(path: Path, calls: int = 20_000) -> float:
    """Median of one note()."""
    recorder = Recorder(path, seconds=60.0)
    recorder.begin({"rate": 1000.0, "observation_size": O, "action_size": A})
    obs, action = np.zeros(O, np.float32), np.zeros(A)
    times = np.empty(calls)
    for tick in range(calls):
        begin = time.perf_counter()
        recorder.note(tick, 0.0, 0.0, 0.0, 0.0, np.nan, 0, 0, False, False, obs, action, action)
        times[tick] = time.perf_counter() - begin
    recorder.end("done")
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'run':<20}{'kept':>9}{'dropped':>9}" + "".join(f"{f'late p{q}':>11}{f'work p{q}':>11}" for q in QUANTILES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.log"
        for number in range(options.rounds):
            for name in ("without", "with"):
                recorder = Recorder(path) if name == "with" else None
                report = run(options.rate, options.seconds, recorder)
                kept, dropped = report.kept / report.deadlines, 0 if recorder is None else recorder.dropped
                lateness, work = report.lateness_ms, report.work_ms
                times = "".join(f"{lateness[q]:>11.3f}{work[q]:>11.3f}" for q in QUANTILES)
                print(f"{f'{number} {name}':<20}{kept:>9.2%}{dropped:>9}{times}")
                rows.append({"run": name, "kept": kept, "dropped": dropped, "lateness_ms": lateness, "work_ms": work})
        ticks = sum(len(run.rows) for run in read_log(path).runs)
        size = path.stat().st_size / ticks
        note = note_seconds(Path(folder) / "note.log")
    print(f"note(): {note * 1e6:.1f} microseconds; {size:.0f} bytes a tick on the disk")
    if options.json is not None:
        options.json.write_text(json.dumps({"runs": rows, "note_us": note * 1e6, "bytes": size}, indent=2))


if __name__ == "__main__":
    main()

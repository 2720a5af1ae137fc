"""How long logs take to become datasets: processor seconds a gigabyte, for CSV, Parquet, npz, MCAP and a ROS 2 bag.

python benchmarks/importing.py --megabytes 50
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np

STEPS = 200
MAP = Path(__file__).resolve().parent.parent / "examples" / "arm" / "map.toml"


def columns(rows: int) -> dict[str, np.ndarray]:
    """Random rows with the columns of the arm's log (examples/arm)."""
    stated, rng = tomllib.loads(MAP.read_text()), np.random.default_rng(0)
    last = np.arange(rows) % STEPS == STEPS - 1
    entries = [*stated["observations"], *stated["actions"]]
    made = {entry["name"]: rng.uniform(entry["low"], entry["high"], rows).round(5) for entry in entries}
    success = last & (rng.random(rows) < 0.4)
    flags = {"success": success.astype(int), "failed": 0 * last, "timeout": (last & ~success).astype(int)}
    clock = {"t": np.arange(rows) * 0.05, "episode": np.arange(rows) // STEPS}
    return {**clock, **made, "reward": np.where(success, 9.95, -0.05), **flags}


def write_csv(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.csv

    pyarrow.csv.write_csv(pa.table(columns(rows)), path)


def write_parquet(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table(columns(rows)), path)


def write_npz(path: Path, rows: int) -> None:
    np.savez(path, **columns(rows))


def write_mcap(path: Path, rows: int) -> None:
    """Two topics: joint states of 23 numbers, and commands of 7."""
    from types import SimpleNamespace

    from mcap_ros2.writer import Writer

    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        writer = Writer(file)
        schema = writer.register_msgdef("std_msgs/msg/Float64MultiArray", "float64[] data")
        for i in range(rows):
            for topic, size, delay in (("/state", 23, 0), ("/command", 7, 1_000_000)):
                stamp, message = i * 50_000_000 + delay, SimpleNamespace(data=rng.uniform(-1, 1, size).tolist())
                writer.write_message(topic, schema, message, log_time=stamp, publish_time=stamp)
        writer.finish()


BAG = {
    "observations": [f"/state.data[{i}]" for i in range(23)],
    "actions": [{"column": f"/command.data[{i}]", "low": -1.0, "high": 1.0} for i in range(7)],
    "reward": "0",
    "terminated": False,
    "episode": "file",
    "tick": "/command",
}
KINDS = {  # name -> writer, bytes a row, map
    "csv": (write_csv, 290, MAP),
    "parquet": (write_parquet, 230, MAP),
    "npz": (write_npz, 290, MAP),
    "mcap": (write_mcap, 350, BAG),
}


def main() -> None:
    from zoo.datasets.load import read_logs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=50.0)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            write, width, log_map = KINDS[kind]
            path = Path(folder) / f"log.{kind}"
            write(path, int(options.megabytes * 1e6 / width))
            size, begin = path.stat().st_size, time.process_time()
            data = read_logs([path], log_map)
            seconds = time.process_time() - begin
            path.unlink()
            print(
                f"{kind}: {size / 1e6:.0f} MB, {len(data):,} transitions in {seconds:.1f} s of processor time: "
                f"{seconds / size * 1e9:.0f} s for 1 GB",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Milliseconds of OnnxPolicy.predict on one provider, for batches of 1, 64 and 4096, and how far it is from the CPU.

    python benchmarks/latency.py DIR... --provider cpu [--threads 1] [--json latency.json]
    python benchmarks/latency.py DIR... --provider cuda     # with onnxruntime-gpu in place of onnxruntime

DIR: of agent.export_onnx. The time holds all that a caller waits for: checks, copies to the device and back, clipping.
The difference is the largest component in half boxes over 4096 observations drawn around the golden ones; rows where it
is above 1e-5 are counted, for a policy that chooses among candidates may choose another one of the same value.
"""

import argparse
import json
import os
import platform
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, see zoo_robot.runtime
import onnxruntime

from zoo_robot.runtime import OnnxPolicy, measure

BATCHES = (1, 64, 4096)
TOLERANCE = 1e-5
SECONDS = 10.0  # of one batch size, about
MOST_CALLS = 5_000


def inputs(policy: OnnxPolicy, golden: dict[str, np.ndarray], rows: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Observations (rows, O) spread as the golden ones, and noise where the policy takes it."""
    rng = np.random.default_rng(0)
    obs = golden["obs"].mean(0) + golden["obs"].std(0) * rng.standard_normal((rows, policy.observation_size))
    shape = (rows, policy.evaluation_samples, policy.noise_size)
    return obs.astype(np.float32), rng.standard_normal(shape, np.float32) if policy.noise_size else None


def parity(policy: OnnxPolicy, reference: OnnxPolicy, golden: dict[str, np.ndarray], rows: int) -> dict[str, float]:
    """The largest difference of the actions from the reference's in half boxes, and the rows above the tolerance."""
    obs, noise = inputs(policy, golden, rows)
    differences = np.abs(policy.predict(obs, noise) - reference.predict(obs, noise))
    differences /= (reference.high - reference.low) / 2
    return {"largest": float(differences.max()), "rows_above_1e-5": int((differences.max(1) > TOLERANCE).sum())}


def latency(policy: OnnxPolicy, golden: dict[str, np.ndarray], batch: int, seconds: float) -> dict[str, float]:
    """Of one prediction of `batch` rows, in milliseconds."""
    obs, noise = inputs(policy, golden, batch)
    predict = partial(policy.predict, obs[0] if batch == 1 else obs, noise)
    once = float(np.median(measure([predict], 5)))
    times = measure([predict], int(np.clip(seconds * 1e3 / once, 20, MOST_CALLS)))[0]
    median, p99 = np.quantile(times, [0.5, 0.99])
    return {"batch": batch, "median": float(median), "p99": float(p99), "calls": len(times)}


def figures(directory: Path, provider: str, threads: int, seconds: float) -> dict[str, Any]:
    """Latency of every batch size, and the difference from the CPU."""
    policy = OnnxPolicy(directory, providers=provider, threads=threads)
    with np.load(directory / "golden.npz", allow_pickle=False) as file:
        golden = dict(file)
    return {
        "agent": policy.metadata["agent"],
        "evaluation_samples": policy.evaluation_samples,
        "provider": policy.provider,
        "threads": threads,
        "onnxruntime": onnxruntime.__version__,
        "machine": platform.machine(),
        "difference": parity(policy, OnnxPolicy(directory, providers="cpu"), golden, BATCHES[-1]),
        "latency_ms": [latency(policy, golden, batch, seconds) for batch in BATCHES],
    }


def table(result: dict[str, Any]) -> str:
    difference = result["difference"]
    title = f"{result['agent']}, {result['evaluation_samples']} candidate(s)"
    lines = [f"| {title} on {result['provider']} | ms, median | p99 |", "|---|---|---|"]
    lines += [f"| batch {row['batch']} | {row['median']:.3f} | {row['p99']:.3f} |" for row in result["latency_ms"]]
    lines += [
        "",
        f"against the CPU: {difference['largest']:.1e} half boxes at most, "
        f"{difference['rows_above_1e-5']} of {BATCHES[-1]} rows above 1e-5",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each batch size, about")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(arguments)
    results = []
    for directory in options.directories:
        results.append(figures(directory, options.provider, options.threads, options.seconds))
        print(table(results[-1]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Microseconds of one decision: policy.h compiled, beside onnxruntime on the same actor, one core.

    python benchmarks/c99.py [--hidden 256 256] [--observations 48] [--actions 12] [--flags -O2] [--json c99.json]

The weights are random: a product takes as long whatever its numbers are. The C side is timed by a loop in C over 1,000
decisions, onnxruntime's by one call after the other, in turns; median and 99th percentile over the calls. The largest
difference between the two is printed too, in half boxes.
"""

import argparse
import ctypes
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box

from zoo import TD3BC, from_columns
from zoo_robot.runtime import OnnxPolicy, measure

LOOP = """
#define _POSIX_C_SOURCE 199309L
#include <time.h>
#include "policy.h"
int act(const float *o, float *a) { return policy_act(o, a); }
double seconds(const float *o, float *a, int calls) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < calls; i++) policy_act(o, a);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}
"""
BATCH = 100  # decisions that are timed at once in C


def bundle(folder: Path, observations: int, actions: int, hidden: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((65, observations))
    data = from_columns(
        {
            "observations": rows[:-1],
            "next_observations": rows[1:],
            "actions": rng.uniform(-1, 1, (64, actions)),
            "rewards": np.zeros(64),
            "terminations": np.zeros(64),
            "truncations": np.arange(64) == 63,
        },
        action_space=Box(-1.0, 1.0, (actions,), np.float32),
    )
    agent = TD3BC(data, seed=0, device="cpu", actor_hidden=hidden, critic_hidden=(8,), normalize_observations=True)
    agent.export_onnx(folder)
    agent.write_c(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--observations", type=int, default=48)
    parser.add_argument("--actions", type=int, default=12)
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--flags", nargs="+", default=["-O2"], help="write --flags=-O2 for one that begins with a dash")
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = bundle(Path(name) / "deploy", options.observations, options.actions, tuple(options.hidden))
        source, target = Path(name) / "loop.c", Path(name) / "loop.so"
        source.write_text(LOOP)
        command = [options.compiler, "-std=c99", *options.flags, "-shared", "-fPIC", f"-I{folder}", str(source)]
        subprocess.run([*command, "-lm", "-o", str(target)], check=True)
        library, pointer = ctypes.CDLL(str(target)), ctypes.POINTER(ctypes.c_float)
        library.seconds.restype = ctypes.c_double
        policy = OnnxPolicy(folder / "actor.onnx", providers="cpu")
        obs = np.random.default_rng(1).standard_normal(options.observations).astype(np.float32)
        made = np.zeros(options.actions, np.float32)
        given = obs.ctypes.data_as(pointer), made.ctypes.data_as(pointer)
        times = [library.seconds(*given, BATCH) / BATCH * 1e6 for _ in range(options.calls // 10)]
        feeds = {"obs": obs[np.newaxis]}
        bare, ours = measure(
            [lambda: policy.session.run(["actions"], feeds), lambda: policy.predict(obs)], options.calls
        )
        difference = float(np.abs(made - policy.predict(obs)).max())
        size = (folder / "policy.h").stat().st_size
    figures = {
        "policy.h": [float(v) for v in np.quantile(times, [0.5, 0.99])],
        "session.run": [float(v) * 1e3 for v in np.quantile(bare, [0.5, 0.99])],
        "OnnxPolicy": [float(v) * 1e3 for v in np.quantile(ours, [0.5, 0.99])],
    }
    print(f"{options.observations} -> {options.hidden} -> {options.actions}, {options.compiler} {options.flags}")
    for label, (median, p99) in figures.items():
        print(f"{label:<14}{median:>10.2f}{p99:>10.2f}   microseconds, median and p99")
    print(f"largest difference {difference:.2g} half boxes; policy.h has {size:,} bytes")
    if options.json is not None:
        options.json.write_text(json.dumps({**figures, "difference": difference, "bytes": size}, indent=2))


if __name__ == "__main__":
    main()

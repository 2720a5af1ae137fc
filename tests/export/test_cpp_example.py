"""examples/cpp, built with the machine's compiler and run: its actions are the golden ones.

It needs g++, cmake and onnxruntime's headers, no newer than the library (1.21 with 1.31 was tested): those of
ONNXRUNTIME_INCLUDE_DIR, or of Debian's libonnxruntime-dev. The library is the one of the Python package.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.support.paths import ROOT
from zoo.agents import TD3BC, DataSpec
from zoo_robot.runtime import OnnxPolicy

SOURCE = ROOT / "examples" / "cpp"
PLACES = (os.environ.get("ONNXRUNTIME_INCLUDE_DIR"), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime")
HEADERS = next((p for p in PLACES if p and (Path(p) / "onnxruntime_cxx_api.h").exists()), None)
LIBRARY = next(iter(sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))), None)
MISSING = [tool for tool in ("g++", "cmake") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"the C++ example needs {', '.join(MISSING)}"),
    pytest.mark.skipif(
        HEADERS is None,
        reason="the C++ example needs onnxruntime_cxx_api.h: set ONNXRUNTIME_INCLUDE_DIR, see examples/cpp/README.md",
    ),
    pytest.mark.skipif(LIBRARY is None, reason="this onnxruntime package holds no libonnxruntime.so"),
]

SPEC = DataSpec("probe-v0", None, 5, (-2.0, 0.0), (1.0, 4.0), 100, 0.0, 1.0, {})
M = 8


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    build = tmp_path_factory.mktemp("build")
    settings = [f"-DONNXRUNTIME_INCLUDE_DIR={HEADERS}", f"-DONNXRUNTIME_LIBRARY={LIBRARY}"]
    for command in (["cmake", "-S", str(SOURCE), "-B", str(build), *settings], ["cmake", "--build", str(build)]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "policy"


@pytest.fixture(scope="module", params=[1, M])
def directory(request, tmp_path_factory) -> Path:
    agent = TD3BC(SPEC, seed=1, actor_hidden=(16,), critic_hidden=(16,))
    return agent.export_onnx(tmp_path_factory.mktemp("export") / "deploy", request.param)


def run(program: Path, *arguments: object, lines: str = "") -> subprocess.CompletedProcess:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)


def rows(*columns: np.ndarray) -> str:
    return "\n".join(" ".join(f"{v:.9g}" for v in row) for row in np.hstack(columns)) + "\n"


def test_golden_vectors_come_out_again(program, directory):
    golden = np.load(directory / "golden.npz", allow_pickle=False)
    noise = [golden["noise"].reshape(len(golden["obs"]), -1)] if "noise" in golden else []
    done = run(program, directory / "policy.onnx", M, lines=rows(golden["obs"], *noise))
    assert done.returncode == 0, done.stderr
    found = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    half_box = np.array([1.5, 2.0])
    assert (np.abs(found - golden["policy_actions"]) / half_box).max() <= 1e-5


def test_without_noise_it_draws_its_own_inside_the_box(program, directory):
    obs = np.random.default_rng(0).normal(size=(20, 5))
    done = run(program, directory / "policy.onnx", M, lines=rows(obs))
    found = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    assert found.shape == (20, 2)
    assert ((OnnxPolicy(directory).low <= found) & (found <= OnnxPolicy(directory).high)).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3", "a line has 3 numbers, expected 5"),
        ("1 2 3 4 nan", "not a finite number: nan"),
        ("1 2 3 4 5x", "not a finite number: 5x"),
        ("1 2 3 4 five", "policy: "),
    ],
)
def test_a_line_that_is_no_observation_ends_it(program, directory, line, message):
    done = run(program, directory / "policy.onnx", M, lines=f"{line}\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


def test_a_file_that_is_no_policy_is_told(program, directory, tmp_path):
    (tmp_path / "policy.onnx").write_bytes(b"no model")
    for path in (tmp_path / "policy.onnx", tmp_path / "missing.onnx", directory / "critic.onnx"):
        done = run(program, path)
        assert done.returncode == 1
        assert re.match(r"policy: .+", done.stderr.splitlines()[-1])


def test_no_arguments_show_the_usage(program):
    done = run(program)
    assert (done.returncode, done.stderr.split()[0]) == (2, "usage:")

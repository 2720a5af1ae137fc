"""Nothing leaves the robot: onnxruntime's telemetry is off wherever we import it, unless the user asks for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT, VECTORS

BUNDLE = VECTORS / "bundle-format-2"
PREDICT = f"policy = OnnxPolicy({str(BUNDLE)!r}); policy.predict(np.zeros(policy.observation_size))"
THREADS = "import os, time; time.sleep(0.3); print(len(os.listdir('/proc/self/task')))"
WAYS = {
    "the runtime": f"import numpy as np; from zoo_robot.runtime import OnnxPolicy; {PREDICT}",
    "the package": f"import numpy as np; from zoo_robot import OnnxPolicy; {PREDICT}",
    "the guard": f"from zoo_robot import Disagreement; Disagreement({str(BUNDLE)!r})",
    "verify": f"from pathlib import Path; import zoo_robot.inspection as i; i.verify(Path({str(BUNDLE)!r}), 'cpu')",
    "export": f"import zoo.export.onnx, onnxruntime; onnxruntime.InferenceSession({str(BUNDLE / 'actor.onnx')!r})",
    "precision": f"import zoo.export.precision, numpy as np; from zoo_robot import OnnxPolicy; {PREDICT}",
    "zoo first": f"import zoo, onnxruntime; onnxruntime.InferenceSession({str(BUNDLE / 'actor.onnx')!r})",
}


def run(code: str, home: Path, *before: str, folder: Path = ROOT, **variables: str) -> str:
    """Standard output of a fresh process in a home of its own."""
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1", **variables}
    line = [*before, sys.executable, "-c", code]
    done = subprocess.run(line, env=environment, cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


@pytest.mark.parametrize("code", WAYS.values(), ids=WAYS)
def test_nothing_is_written_at_home(code, tmp_path):
    run(code, tmp_path / "home")
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


def test_a_copied_runtime_sees_to_it_alone(tmp_path):
    for name in ("runtime.py", "disagreement.py"):
        shutil.copy(ROOT / "export" / "robot" / name, tmp_path)
    runtime = f"import numpy as np; from runtime import OnnxPolicy; {PREDICT}"
    for i, code in enumerate((runtime, f"from disagreement import Disagreement; Disagreement({str(BUNDLE)!r})")):
        run(code, tmp_path / f"home{i}", folder=tmp_path)
        assert [path for path in (tmp_path / f"home{i}").rglob("*") if path.is_file()] == []


def test_who_asks_for_it_gets_it(tmp_path):
    """So the tests above can fail."""
    run(WAYS["the runtime"], tmp_path / "home", ORT_DISABLE_TELEMETRY="0")
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_prediction_starts_no_thread(tmp_path):
    alone = int(run(f"import numpy; {THREADS}", tmp_path / "home"))
    assert int(run(f"{WAYS['the runtime']}; {THREADS}", tmp_path / "home")) == alone


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_prediction_looks_up_nothing(tmp_path):
    log = tmp_path / "calls"
    try:
        run(WAYS["the runtime"], tmp_path / "home", "strace", "-f", "-e", "trace=network,exit_group", "-o", str(log))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"strace is not allowed here: {error.stderr.strip()}")
    calls = log.read_text()
    assert "exit_group" in calls  # it has watched
    assert [line for line in calls.splitlines() if "socket(" in line or "connect(" in line] == []


def test_programs_that_import_onnxruntime_themselves_switch_it_off_first():
    """Within zoo and zoo_robot the packages do it."""
    for path in (*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").rglob("*.py")):
        text = path.read_text()
        if "import onnxruntime" in text:
            assert 0 < text.find('"ORT_DISABLE_TELEMETRY", "1"') < text.index("import onnxruntime"), path

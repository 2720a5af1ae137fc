"""Without an extra: one line at the start, and what can go on goes on."""

import subprocess
import sys

import pytest

import zoo
from tests.support.data import tiny, toy_dataset
from tests.zoo.test_resuming import write_npz

SMALL = "--set actor_hidden=(4,) critic_hidden=(4,) batch_size=4"
BLOCKED = "import sys; sys.modules.update(dict.fromkeys({names!r})); from zoo.cli.main import main; main()"


def without(names: list[str], folder, command: str) -> subprocess.CompletedProcess:
    """A command in a process where importing these modules fails."""
    words = [sys.executable, "-c", BLOCKED.format(names=names), *command.split()]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("names", "data", "says"),
    [
        (["tensorboard"], "data.npz", "tensorboard is not installed: the log goes to CSV files alone"),
        (["mujoco"], "hopper-medium-replay", "offline-agent-zoo[mujoco]|gymnasium[mujoco]"),
    ],
)
def test_training_goes_on(tmp_path, names, data, says):
    write_npz(tmp_path / "data.npz")
    done = without(names, tmp_path, f"train TD3BC {data} --out run --steps 2 --workers 1 {SMALL}")
    assert done.returncode == 0, done.stderr
    assert any(words in done.stdout + done.stderr for words in says.split("|")), done.stdout + done.stderr
    assert (tmp_path / "run" / "final.zip").exists()


def test_an_export_names_the_extra_that_it_needs(tmp_path):
    tiny(zoo.TD3BC, toy_dataset()).save(tmp_path / "agent.zip")
    done = without(["onnx", "onnxscript", "onnxruntime"], tmp_path, "export agent.zip deploy")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "pip install 'offline-agent-zoo[export]'" in line

"""benchmarks/latency.py, and a policy on CUDA, where there is one."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.support.paths import ROOT
from zoo.agents import TD3BC, DataSpec
from zoo_robot.runtime import OnnxPolicy

PATH = ROOT / "benchmarks" / "latency.py"
CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
SPEC = DataSpec("probe-v0", None, 5, (-2.0, 0.0), (1.0, 4.0), 100, 0.0, 1.0, {})
GOLDEN = {"obs": np.array([[1.0, 2.0], [3.0, 2.0]])}

spec = importlib.util.spec_from_file_location("benchmark_latency", PATH)
latency = importlib.util.module_from_spec(spec)
spec.loader.exec_module(latency)


@pytest.fixture(scope="module", params=[1, 8])
def directory(request, tmp_path_factory) -> Path:
    agent = TD3BC(SPEC, seed=1, actor_hidden=(16,), critic_hidden=(16,))
    return agent.export_onnx(tmp_path_factory.mktemp("export") / "deploy", request.param)


class Fixed:
    """Stands in for an OnnxPolicy: always the same actions."""

    observation_size, action_size, evaluation_samples, noise_size = 2, 1, 1, 0
    low, high = np.array([0.0]), np.array([4.0])

    def __init__(self, *actions):
        self.actions = np.array(actions, np.float32)

    def predict(self, obs, noise=None):
        return self.actions


def test_the_difference_is_in_half_boxes_and_rows_above_are_counted():
    found = latency.parity(Fixed([1.0], [2.5], [3.0]), Fixed([1.0], [2.0], [3.00001]), GOLDEN, 3)
    assert found == {"largest": 0.25, "rows_above_1e-5": 1}  # half a unit of a half box of two; the third is 5e-6 off


def test_the_calls_fill_the_time_and_are_summed_up(monkeypatch):
    def measure(functions, calls):
        """Call i takes i + 1 milliseconds."""
        return np.arange(1.0, calls + 1.0)[np.newaxis]

    monkeypatch.setattr(latency, "measure", measure)
    row = latency.latency(Fixed([1.0]), GOLDEN, 64, seconds=0.303)  # of five calls the median is 3 ms, so 101 calls
    assert (row["batch"], row["calls"], row["median"], row["p99"]) == (64, 101, 51.0, 100.0)


def test_observations_are_spread_as_the_golden_ones():
    obs, noise = latency.inputs(Fixed(), GOLDEN, 20_000)
    assert noise is None
    assert obs.mean(0) == pytest.approx([2.0, 2.0], abs=0.05)
    assert obs.std(0) == pytest.approx([1.0, 0.0], abs=0.05)


def test_the_command_on_the_cpu_differs_by_nothing_from_the_cpu(directory, tmp_path, capsys):
    latency.main([str(directory), "--seconds", "0", "--json", str(tmp_path / "l.json")])
    (figures,) = json.loads((tmp_path / "l.json").read_text())
    assert figures["difference"] == {"largest": 0.0, "rows_above_1e-5": 0}
    assert [row["batch"] for row in figures["latency_ms"]] == [1, 64, 4096]
    assert "| batch 4096 |" in capsys.readouterr().out


@pytest.mark.skipif(not CUDA, reason="this onnxruntime has no CUDA")
@pytest.mark.parametrize("batch", [1, 64, 4096])
def test_cuda_acts_as_the_cpu(directory, batch):
    try:
        policy = OnnxPolicy(directory, providers="cuda")
    except RuntimeError as error:
        pytest.skip(f"CUDA does not start: {error}")
    golden = dict(np.load(directory / "golden.npz", allow_pickle=False))
    found = latency.parity(policy, OnnxPolicy(directory, providers="cpu"), golden, batch)
    assert found["rows_above_1e-5"] <= batch // 100  # candidates of the same value may be exchanged

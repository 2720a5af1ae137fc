"""OnnxPolicy: what runs on the robot, from files built here by hand, so that no exporter is involved."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import runtime
from export.runtime import OnnxPolicy, PolicyFileError

SOURCE = Path(runtime.__file__)
OBS, ACT, M = 3, 2, 4
LOW, HIGH = [-1.0, 0.0], [1.0, 2.0]
WEIGHT = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], np.float32)
METADATA = {
    "format": 1,
    "graph": "policy",
    "observation_size": OBS,
    "action_size": ACT,
    "action_low": LOW,
    "action_high": HIGH,
    "evaluation_samples": 1,
}


def write(path: Path, samples: int = 1, metadata: dict | None = METADATA) -> Path:
    """actions = obs @ WEIGHT, plus noise[:, 0] where there are samples; nothing in the graph keeps them in the box."""
    inputs = [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["batch", OBS])]
    nodes = [helper.make_node("MatMul", ["obs", "weight"], ["actions" if samples == 1 else "mean"])]
    weights = [numpy_helper.from_array(WEIGHT, "weight")]
    if samples > 1:
        inputs.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", samples, ACT]))
        weights.append(numpy_helper.from_array(np.array(0), "first"))
        nodes.append(helper.make_node("Gather", ["noise", "first"], ["moved"], axis=1))
        nodes.append(helper.make_node("Add", ["mean", "moved"], ["actions"]))
    outputs = [helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["batch", ACT])]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {"zoo": json.dumps(metadata | {"evaluation_samples": samples})})
    onnx.save(model, path)
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    return write(tmp_path / "policy.onnx")


@pytest.fixture
def policy(file) -> OnnxPolicy:
    return OnnxPolicy(file)


@pytest.fixture
def sampling(tmp_path) -> OnnxPolicy:
    return OnnxPolicy(write(tmp_path / "policy.onnx", samples=M), seed=5)


def test_one_observation_gives_one_action_and_a_batch_gives_a_batch(policy):
    obs = np.array([0.1, 0.2, 0.4], np.float32)
    np.testing.assert_allclose(policy.predict(obs), [0.3, 0.4], rtol=1e-6)  # 0.1 + 0.2, 0.2 + 0.2
    np.testing.assert_allclose(policy.predict(np.stack([obs, 2 * obs])), [[0.3, 0.4], [0.6, 0.8]], rtol=1e-6)
    assert policy.predict(obs).dtype == np.float32


@pytest.mark.parametrize("kind", [np.float64, np.int32, np.uint8])
def test_every_kind_of_number_is_taken(policy, kind):
    np.testing.assert_array_equal(policy.predict(np.array([0, 1, 0], kind)), [0.0, 1.0])


def test_rows_that_are_not_contiguous_are_taken(policy):
    np.testing.assert_array_equal(policy.predict(np.eye(OBS, dtype=np.float32)[:, ::-1][:1]), [[0.5, 0.5]])


def test_actions_never_leave_the_box(policy):
    np.testing.assert_array_equal(policy.predict(np.array([9.0, 9.0, 0.0])), HIGH)
    np.testing.assert_array_equal(policy.predict(np.array([-9.0, -9.0, 0.0])), LOW)


def test_a_directory_means_its_policy_file(policy, file):
    obs = np.array([0.1, 0.2, 0.4])
    np.testing.assert_array_equal(OnnxPolicy(file.parent).predict(obs), policy.predict(obs))


def test_attributes_come_from_the_file(sampling):
    assert (sampling.observation_size, sampling.action_size, sampling.evaluation_samples) == (OBS, ACT, M)
    assert (sampling.low.tolist(), sampling.high.tolist()) == (LOW, HIGH)
    assert sampling.metadata["graph"] == "policy"


def test_equal_seeds_draw_equal_noise_and_others_do_not(tmp_path):
    path = write(tmp_path / "policy.onnx", samples=M)
    obs = np.array([0.0, 1.0, 0.0])
    first, same, other = ([OnnxPolicy(path, seed=seed).predict(obs) for _ in range(2)] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    policy = OnnxPolicy(path, seed=1)
    np.testing.assert_array_equal(policy.predict(obs), first[0])
    assert not np.array_equal(policy.predict(obs), first[0])  # the stream goes on


def test_given_noise_is_used_as_it_is(sampling):
    noise = np.zeros((2, M, ACT))
    noise[:, 0] = [[0.25, 0.5], [0.5, 0.25]]
    np.testing.assert_array_equal(sampling.predict(np.zeros((2, OBS)), noise), [[0.25, 0.5], [0.5, 0.25]])
    np.testing.assert_array_equal(sampling.predict(np.zeros(OBS), noise[:1]), [0.25, 0.5])


def test_noise_of_another_shape_or_for_a_policy_without_is_refused(sampling, tmp_path):
    with pytest.raises(
        ValueError, match=r"noise must be \(1, 4, 2\) finite numbers, got shape \(4, 2\), dtype float64"
    ):
        sampling.predict(np.zeros(OBS), np.zeros((M, ACT)))
    with pytest.raises(ValueError, match=r"noise must be \(1, 4, 2\) finite numbers"):
        sampling.predict(np.zeros(OBS), np.full((1, M, ACT), np.nan))
    with pytest.raises(ValueError, match="takes no noise: it was exported with evaluation_samples=1"):
        OnnxPolicy(write(tmp_path / "plain.onnx")).predict(np.zeros(OBS), np.zeros((1, 1, ACT)))


@pytest.mark.parametrize("shape", [(), (4,), (1, 4), (3, 1), (2, 2, 3), (0, 3), (0,)])
def test_wrong_shape_names_both_shapes(policy, shape):
    message = f"obs must have shape (3,) or (n, 3) with n >= 1, got {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        policy.predict(np.zeros(shape))


@pytest.mark.parametrize(
    "values", [np.array(["a", "b", "c"]), np.zeros(3, bool), np.zeros(3, complex), np.array([None] * 3)]
)
def test_what_is_not_a_number_is_refused_by_its_dtype(policy, values):
    with pytest.raises(TypeError, match=f"obs must hold numbers, got dtype {values.dtype}"):
        policy.predict(values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_observation_names_its_dimensions(policy, bad):
    with pytest.raises(ValueError, match=r"NaN or infinite entries in dimensions \[0, 2\]"):
        policy.predict(np.array([[0.0, 0.0, bad], [bad, 0.0, 0.0]]))


def test_action_that_would_not_be_finite_is_raised_and_not_returned(policy):
    with pytest.raises(FloatingPointError, match="action is not finite"):
        policy.predict(np.full(OBS, 3e38, np.float32))


def test_missing_file_names_the_path_and_what_writes_it(tmp_path):
    for path in (tmp_path / "policy.onnx", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no policy at .*policy\.onnx; agent\.export_onnx"):
            OnnxPolicy(path)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"no model" * 50])
def test_damaged_file_is_refused_by_its_name(file, damage):
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PolicyFileError, match=r"policy\.onnx (cannot be loaded .*use another copy|lacks the metadata)"):
        OnnxPolicy(file)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "lacks the metadata 'zoo'"),
        ({}, "lacks the metadata 'zoo'"),
        (METADATA | {"format": 3}, "has format 3, this runtime reads up to 2: use a newer runtime.py"),
        (METADATA | {"graph": "critic"}, "is a critic and gives no actions; open the policy.onnx"),
    ],
)
def test_file_of_another_kind_is_told_apart(tmp_path, metadata, message):
    with pytest.raises(PolicyFileError, match=message):
        OnnxPolicy(write(tmp_path / "other.onnx", metadata=metadata))


def test_fewer_than_one_thread_is_refused(file):
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        OnnxPolicy(file, threads=0)


def test_providers_are_checked_and_the_one_that_runs_is_named(file, monkeypatch):
    assert OnnxPolicy(file, providers="cpu").provider == "cpu"
    with pytest.raises(ValueError, match="providers must be 'auto', 'cpu' or 'cuda', got 'gpu'"):
        OnnxPolicy(file, providers="gpu")
    monkeypatch.setattr(runtime.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert OnnxPolicy(file).provider == "cpu"
    with pytest.raises(RuntimeError, match=r"runs on CPUExecutionProvider only.*pip install onnxruntime-gpu"):
        OnnxPolicy(file, providers="cuda")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_that_does_not_start_is_an_error_when_asked_for_and_a_fallback_otherwise(file, monkeypatch):
    if "CUDAExecutionProvider" in runtime.onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]  # as a machine without the driver's libraries says
    monkeypatch.setattr(runtime.onnxruntime, "get_available_providers", lambda: both)
    with pytest.warns(UserWarning, match=r"could not start CUDA.* runs on the CPU"):
        assert OnnxPolicy(file).provider == "cpu"
    with pytest.raises(RuntimeError, match="onnxruntime could not start CUDA"):
        OnnxPolicy(file, providers="cuda")


ALONE = """
import sys
for name in ("torch", "gymnasium", "onnx", "policies", "agents", "zoo", "export"):
    sys.modules[name] = None                       # an import of it fails from here on
import numpy as np
from runtime import OnnxPolicy
print(OnnxPolicy(sys.argv[1]).predict(np.array([0.1, 0.2, 0.4])).tolist())
"""


def test_it_runs_as_a_lone_file_with_numpy_and_onnxruntime_only(file, policy, tmp_path):
    shutil.copy(SOURCE, tmp_path / "runtime.py")
    command = [sys.executable, "-c", ALONE, str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == policy.predict(np.array([0.1, 0.2, 0.4])).tolist()


def test_importing_it_from_the_package_imports_no_torch():
    code = "import sys; sys.modules['torch'] = None; from export.runtime import OnnxPolicy; print(OnnxPolicy.__name__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=SOURCE.parents[1], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "OnnxPolicy"), done.stderr


def test_its_syntax_is_that_of_python_3_9():
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))

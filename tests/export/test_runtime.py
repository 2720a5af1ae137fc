"""OnnxPolicy: what runs on the robot, from files built here by hand, so that no exporter is involved."""

import ast
import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from zoo_robot import runtime
from zoo_robot.runtime import OnnxPolicy, PolicyFileError

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
}


SECOND = {  # the same in format 2
    "format": 2,
    "graph": "policy",
    "observations": [{"name": name, "unit": "m", "low": None, "high": None} for name in ("hip", None, "knee")],
    "actions": [
        {"name": None, "unit": "unknown", "low": low, "high": high} for low, high in zip(LOW, HIGH, strict=True)
    ],
}


def write(path: Path, samples: int = 1, metadata: dict | None = METADATA, axis: int | str | None = None) -> Path:
    """actions = obs @ WEIGHT, plus noise[:, 0] where there are samples; nothing in the graph keeps them in the box.

    axis: of the samples; by default their number, as in format 1.
    """
    inputs = [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["batch", OBS])]
    nodes = [helper.make_node("MatMul", ["obs", "weight"], ["actions" if samples == 1 else "mean"])]
    weights = [numpy_helper.from_array(WEIGHT, "weight")]
    if samples > 1:
        inputs.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", axis or samples, ACT]))
        weights.append(numpy_helper.from_array(np.array(0), "first"))
        nodes.append(helper.make_node("Gather", ["noise", "first"], ["moved"], axis=1))
        nodes.append(helper.make_node("Add", ["mean", "moved"], ["actions"]))
    outputs = [helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["batch", ACT])]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {"zoo": json.dumps({"evaluation_samples": samples} | metadata)})
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


def test_two_threads_never_get_each_others_actions(policy):
    rows = np.random.default_rng(0).normal(size=(2, 300, policy.observation_size)).astype(np.float32)
    expected = [policy.predict(own) for own in rows]
    wrong, refused = [], []

    def ask(own, actions):
        for row, action in zip(own, actions, strict=True):
            try:
                if not np.allclose(policy.predict(row), action, atol=1e-5):
                    wrong.append(row)
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(rows, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all("another thread is using this policy" in text for text in refused)


def test_a_call_during_another_is_an_error_and_the_policy_goes_on_after_it(policy, monkeypatch):
    row = np.zeros(policy.observation_size, np.float32)
    run, told = policy._run, []

    def asks_in_between():
        with pytest.raises(
            RuntimeError, match="another thread is using this policy: open one for each thread"
        ) as error:
            policy.predict(row)
        told.append(error)
        run()

    monkeypatch.setattr(policy, "_run", asks_in_between)
    action = policy.predict(row)
    monkeypatch.setattr(policy, "_run", run)
    with pytest.raises(ValueError, match="NaN"):
        policy.predict(np.full(policy.observation_size, np.nan))
    np.testing.assert_array_equal(policy.predict(row), action)
    assert len(told) == 1


@pytest.mark.parametrize("how", [ForkingPickler.dumps, copy.copy, copy.deepcopy])
def test_a_policy_is_opened_anew_and_not_copied(policy, how):
    with pytest.raises(TypeError, match=r"open another, OnnxPolicy\('.*policy.onnx'\)"):
        how(policy)


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


# A free number of candidates, as in format 2


@pytest.fixture
def free(tmp_path) -> OnnxPolicy:
    return OnnxPolicy(write(tmp_path / "policy.onnx", samples=40, metadata=SECOND, axis="samples"))


def test_format_2_has_a_box_and_names_for_each_dimension(free):
    assert (free.observation_size, free.low.tolist(), free.high.tolist()) == (OBS, LOW, HIGH)
    with pytest.raises(ValueError, match=r"in dimensions \[1, 2\] \(knee\); expected"):
        free.predict(np.array([0.0, np.nan, np.inf]))


def test_another_number_of_candidates_can_be_asked_for(free):
    policy = OnnxPolicy(free.path, evaluation_samples=3)
    noise = np.zeros((1, 3, ACT))
    noise[0, 0] = [0.25, 0.5]
    np.testing.assert_array_equal(policy.predict(np.zeros(OBS), noise), [0.25, 0.5])
    with pytest.raises(ValueError, match=r"evaluation_samples must be 2 to 100000, got 1; actor\.onnx is the policy"):
        OnnxPolicy(free.path, evaluation_samples=1)
    with pytest.raises(ValueError, match=r"noise must be \(1, 40, 2\)"):
        free.predict(np.zeros(OBS), noise)


def test_a_fixed_number_stays_and_says_so(sampling, tmp_path):
    assert OnnxPolicy(sampling.path, evaluation_samples=M).evaluation_samples == M
    with pytest.raises(ValueError, match="has 4 candidates for good, as all files of format 1: export again"):
        OnnxPolicy(sampling.path, evaluation_samples=3)
    with pytest.raises(ValueError, match="has no candidates to choose from: export with evaluation_samples above 1"):
        OnnxPolicy(write(tmp_path / "plain.onnx")).choose_samples(budget_ms=1.0)


def proportional(policy: OnnxPolicy):
    """Stands in for runtime.measure: on this machine a decision takes 0.1 ms for each candidate, one in 20 takes 2x."""

    def measured(functions, calls):
        for function in functions:
            function()
        times = np.full((len(functions), calls), 0.1 * policy.evaluation_samples)
        times[:, ::20] *= 2.0
        return times

    return measured


@pytest.mark.parametrize(
    ("budget", "quantile", "most", "expected"),
    [
        (1.05, 0.5, None, 10),  # 10 take 1.0 ms
        (1.05, 0.99, None, 5),  # and 5 take as long at their worst
        (0.2, 0.5, None, 2),
        (100.0, 0.5, None, 40),  # no more than was exported,
        (100.0, 0.5, 1000, 1000),  # unless asked for: 1000 take 100 ms
        (3.0, 0.5, 7, 7),
    ],
)
def test_samples_are_the_most_that_the_budget_allows(free, monkeypatch, budget, quantile, most, expected):
    monkeypatch.setattr(runtime, "measure", proportional(free))
    assert free.choose_samples(budget + 1e-9, quantile, most) == free.evaluation_samples == expected
    assert free.predict(np.zeros((2, OBS))).shape == (2, ACT)


def test_a_budget_too_small_for_any_choice_is_an_error_and_changes_nothing(free, monkeypatch):
    monkeypatch.setattr(runtime, "measure", proportional(free))
    with pytest.raises(
        RuntimeError, match=r"two candidates take 0\.2 ms here, the budget is 0\.1 ms: open actor\.onnx"
    ):
        free.choose_samples(budget_ms=0.1, quantile=0.5)
    assert free.evaluation_samples == 40


def test_measure_calls_the_functions_in_turns():
    called = []
    times = runtime.measure([lambda: called.append("a"), lambda: called.append("b")], calls=3)
    assert "".join(called) == runtime.WARM_UP * "a" + runtime.WARM_UP * "b" + "ababab"
    assert times.shape == (2, 3)
    assert (times >= 0).all()


# Buffers


def test_batches_of_different_sizes_do_not_disturb_each_other(sampling):
    rows, noise = np.arange(6.0).reshape(2, OBS) / 10, np.full((2, M, ACT), 0.5)
    first = sampling.predict(rows, noise)
    kept = first.copy()
    one = sampling.predict(rows[1], noise[:1])
    np.testing.assert_array_equal(one, kept[1])
    sampling.predict(-rows, -noise)
    np.testing.assert_array_equal(first, kept)  # an answer is the caller's
    one[:] = np.nan
    assert np.isfinite(sampling.predict(rows[0])).all()


# Whatever it is given, it answers inside the box or says what is wrong


NUMBERS = st.one_of(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int64, np.uint64, np.bool_, np.complex64]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=4) | st.sampled_from([(OBS,), (1, OBS), (5, OBS)]),
    ),
    st.lists(st.floats(width=32, allow_nan=True), max_size=4),
    st.text(max_size=3),
    st.none(),
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> list[OnnxPolicy]:
    folder = tmp_path_factory.mktemp("fuzzed")
    second = write(folder / "free.onnx", samples=M, metadata=SECOND, axis="samples")
    return [OnnxPolicy(write(folder / "actor.onnx")), OnnxPolicy(second)]


@pytest.mark.filterwarnings("error")
@settings(deadline=None, max_examples=150)
@given(NUMBERS, st.none() | NUMBERS)
@example(np.full(OBS, 3e38), None)
@example(np.full(OBS, 1e300), None)
@example(np.array([-0.0, 1e-45, 3e38]), np.full((1, M, ACT), 3e38))
def test_any_observation_gives_an_action_in_the_box_or_an_error_that_explains(fuzzed, obs, noise):
    for policy in fuzzed:
        try:
            actions = policy.predict(obs, noise)
        except (TypeError, ValueError, FloatingPointError) as error:
            assert re.search(r"obs must|obs has|noise must|takes no noise|not finite", str(error)), error  # noqa: PT017
        else:
            assert actions.shape == (*np.shape(obs)[:-1], ACT)
            assert ((actions >= LOW) & (actions <= HIGH)).all()  # NaN is in no box


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values, max_size=2),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from([METADATA, SECOND]), JSON)
@example(None, METADATA | {"action_low": [float("nan"), 0.0]}, None)
@example(None, METADATA | {"action_low": [5.0, 0.0]}, None)
@example(None, METADATA | {"action_high": [0.5, 3.0]}, None)
@example(None, SECOND | {"evaluation_samples": 10**12}, None)
@example(None, SECOND | {"noise_size": 10**12}, None)
@example(None, SECOND | {"noise_size": 0}, None)
@example(None, SECOND | {"inputs": 3, "evaluation_samples": 1}, None)
def test_any_metadata_give_a_sound_policy_or_an_error_that_names_the_file(tmp_path, data, metadata, value):
    if data is not None:
        metadata = metadata | {data.draw(st.sampled_from([*metadata, "evaluation_samples"])): value}
    path = write(tmp_path / "policy.onnx", samples=M, metadata=metadata, axis="samples")
    try:
        policy = OnnxPolicy(path)
    except PolicyFileError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        actions = policy.predict(np.full(OBS, 9.0))
        assert ((actions >= policy.low) & (actions <= policy.high)).all()  # another sound box may have been drawn
        assert np.isfinite([policy.low, policy.high]).all()


def contract_beside(path: Path, **files: str) -> None:
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()} | files
    entries = {name: {"sha256": digest} for name, digest in hashes.items()}
    path.with_name("contract.json").write_text(json.dumps({"files": entries}))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_is_found_by_the_contract_beside_the_file(tmp_path, data):
    path = write(tmp_path / "policy.onnx")
    contract_beside(path)
    OnnxPolicy(path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(PolicyFileError, match=r"policy\.onnx is not the file that contract\.json was written for"):
        OnnxPolicy(path)


def test_a_contract_may_be_of_other_files_but_must_be_one(file, policy):
    contract_beside(file, **{"policy.onnx": "0" * 64})
    with pytest.raises(PolicyFileError, match="its SHA-256 differs"):
        OnnxPolicy(file)
    other = shutil.copy(file, file.with_name("mine.onnx"))
    assert OnnxPolicy(other).action_size == ACT
    for text in ("", "[]", '{"files": 3}', '{"files": {"policy.onnx": {}}}'):
        file.with_name("contract.json").write_text(text)
        with pytest.raises(PolicyFileError, match=r"contract\.json is not a contract .* use another copy"):
            OnnxPolicy(file)


def test_a_damaged_name_is_refused(file):
    file.write_bytes(file.read_bytes().replace(b"batch", b"batc\xa3"))
    with pytest.raises(PolicyFileError, match=r"policy\.onnx has damaged names .*use another copy"):
        OnnxPolicy(file)


def test_a_graph_of_other_sizes_than_its_metadata_is_refused(tmp_path):
    with pytest.raises(
        PolicyFileError, match=r"axes \{'obs': \[3\], 'actions': \[2\]\} .* its metadata \{'obs': \[4\]"
    ):
        OnnxPolicy(write(tmp_path / "policy.onnx", metadata=METADATA | {"observation_size": 4}))


ALONE = """
import sys
for name in ("torch", "gymnasium", "onnx", "zoo", "zoo_robot"):
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
    code = "import sys; sys.modules['torch'] = None; from zoo_robot import OnnxPolicy; print(OnnxPolicy.__name__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "OnnxPolicy"), done.stderr


def test_its_syntax_is_that_of_python_3_9():
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))

"""policy.h: compiled without a warning by every compiler here, and equal to torch on its golden rows and on others."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
import torch

from tests.support.data import OBS, toy_dataset
from zoo import AWAC, IQL, TD3BC, DiffusionQL
from zoo_robot.inspection import verify
from zoo_robot.runtime import OnnxPolicy

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
FLAGS = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]

ACTORS = {
    "tanh": (TD3BC, {"normalize_observations": True}),
    "gaussian": (AWAC, {}),
    "gaussian_normalised": (IQL, {}),
    "norm_before": (TD3BC, {"actor_norm": "before"}),
    "norm_after": (TD3BC, {"actor_norm": "after"}),
    "residual": (TD3BC, {"actor_network": "residual", "actor_hidden": (24, 24)}),
}


@pytest.fixture(scope="module")
def dataset():
    return toy_dataset()


@pytest.fixture(params=ACTORS)
def bundle(request, dataset, tmp_path):
    cls, settings = ACTORS[request.param]
    agent = cls(dataset, seed=0, device="cpu", **{"actor_hidden": (24, 17), "critic_hidden": (8,), **settings})
    with torch.no_grad():
        for parameter in agent.policy.actor.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    agent.export_onnx(tmp_path / "deploy")
    agent.write_c(tmp_path / "deploy")
    return tmp_path / "deploy"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_header_compiles_without_a_warning_passes_its_own_test_and_equals_onnxruntime(bundle, compiler, tmp_path):
    program = tmp_path / "test"
    command = [compiler, *FLAGS, "-DPOLICY_MAIN", "-x", "c", str(bundle / "policy.h"), "-lm", "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    result = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout

    act = library(compiler, bundle, tmp_path)
    policy = OnnxPolicy(bundle / "actor.onnx")
    obs = np.random.default_rng(0).normal(0.0, 2.0, (200, OBS)).astype(np.float32)
    found = np.array([act(row) for row in obs])
    difference = np.abs(found - policy.predict(obs)) / ((policy.high - policy.low) / 2)
    assert difference.max() < 1e-5
    assert np.ptp(found, 0).min() > 0.05  # no constant answer
    assert not [finding.text for finding in verify(bundle) if finding.bad]  # its hash is in the contract


def library(compiler, bundle, folder):
    """policy_act of a header, from Python; raises FloatingPointError where it refuses."""
    source, target = folder / "act.c", folder / f"act-{compiler}.so"
    source.write_text('#include "policy.h"\nint act(const float *o, float *a) { return policy_act(o, a); }\n')
    subprocess.run(
        [compiler, *FLAGS, "-shared", "-fPIC", f"-I{bundle}", str(source), "-lm", "-o", str(target)], check=True
    )
    function = ctypes.CDLL(str(target)).act
    pointer = ctypes.POINTER(ctypes.c_float)

    def act(row):
        row, actions = np.ascontiguousarray(row, np.float32), np.full(2, 7.0, np.float32)
        if function(row.ctypes.data_as(pointer), actions.ctypes.data_as(pointer)):
            assert actions.tolist() == [7.0, 7.0]
            raise FloatingPointError(row)
        return actions

    return act


@pytest.fixture
def agent(dataset):
    return TD3BC(dataset, seed=0, device="cpu", actor_hidden=(8,), critic_hidden=(8,))


@pytest.mark.skipif(not COMPILERS, reason="no C compiler here")
def test_what_is_not_finite_is_refused_and_the_self_test_sees_a_damaged_weight(agent, tmp_path):
    agent.export_onnx(tmp_path / "deploy")
    header = agent.write_c(tmp_path / "deploy")
    act = library(COMPILERS[0], tmp_path / "deploy", tmp_path)
    for bad in (np.nan, np.inf):
        with pytest.raises(FloatingPointError):
            act(np.array([0.0, bad, 0.0]))
    text = header.read_text()
    start = text.index("{", text.index("policy_l0_weight")) + 1
    (tmp_path / "policy.h").write_text(text[:start] + " 3.0f + " + text[start:])
    command = [COMPILERS[0], "-std=c99", "-DPOLICY_MAIN", "-x", "c", str(tmp_path / "policy.h"), "-lm", "-o"]
    subprocess.run([*command, str(tmp_path / "bad")], check=True)
    assert subprocess.run([str(tmp_path / "bad")], capture_output=True, check=False).returncode == 1


def test_an_actor_that_is_no_mlp_is_refused(dataset, tmp_path):
    agent = DiffusionQL(dataset, seed=0, device="cpu", actor_hidden=(8, 8), critic_hidden=(8,))
    agent.export_onnx(tmp_path / "deploy")
    with pytest.raises(ValueError, match="has a DiffusionActor, which is no MLP"):
        agent.write_c(tmp_path / "deploy")


def test_without_a_bundle_there_is_no_header(agent, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no contract\.json"):
        agent.write_c(tmp_path)


def test_a_second_export_replaces_a_bundle_with_a_header(agent, tmp_path):
    agent.export_onnx(tmp_path / "deploy")
    agent.write_c(tmp_path / "deploy")
    agent.export_onnx(tmp_path / "deploy")
    assert not (tmp_path / "deploy" / "policy.h").exists()

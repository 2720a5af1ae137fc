"""What export_onnx writes: the agent's own numbers, in onnxruntime."""

import functools
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.support.data import WITH_CRITICS, candidates, toy_dataset
from tests.support.paths import ROOT
from zoo.agents import AGENTS, TD3BC, Agent, DataSpec
from zoo.export import onnx as exporter
from zoo.export.onnx import ExportError
from zoo.policies import DeterministicActor, minimum
from zoo_robot.inspection import info, verify
from zoo_robot.runtime import OnnxPolicy

OBS, ACT, M = 5, 2, 8
LOW, HIGH = (-2.0, 0.0), (1.0, 4.0)  # neither centred nor of unit size
FILES = ["CARD.md", "actor.onnx", "contract.json", "critic.onnx", "golden.npz", "policy.onnx", "report.json"]
SPEC = DataSpec("probe-v0", None, OBS, LOW, HIGH, 100, 0.0, 1.0, {"source": "recorded by hand"})


def make(name: str, **settings) -> Agent:
    """A tiny agent with random weights everywhere and a normaliser that matters."""
    known = AGENTS[name].Config.names()
    small = {field: (16,) for field in ("actor_hidden", "critic_hidden") if field in known}
    agent = AGENTS[name](SPEC, seed=1, policy_kwargs=small, **settings)
    generator = torch.Generator().manual_seed(0)
    for parameter in agent.policy.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    agent.policy.observation_mean.copy_(torch.linspace(-3.0, 30.0, OBS))
    agent.policy.observation_std.copy_(torch.linspace(0.1, 5.0, OBS))
    return agent


def observations(count: int) -> np.ndarray:
    """Spread as what the normaliser of make() was fitted to."""
    spread = np.random.default_rng(count).standard_normal((count, OBS))
    return (np.linspace(-3.0, 30.0, OBS) + np.linspace(0.1, 5.0, OBS) * spread).astype(np.float32)


def same_actions(found: np.ndarray, expected: np.ndarray) -> bool:
    """To 1e-5 of the half box."""
    return bool((np.abs(found - expected) / ((np.array(HIGH) - LOW) / 2) <= 1e-5).all())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(name, samples) -> the agent and the directory of its export; each is made once, for an export takes seconds."""

    @functools.cache
    def export(name: str, samples: int) -> tuple[Agent, Path]:
        agent = make(name)
        agent.updates, agent.env_steps = 7, 3
        return agent, agent.export_onnx(tmp_path_factory.mktemp(name) / "deploy", samples)

    return export


def run_critic(directory: Path, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(directory / "critic.onnx", providers=["CPUExecutionProvider"])
    return session.run(["q"], {"obs": obs, "actions": actions})[0]


def metadata(file: Path) -> dict:
    return json.loads(next(p.value for p in onnx.load(file).metadata_props if p.key == "zoo"))


@pytest.mark.parametrize("count", [1, 7])
def test_with_one_sample_the_policy_file_is_the_actor(exported, count):
    agent, directory = exported("TD3BC", 1)
    obs = observations(count)
    for file in ("policy.onnx", "actor.onnx"):
        policy = OnnxPolicy(directory / file)
        assert policy.evaluation_samples == 1
        assert same_actions(policy.predict(obs), agent.predict(obs)[0])


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("name", AGENTS)
def test_actor_file_gives_the_action_of_the_agent(exported, name, count):
    agent, directory = exported(name, candidates(AGENTS[name], M))
    obs = observations(count)
    found = OnnxPolicy(directory / "actor.onnx").predict(obs)
    expected = agent.policy(torch.from_numpy(obs)).detach().numpy()  # a generative actor's, too
    assert same_actions(found, expected)
    if not agent.policy.generative:
        assert same_actions(found, agent.predict(obs, evaluation_samples=1)[0])


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("name", WITH_CRITICS)
def test_policy_file_chooses_the_candidate_that_the_agent_chooses(exported, name, count, monkeypatch):
    agent, directory = exported(name, M)
    obs = observations(count)
    noise = np.random.default_rng(0).standard_normal((count, M, agent.policy.noise_size)).astype(np.float32)
    monkeypatch.setattr(agent.predicting, "normal", lambda name, like: torch.from_numpy(noise[:, -like.shape[1] :]))
    expected, _ = agent.predict(obs, evaluation_samples=M)
    assert not same_actions(expected, agent.predict(obs, evaluation_samples=1)[0])  # the search does something
    assert same_actions(OnnxPolicy(directory).predict(obs, noise), expected)


@pytest.mark.parametrize("samples", [2, 50])
@pytest.mark.parametrize("name", WITH_CRITICS)
def test_policy_file_takes_any_number_of_candidates(exported, name, samples):
    agent, directory = exported(name, M)
    obs = observations(3)
    noise = np.random.default_rng(samples).standard_normal((3, samples, agent.policy.noise_size)).astype(np.float32)
    with torch.no_grad():
        expected = agent.policy.search(torch.from_numpy(obs), torch.from_numpy(noise)).numpy()
    assert same_actions(OnnxPolicy(directory, evaluation_samples=samples).predict(obs, noise), expected)


@pytest.mark.parametrize("name", ["DiffusionQL", "FQL"])
def test_a_generative_policy_takes_noise_for_its_one_candidate_and_holds_no_critic(exported, name):
    agent, directory = exported(name, 1)
    size = agent.policy.noise_size
    policy, obs = OnnxPolicy(directory), observations(7)
    assert (policy.evaluation_samples, policy.noise_size) == (1, size)
    noise = np.random.default_rng(0).standard_normal((7, 1, size)).astype(np.float32)
    with torch.no_grad():
        expected = agent.policy.sample(torch.from_numpy(obs), torch.from_numpy(noise[:, 0])).numpy()
    assert same_actions(policy.predict(obs, noise), expected)
    drawn, again = (OnnxPolicy(directory, seed=1).predict(obs) for _ in range(2))  # its own noise, by its seed
    assert np.array_equal(drawn, again)
    assert not same_actions(drawn, expected)
    model = onnx.load(directory / "policy.onnx")
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    assert shapes == {"obs": ["batch", OBS], "noise": ["batch", 1, size]}
    weights = sum(p.numel() for p in agent.policy.actor.parameters())
    floats = sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    assert floats < weights + sum(p.numel() for p in agent.policy.critic.parameters()) / 2
    assert not {node.op_type for node in model.graph.node} & {"Mish", "Gelu"}  # without kernels of their own on a CPU
    assert [finding.text for finding in verify(directory) if finding.bad] == []
    assert "one draw of the actor" in (directory / "CARD.md").read_text()
    assert "one draw of the actor" in info(directory)
    with pytest.raises(ValueError, match="has no candidates to choose from"):
        OnnxPolicy(directory, evaluation_samples=4)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("name", WITH_CRITICS)
def test_critic_file_takes_actions_in_units_of_the_environment(exported, name, count):
    agent, directory = exported(name, M)
    obs = observations(count)
    actions = np.random.default_rng(1).uniform(LOW, HIGH, (count, ACT)).astype(np.float32)
    # By hand: both normalisations.
    states = (torch.from_numpy(obs) - torch.linspace(-3.0, 30.0, OBS)) / torch.linspace(0.1, 5.0, OBS)
    unit = 2.0 * (torch.from_numpy(actions) - torch.tensor(LOW)) / (torch.tensor(HIGH) - torch.tensor(LOW)) - 1.0
    q = agent.policy.aggregate(agent.policy.critic(states, unit)).detach().numpy()
    np.testing.assert_allclose(run_critic(directory, obs, actions), q, rtol=1e-5, atol=1e-5)


def test_a_policy_without_critics_has_a_bundle_without_them_that_verifies(exported, tmp_path):
    agent, directory = exported("BC", 1)
    assert sorted(path.name for path in directory.iterdir()) == [name for name in FILES if name != "critic.onnx"]
    assert "critic.onnx" not in (directory / "CARD.md").read_text()
    assert not any(finding.bad for finding in verify(directory))
    with pytest.raises(ValueError, match="BC has no critics to choose of 4 candidates"):
        agent.export_onnx(tmp_path / "deploy", 4)
    with pytest.raises(ValueError, match="BC has no critics, and the guard is their disagreement"):
        agent.write_guard(toy_dataset(), tmp_path)


@pytest.mark.parametrize(("name", "samples"), [("TD3BC", 1), ("PARS", M)])
def test_golden_vectors_come_out_of_the_files_again(exported, name, samples):
    _, directory = exported(name, samples)
    golden = np.load(directory / "golden.npz", allow_pickle=False)
    assert same_actions(OnnxPolicy(directory).predict(golden["obs"], golden.get("noise")), golden["policy_actions"])
    assert same_actions(OnnxPolicy(directory / "actor.onnx").predict(golden["obs"]), golden["actor_actions"])
    q = run_critic(directory, golden["obs"], golden["actions"])
    np.testing.assert_allclose(q, golden["q"], rtol=1e-5, atol=1e-5)


def test_report_holds_measured_differences_below_the_tolerance(exported):
    _, directory = exported("PARS", M)
    report = json.loads((directory / "report.json").read_text())
    assert report["batches"] == [1, 7, 256]
    assert all(0.0 <= report[name]["largest_difference"] <= 1e-5 for name in ("actor", "critic", "policy"))
    assert 0 <= report["policy"]["flips"] <= report["policy"]["rows"] == 264 + 7  # the last 7 with other candidates


def test_metadata_says_whose_file_it_is(exported):
    _, directory = exported("PARS", M)
    values = metadata(directory / "policy.onnx")
    assert (values["graph"], values["inputs"], values["outputs"]) == ("policy", ["obs", "noise"], ["actions"])
    assert (values["observation_size"], values["action_size"], values["evaluation_samples"]) == (OBS, ACT, M)
    assert [(a["low"], a["high"]) for a in values["actions"]] == list(zip(LOW, HIGH, strict=True))
    assert (values["agent"], values["counters"]) == ("PARS", {"updates": 7, "env_steps": 3})
    assert values["dataset"] == {"name": "probe-v0", "env_id": None, "provenance": {"source": "recorded by hand"}}
    assert values["config"]["actor_hidden"] == [16]
    canonical = json.dumps(values["config"], sort_keys=True).encode()
    assert values["config_sha256"] == hashlib.sha256(canonical).hexdigest()
    assert values["versions"]["torch"] == torch.__version__


def test_files_are_opset_18_with_a_free_batch_and_named_tensors(exported):
    _, directory = exported("PARS", M)
    expected = {
        "actor": ({"obs": ["batch", OBS]}, {"actions": ["batch", ACT]}),
        "critic": ({"obs": ["batch", OBS], "actions": ["batch", ACT]}, {"q": ["batch"]}),
        "policy": ({"obs": ["batch", OBS], "noise": ["batch", "samples", ACT]}, {"actions": ["batch", ACT]}),
    }
    for name, (inputs, outputs) in expected.items():
        model = onnx.load(directory / f"{name}.onnx")
        assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (8, [("", 18)])
        for values, shapes in ((model.graph.input, inputs), (model.graph.output, outputs)):
            found = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
            assert found == shapes


def test_files_hold_each_weight_once_and_nothing_of_this_machine(exported):
    agent, directory = exported("PARS", M)
    actor, critic = (sum(p.numel() for p in m.parameters()) for m in (agent.policy.actor, agent.policy.critic))
    for name, weights in (("actor", actor), ("critic", critic), ("policy", actor + critic)):
        model = onnx.load(directory / f"{name}.onnx", load_external_data=False)
        floats = sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
        assert (
            weights <= floats <= weights + 50
        )  # the normaliser's and the box's buffers, and the layer norm's constants
        assert str(ROOT).encode() not in (directory / f"{name}.onnx").read_bytes()
    assert sorted(p.name for p in directory.iterdir()) == FILES


def test_exporting_prints_nothing_and_leaves_the_agent_alone(tmp_path, capfd):
    agent = make("TD3BC", dtype=torch.float64)
    agent.train()
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    directory = agent.export_onnx(tmp_path / "new" / "deploy")
    assert capfd.readouterr() == ("", "")
    assert agent.policy.training
    assert all(p.requires_grad for p in agent.policy.parameters())
    assert all(
        value.dtype == torch.float64 and value.equal(before[n]) for n, value in agent.policy.state_dict().items()
    )
    obs = observations(7)
    found = OnnxPolicy(directory).predict(obs)
    assert found.dtype == np.float32
    assert same_actions(found, agent.predict(obs)[0])


class Drifting(DeterministicActor):
    """Traced, it is another function than when it acts."""

    drift = 0.0

    def forward(self, observations):
        actions = super().forward(observations)
        return 0.5 * actions + self.drift if torch.compiler.is_exporting() else 0.5 * actions


def test_a_file_that_differs_from_the_agent_is_not_kept(tmp_path):
    agent = make("TD3BC")
    agent.policy.actor.__class__ = Drifting
    agent.policy.actor.drift = 1e-3
    with pytest.raises(ExportError, match=r"actor.onnx differs from the agent by up to 0.001 in actions.* 1 of 1 rows"):
        agent.export_onnx(tmp_path / "deploy")
    assert list(tmp_path.iterdir()) == []


def test_a_second_export_replaces_the_first_only_when_it_is_good(tmp_path):
    agent, obs = make("TD3BC"), observations(7)
    directory = agent.export_onnx(tmp_path / "deploy")
    first = {name: (directory / name).read_bytes() for name in FILES}
    good = agent.policy.actor.trunk.linears[-1].bias.detach().clone()

    agent.policy.actor.trunk.linears[-1].bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"not finite.*Training has diverged"):
        agent.export_onnx(directory)
    assert {p.name: p.read_bytes() for p in directory.iterdir()} == first

    agent.policy.actor.trunk.linears[-1].bias.data.copy_(good + 1.0)
    agent.export_onnx(directory)
    assert [p.name for p in tmp_path.iterdir()] == ["deploy"]
    assert same_actions(OnnxPolicy(directory).predict(obs), agent.predict(obs)[0])


@torch.no_grad()
def test_another_candidate_counts_as_a_flip_only_if_the_critics_rate_it_the_same():
    policy = make("TD3BC").policy
    batch = exporter.draw(policy, 4, M, torch.Generator().manual_seed(0))
    chosen = policy.search(batch["obs"], batch["noise"])
    policy.aggregate = lambda qs: -minimum(qs)
    another = policy.search(batch["obs"], batch["noise"])  # the worst of the candidates
    policy.aggregate = minimum
    assert (exporter.relative_actions(policy, chosen, another) > 1e-5).all()
    assert not exporter.tied(policy, batch, another, chosen).any()
    for parameter in policy.critic.parameters():
        parameter.zero_()  # to these all actions are worth the same
    assert exporter.tied(policy, batch, another, chosen).all()
    assert not exporter.tied(policy, batch, chosen + 1e-3, chosen).any()  # but this is no candidate


def test_a_population_is_told_to_export_a_member(tmp_path):
    agent = TD3BC(SPEC, population=2, actor_hidden=(4,), critic_hidden=(4,))
    with pytest.raises(ValueError, match=r"population of 2 .* agent.member\(i\)"):
        agent.export_onnx(tmp_path / "deploy")


def test_samples_below_one_and_a_file_as_directory_are_refused(tmp_path):
    with pytest.raises(ValueError, match="evaluation_samples must be at least 1, got 0"):
        make("TD3BC").export_onnx(tmp_path / "deploy", evaluation_samples=0)
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(NotADirectoryError, match="taken is a file"):
        make("TD3BC").export_onnx(tmp_path / "taken")

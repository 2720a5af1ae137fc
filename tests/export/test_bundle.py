"""A bundle: its contract, the card, and what the torch-free commands say of it, whole, damaged and changed."""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.data import toy_dataset
from tests.support.paths import ROOT
from zoo.agents import AGENTS, TD3BC, DataSpec
from zoo.agents.files import description
from zoo.cli.export import Export, export_report
from zoo.datasets.load import load_dataset
from zoo.evaluation.callbacks import Point, append_point
from zoo.evaluation.known import known_scores
from zoo.export import files
from zoo.export.bundle import extend, place
from zoo.export.contract import ContractError, whole_contract
from zoo.export.onnx import ACTOR, describe
from zoo.export.precision import write_variants
from zoo_robot import inspection
from zoo_robot.__main__ import main
from zoo_robot.disagreement import Disagreement
from zoo_robot.inspection import diff, info, verify
from zoo_robot.runtime import OnnxPolicy, PolicyFileError

FORMAT_1 = ROOT / "tests" / "vectors" / "bundle-format-1"  # a PARS with 8 candidates
OBS, ACT, M = 3, 2, 6
LOW, HIGH = (-2.0, 0.0), (1.0, 4.0)
MEAN, STD = (0.1, -30.0, 1.0), (0.3, 7.0, 1e-3)
SPEC = DataSpec("probe-v0", "Probe-v0", OBS, LOW, HIGH, 100, 0.0, 1.0, {"source": "by | hand", "share": float("inf")})
HASHED = ["actor.onnx", "critic.onnx", "golden.npz", "policy.onnx", "report.json"]
UNKNOWN = {"name": None, "unit": "unknown", "low": None, "high": None}
TOML = """
control_rate_hz = 62.5
observations = [
    {name = "angle of the knee", unit = "rad", low = -3.2, high = 3.2},
    {},
    {unit = "m/s"},
]
actions = [{name = "hip", unit = "N m", low = -2.0}, {name = "knee", unit = "N m", high = 4.0}]
"""
STATED = {
    "control_rate_hz": 62.5,
    "observations": [{"name": "angle of the knee", "unit": "rad", "low": -3.2, "high": 3.2}, {}, {"unit": "m/s"}],
    "actions": [{"name": "hip", "unit": "N m", "low": -2.0}, {"name": "knee", "unit": "N m", "high": 4.0}],
}
SCORE = {"environment": "Probe-v0", "timesteps": 7, "episodes": 10, "mean": 810.0, "interval": [719.52, 900.48]}


def whole_of(agent, samples, stated, scores):
    return whole_contract(agent.policy, description.describe(agent), samples, stated, scores)


def make(name: str = "TD3BC"):
    known = AGENTS[name].Config.names()
    small = {field: (8,) for field in ("actor_hidden", "critic_hidden") if field in known}
    agent = AGENTS[name](SPEC, seed=1, policy_kwargs=small)
    generator = torch.Generator().manual_seed(0)
    for parameter in agent.policy.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    if agent.config.normalize_observations:
        agent.policy.observation_mean.copy_(torch.tensor(MEAN))
        agent.policy.observation_std.copy_(torch.tensor(STD))
    return agent


@functools.cache
def exported(folder: Path) -> Path:
    """TD3BC with candidates, a contract from TOML and a score."""
    (folder / "robot.toml").write_text(TOML)
    return make().export_onnx(folder / "deploy", M, folder / "robot.toml", [SCORE])


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bundle")


@pytest.fixture
def whole(folder) -> Path:
    """The bundle, for tests that only read it."""
    return exported(folder)


@pytest.fixture
def bundle(folder, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(exported(folder), tmp_path / "copy"))


def contract_of(directory: Path) -> dict:
    return json.loads((directory / "contract.json").read_text())


def rewrite(directory: Path, **changes) -> None:
    """Another contract.json over the same files."""
    (directory / "contract.json").write_text(json.dumps(contract_of(directory) | changes))


def rehash(directory: Path, name: str) -> None:
    """The contract then takes the file as it is now."""
    files = contract_of(directory)["files"]
    files[name]["sha256"] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    rewrite(directory, files=files)


def bad(findings) -> list[str]:
    return [finding.text for finding in findings if finding.bad]


# The contract


def test_contract_has_the_hash_and_the_size_of_every_file(whole):
    files = contract_of(whole)["files"]
    assert sorted(files) == HASHED
    for name, entry in files.items():
        content = (whole / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert {path.name for path in whole.iterdir()} - set(files) == {"contract.json", "CARD.md"}


def test_contract_is_complete_where_the_user_stated_only_a_part(whole):
    contract = contract_of(whole)
    assert contract["control_rate_hz"] == 62.5
    assert contract["observations"] == [STATED["observations"][0], UNKNOWN, UNKNOWN | {"unit": "m/s"}]
    assert contract["actions"] == [
        {"name": "hip", "unit": "N m", "low": -2.0, "high": 1.0},  # the box fills in what was not stated
        {"name": "knee", "unit": "N m", "low": 0.0, "high": 4.0},
    ]
    assert contract["scores"] == [SCORE]
    assert (contract["evaluation_samples"], contract["search_noise"]) == (M, 0.2)


def test_a_mapping_says_the_same_as_a_file(whole):
    contract = whole_of(make(), M, STATED, [SCORE])
    assert contract == {key: contract_of(whole)[key] for key in contract}


def test_what_the_data_state_is_the_default_and_a_contract_wins():
    agent = AGENTS["TD3BC"](dataclasses.replace(SPEC, stated=STATED), policy_kwargs={"actor_hidden": (8,)})
    contract = whole_of(agent, 1, None, None)
    assert contract["control_rate_hz"] == 62.5
    assert contract["observations"][0] == STATED["observations"][0]
    assert contract["actions"][1] == {"name": "knee", "unit": "N m", "low": 0.0, "high": 4.0}
    contract = whole_of(agent, 1, {"control_rate_hz": 50.0, "observations": [{"unit": "deg"}, {}, {}]}, None)
    assert contract["control_rate_hz"] == 50.0
    assert contract["observations"][0] == STATED["observations"][0] | {"unit": "deg"}
    assert contract["observations"][2]["unit"] == "m/s"


def test_what_the_data_state_is_kept_in_the_checkpoint(tmp_path):
    agent = AGENTS["TD3BC"](dataclasses.replace(SPEC, stated=STATED), policy_kwargs={"actor_hidden": (8,)})
    assert AGENTS["TD3BC"].load(agent.save(tmp_path / "agent.zip")).spec.stated == STATED


def test_statistics_are_those_of_the_network_to_the_last_bit(whole):
    normalizer = contract_of(whole)["normalizer"]
    assert np.array(normalizer["mean"], np.float32).tolist() == np.array(MEAN, np.float32).tolist()
    assert np.array(normalizer["std"], np.float32).tolist() == np.array(STD, np.float32).tolist()


def test_the_files_themselves_carry_the_contract(whole):
    contract = contract_of(whole)
    for name in ("actor.onnx", "policy.onnx"):
        own = OnnxPolicy(whole / name).metadata
        assert {"observations", "actions", "normalizer", "control_rate_hz", "scores", "paper"} <= own.keys()
        differing = {key for key in contract if own.get(key) != contract[key]}
        assert differing <= {"files", "evaluation_samples"}


def test_what_one_file_adds_to_its_description_stays_out_of_the_next():
    agent = make()
    arguments = (agent.policy, description.describe(agent), "actor", ACTOR, 1)
    before = json.dumps(describe(*arguments))
    describe(*arguments)["check"]["largest_difference"] = 0.5  # as the guard's file does
    assert json.dumps(describe(*arguments)) == before


def test_contract_fits_its_schema(whole):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs" / "contract.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    contract = contract_of(whole)
    assert list(validator.iter_errors(contract)) == []
    assert set(schema["properties"]) - set(contract) == {"delay", "history"}  # of policies that carry them
    assert set(contract) <= set(schema["properties"])
    for key in contract:
        assert not validator.is_valid({k: v for k, v in contract.items() if k != key})
    assert not validator.is_valid(contract | {"control_rate_hz": 0})
    assert not validator.is_valid(contract | {"actions": contract["observations"]})  # a box without an edge


def test_infinite_settings_are_text_because_json_has_no_word_for_them(whole):
    def refuse(name: str):
        raise AssertionError(f"{name} is not JSON")

    contract = json.loads((whole / "contract.json").read_text(), parse_constant=refuse)
    assert contract["dataset"]["provenance"]["share"] == "inf"


def test_every_agent_names_the_paper_that_the_readme_links():
    rows = re.findall(
        r"^\| `(\w+)` \| \[agents/.*?(?:abs/|forum\?id=)(\w+(?:\.\w+)?)\)", (ROOT / "README.md").read_text(), re.M
    )
    assert {name for name, _ in rows} >= set(AGENTS)
    for name, paper in rows:
        contract = whole_of(make(name), 1, None, None)
        assert contract["paper"].split() == [("arXiv" if "." in paper else "OpenReview"), paper]
        assert contract["summary"]


def test_card_says_what_a_person_asks(whole):
    card = (whole / "CARD.md").read_text()
    assert "# TD3BC for Probe-v0" in card
    assert "Control rate: 62.5 Hz." in card
    assert "| 0 | angle of the knee | rad | -3.2 | 3.2 |" in card
    assert "| 1 | knee | N m | 0 | 4 |" in card
    assert "best of 6 candidates, the actor's action and noise of 0.2 half boxes" in card
    assert "Return 810.0 in Probe-v0, 95 % interval of the mean over 10 episodes 719.5 to 900.5" in card
    assert "arXiv 2106.06860" in card


def test_nothing_stated_is_said_to_be_unknown():
    contract = whole_of(make("IQL"), 1, None, None)
    assert (contract["control_rate_hz"], contract["scores"]) == (None, None)
    assert contract["observations"] == [UNKNOWN] * OBS
    assert contract["actions"][1] == UNKNOWN | {"low": 0.0, "high": 4.0}


# What cannot be so


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"rate": 5}, "contract: unknown rate; it may state control_rate_hz, observations, actions"),
        ({"control_rate_hz": 0}, "control_rate_hz must be a positive number of Hz, got 0"),
        ({"control_rate_hz": True}, "control_rate_hz must be a positive number of Hz, got True"),
        ({"control_rate_hz": "fast"}, "must be a positive number of Hz, got 'fast'"),
        ({"observations": [{}]}, r"observations has 1 entries for the agent's 3 dimensions; \{\} is an unknown one"),
        ({"observations": {"name": "x"}}, "observations must be a list of tables, one for each dimension"),
        ({"actions": ["hip", "knee"]}, "actions must be a list of tables"),
        ({"actions": [{"units": "m"}, {}]}, r"actions\[0\] has unknown units; it may have name, unit, low, high"),
        ({"actions": [{}, {"name": " "}]}, r"actions\[1\]: name must be a text, got ' '; leave it out where unknown"),
        ({"actions": [{}, {"unit": 3}]}, r"actions\[1\]: unit must be a text, got 3"),
        ({"observations": [{"high": np.inf}, {}, {}]}, r"observations\[0\]: high must be a finite number, got inf"),
        ({"observations": [{}, {}, {"low": 2, "high": 2}]}, r"observations\[2\]: low must be below high, got low=2"),
        ({"observations": [{"name": "x"}, {}, {"name": "x"}]}, "two dimensions of the name 'x'; give each its own"),
        (
            {"actions": [{"low": -114.6}, {}]},
            r"actions\[0\] \(no name\) has low=-114.6, the agent was trained with -2: check the unit and the order",
        ),
        (
            {"observations": [{}, {"name": "knee", "low": -3.2, "high": 3.2}, {}]},
            r"observations\[1\] \(knee\) lies in \[-3.2, 3.2\], but its mean in the training data is -30: check",
        ),
    ],
)
def test_what_does_not_fit_the_agent_is_refused(stated, message):
    with pytest.raises(ContractError, match=message):
        whole_of(make(), 1, stated, None)


def test_errors_of_a_file_name_it(tmp_path):
    file = tmp_path / "robot.toml"
    with pytest.raises(FileNotFoundError, match=r"no contract at .*robot\.toml; give a TOML file with control_rate_hz"):
        make().export_onnx(tmp_path / "deploy", contract=file)
    for text, message in (("rate = ", r"robot\.toml is not a TOML file"), ("rate = 5", r"robot\.toml: unknown rate")):
        file.write_text(text)
        with pytest.raises(ContractError, match=message):
            make().export_onnx(tmp_path / "deploy", contract=file)
    assert not (tmp_path / "deploy").exists()


def test_a_score_without_its_interval_is_refused():
    with pytest.raises(ContractError, match="a score needs environment, episodes, interval, mean"):
        whole_of(make(), 1, None, [{"mean": 3.0}])


# Verify


BLOCKED = """
import runpy, sys
for name in ("torch", "gymnasium", "onnx", "zoo"):
    sys.modules[name] = None                       # an import of it fails from here on
runpy.run_module("zoo_robot", run_name="__main__", alter_sys=True)
"""


def command(*arguments: object) -> subprocess.CompletedProcess:
    """python -m zoo_robot, where there is no torch."""
    line = [sys.executable, "-c", BLOCKED, *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_verify_runs_without_torch_and_its_status_tells(bundle):
    done = command("verify", bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "verified"
    for name in ("actor", "critic", "policy"):
        found = re.search(
            rf"{name}\.onnx: largest difference (\S+) in 7 golden rows on cpu; 1e-05 is allowed", done.stdout
        )
        assert 0.0 <= float(found.group(1)) <= 1e-5
    (bundle / "critic.onnx").unlink()
    done = command("verify", bundle)
    assert (done.returncode, done.stderr) == (1, "")
    assert "! critic.onnx: missing; copy the whole bundle again" in done.stdout
    done = command("verify", bundle / "elsewhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no directory" in done.stderr
    assert "Traceback" not in done.stderr


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_of_any_file_is_found(bundle, data):
    name = data.draw(st.sampled_from(HASHED))
    original = (bundle / name).read_bytes()
    content = bytearray(original)
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (bundle / name).write_bytes(content)
    try:
        assert bad(verify(bundle)) == [f"{name}: its SHA-256 is not the contract's; damaged or of another export"]
    finally:
        (bundle / name).write_bytes(original)


def test_actions_that_differ_from_the_golden_ones_are_measured_in_half_boxes(bundle):
    golden = dict(np.load(bundle / "golden.npz"))
    golden["actor_actions"] = golden["actor_actions"] + np.float32([0.0, 0.03])  # the second half box is 2
    np.savez(bundle / "golden.npz", **golden)
    rehash(bundle, "golden.npz")
    (found,) = bad(verify(bundle))
    assert found == "actor.onnx: largest difference 0.015 in 7 golden rows on cpu; 1e-05 is allowed"


def test_values_that_differ_from_the_golden_ones_are_relative_to_the_largest(bundle):
    golden = dict(np.load(bundle / "golden.npz"))
    golden["q"][0] += 0.5 * (1.0 + 1e-3)
    expected = 0.5 / (1.0 + np.abs(golden["q"]).max())
    np.savez(bundle / "golden.npz", **golden)
    rehash(bundle, "golden.npz")
    found = next(text for text in bad(verify(bundle)) if text.startswith("critic"))
    assert float(re.search(r"difference (\S+) in", found).group(1)) == pytest.approx(expected, rel=0.05)


def test_another_candidate_is_accepted_only_where_the_critics_do_not_care(bundle):
    golden = dict(np.load(bundle / "golden.npz"))
    golden["policy_actions"][3] = golden["actor_actions"][3]  # a candidate's neighbour, of another value
    np.savez(bundle / "golden.npz", **golden)
    rehash(bundle, "golden.npz")
    (found,) = bad(verify(bundle))
    assert found.startswith("policy.onnx: largest difference")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_other_contract_is_found_or_refused_with_a_reason(bundle, whole, data):
    key = data.draw(st.sampled_from(sorted(contract_of(whole))))
    value = data.draw(st.none() | st.integers(2, 9) | st.text(max_size=3) | st.just([]) | st.just({}))
    if contract_of(whole)[key] == value:
        return
    rewrite(bundle, **(contract_of(whole) | {key: value}))
    try:
        assert bad(verify(bundle))
    except PolicyFileError as error:
        assert "contract.json is not a contract" in str(error)  # noqa: PT017


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"files": {"actor.onnx": 3}}', "\0\1\2"])
@pytest.mark.parametrize("name", ["verify", "info", "diff"])
def test_a_contract_of_another_kind_ends_in_a_message(bundle, whole, text, name, capsys):
    (bundle / "contract.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main([name, str(bundle), *([str(whole)] if name == "diff" else [])])
    assert stop.value.code == 2
    assert f"{name}: {bundle / 'contract.json'} is not a contract" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["dataset", "observations", "actions", "seed"])
def test_info_and_diff_of_half_a_contract_point_to_verify(bundle, missing, capsys):
    contract = contract_of(bundle)
    del contract[missing]
    (bundle / "contract.json").write_text(json.dumps(contract))
    with pytest.raises(SystemExit) as stop:
        main(["info", str(bundle)])
    assert stop.value.code == 2
    assert (
        f"info: a contract is not as export_onnx wrote it (KeyError('{missing}')); run verify"
        in capsys.readouterr().err
    )


def test_a_bundle_of_format_1_is_read_and_its_lack_of_hashes_is_said():
    findings = verify(FORMAT_1)
    assert bad(findings) == []
    assert any("no hash was checked" in finding.text for finding in findings)
    policy, golden = OnnxPolicy(FORMAT_1), np.load(FORMAT_1 / "golden.npz")
    assert policy.evaluation_samples == 8
    np.testing.assert_allclose(policy.predict(golden["obs"], golden["noise"]), golden["policy_actions"], atol=1e-5)
    assert "PARS" in info(FORMAT_1)


def test_a_bundle_of_format_2_without_its_contract_is_not_verified(bundle):
    (bundle / "contract.json").unlink()
    assert bad(verify(bundle)) == ["contract.json: none, so no hash was checked; exports of format 1 have none"]


# Info, bench


def test_info_shows_the_dimensions_with_their_units(whole):
    text = info(whole)
    assert re.search(r"0  angle of the knee +rad +-3\.2 +3\.2\n +1  - +unknown +- +-\n +2  - +m/s +- +-", text)
    assert "control rate  62.5 Hz" in text
    assert "the critics' best of 6 candidates" in text


def test_bench_sets_the_runtime_beside_the_bare_session(whole, monkeypatch):
    def pretended(functions, calls):
        for function in functions:
            function()
        return np.stack([np.full(calls, 0.02), np.full(calls, 0.025)])  # 25 % more

    monkeypatch.setattr(inspection, "measure", pretended)
    lines = inspection.bench(whole, "cpu", threads=1, calls=100).splitlines()
    assert lines[0].split() == ["milliseconds", "of", "one", "decision", "p50", "p99", "p99.9"]
    assert [line.split() for line in lines if "ratio" in line] == [["ratio", "1.25", "1.25", "1.25"]] * 2
    assert any("policy.onnx, 6 candidates: OnnxPolicy" in line and line.endswith("0.0250") for line in lines)
    assert sum("100 calls, provider cpu, 1 thread(s)" in line for line in lines) == 2


# Diff


def test_equal_bundles_have_no_difference_but_that_of_zero(whole):
    (only,) = diff(whole, whole)
    assert (only.bad, only.text) == (False, "the actor's actions: 0 half boxes apart in the median, 0 at most")


def dimension(contract: dict, index: int, **changes) -> dict:
    entries = [dict(entry) for entry in contract["observations"]]
    entries[index] |= changes
    return {"observations": entries}


@pytest.mark.parametrize(
    ("change", "is_bad", "text"),
    [
        (lambda c: dimension(c, 0, unit="deg"), True, "observations[0] unit: rad -> deg"),
        (lambda c: dimension(c, 0, name="hip"), True, "observations[0] name: angle of the knee -> hip"),
        (lambda c: dimension(c, 0, high=6.4), True, "observations[0] high: 3.2 -> 6.4"),
        (lambda c: dimension(c, 1, unit="m"), False, "observations[1] unit: unknown -> m"),
        (lambda c: {"control_rate_hz": 125.0}, True, "control_rate_hz: 62.5 -> 125.0"),
        (lambda c: {"evaluation_samples": 50}, True, "evaluation_samples: 6 -> 50"),
        (lambda c: {"noise_size": 10}, True, "noise_size: 2 -> 10"),
        (lambda c: {"seed": 2}, False, "seed: 1 -> 2"),
        (lambda c: {"config": c["config"] | {"gamma": 0.9}}, False, "config: gamma 0.99 -> 0.9"),
        (
            lambda c: {"normalizer": {"mean": [0.1, -20.0, 1.0], "std": list(STD)}},  # by 10, with a deviation of 7
            True,
            "normalizer: a mean moved by 1.43 deviations (observations[1]), a deviation by a factor of 1",
        ),
        (
            lambda c: {"normalizer": c["normalizer"] | {"std": [0.3, 7.0, 1.2e-3]}},
            False,
            "normalizer: a mean moved by 0 deviations (observations[0]), a deviation by a factor of 1.2 (obs",
        ),
    ],
)
def test_diff_tells_what_could_hurt_a_robot_from_what_could_not(bundle, whole, change, is_bad, text):
    rewrite(bundle, **change(contract_of(bundle)))
    finding, _ = diff(whole, bundle)
    assert finding.bad == is_bad
    assert finding.text.startswith(text)


def test_diff_of_two_robots_names_the_sizes_and_its_status_is_one(whole, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["diff", str(whole), str(FORMAT_1)])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "! observation_size: 3 -> 5" in out
    assert "  agent: TD3BC -> PARS" in out


# From a run's folder


def test_known_scores_are_those_of_the_same_step_with_students_interval(tmp_path):
    agent, file = make(), tmp_path / "evaluations.csv"
    agent.num_timesteps = 5000
    assert known_scores(agent, file) is None
    file.write_text("timesteps,online,return_mean,return_std\n4000,False,1.0,1.0\n5000,True,2.0,2.0\n")
    assert known_scores(agent, file) is None  # of another step, or of the same number of steps online
    with file.open("a") as rows:
        rows.write("5000,False,810.0,120.0\n")
    (score,) = known_scores(agent, file)
    # 10 episodes: standard error 120 / sqrt(9) = 40; the table's t for 9 degrees of freedom is 2.262.
    assert score["interval"] == pytest.approx([810 - 90.48, 810 + 90.48], abs=0.02)
    assert (score["mean"], score["episodes"], score["environment"]) == (810.0, 10, "Probe-v0")
    assert "normalized" not in score
    assert known_scores(agent, file, evaluation_samples=1) == [score]
    assert known_scores(agent, file, evaluation_samples=M) is None  # that policy was not evaluated


def test_known_scores_count_the_episodes_that_there_were(tmp_path):
    agent, file = make(), tmp_path / "evaluations.csv"
    for episodes, timesteps in ((5, 5000), (17, 6000), (4, 7000)):
        append_point(file, Point(timesteps, False, 810.0, 120.0, episodes))
    halves = []
    for agent.num_timesteps in (5000, 6000):
        (score,) = known_scores(agent, file)
        halves.append((score["episodes"], score["interval"][1] - 810.0))
    # The table's t: 2.776 for 4 degrees of freedom, 2.120 for 16.
    assert halves == [(5, pytest.approx(60 * 2.776, rel=3e-3)), (17, pytest.approx(30 * 2.120, rel=3e-4))]
    agent.num_timesteps = 7000
    assert known_scores(agent, file) is None  # four episodes make no interval


def test_zoo_export_writes_the_contract_and_prints_its_hash(tmp_path):
    agent = make()
    agent.num_timesteps = 5000
    checkpoint = agent.save(tmp_path / "final.zip")
    (tmp_path / "evaluations.csv").write_text("timesteps,online,return_mean,return_std\n5000,False,810.0,120.0\n")
    (tmp_path / "robot.toml").write_text(TOML)
    text = export_report(Export(checkpoint, tmp_path / "deploy", contract=tmp_path / "robot.toml"))
    contract = contract_of(tmp_path / "deploy")
    assert (contract["control_rate_hz"], contract["scores"][0]["mean"]) == (62.5, 810.0)
    assert hashlib.sha256((tmp_path / "deploy" / "contract.json").read_bytes()).hexdigest() in text
    with pytest.raises(FileExistsError, match="deploy holds a bundle already; --overwrite replaces it"):
        export_report(Export(checkpoint, tmp_path / "deploy"))
    export_report(Export(checkpoint, tmp_path / "deploy", overwrite=True))
    assert contract_of(tmp_path / "deploy")["control_rate_hz"] is None


def test_zoo_export_writes_a_guard_for_the_policy_beside_it(tmp_path):
    data = load_dataset("hopper-medium-replay")
    checkpoint = TD3BC(data, actor_hidden=(8,), critic_hidden=(8,), device="cpu").save(tmp_path / "final.zip")
    text = export_report(Export(checkpoint, tmp_path / "deploy", guard=0.9))
    policy = OnnxPolicy(tmp_path / "deploy")
    guard = Disagreement(tmp_path / "deploy", policy=policy.metadata)
    assert f"threshold {guard.threshold:.4g}" in text
    sample = slice(None, None, 100)
    doubts = [guard(*row) for row in zip(data.observations[sample], data.actions[sample], strict=True)]
    assert np.mean(np.array(doubts) > guard.threshold) == pytest.approx(0.1, abs=0.03)


def test_the_folder_works_copied_under_any_name(bundle, tmp_path):
    shutil.copytree(ROOT / "export" / "robot", tmp_path / "on_the_robot")
    code = BLOCKED.replace('"zoo")', '"zoo", "zoo_robot")').replace(
        'run_module("zoo_robot"', 'run_module("on_the_robot"'
    )
    line = [sys.executable, "-c", code, "verify", str(bundle)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "verified"


def test_their_syntax_is_that_of_python_3_9():
    ast.parse(Path(inspection.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))


# What is added later, and what does not belong there


@functools.cache
def with_guard(directory: Path, seed: int = 1) -> Path:
    """A bundle with a guard and the smaller precisions, of an agent of its own data."""
    data = toy_dataset(seed=seed)
    agent = TD3BC(data, seed=1, actor_hidden=(64, 64), critic_hidden=(16, 16), batch_size=16).learn_offline(data, 3)
    agent.export_onnx(directory)
    agent.write_guard(data, directory, quantile=0.9)
    write_variants(directory, data.observations)
    return directory


@pytest.fixture
def guarded(folder, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(with_guard(folder / "guarded"), tmp_path / "deploy"))


ADDED_FILES = ["disagreement.onnx", "fp16/policy.onnx", "int8/policy.onnx"]


def test_files_that_are_added_are_in_the_contract(guarded):
    assert sorted(contract_of(guarded)["files"]) == sorted([*HASHED, *ADDED_FILES])
    assert bad(verify(guarded)) == []


@pytest.mark.parametrize("name", ADDED_FILES)
def test_a_damaged_file_that_was_added_is_found_by_verify_and_by_who_opens_it(guarded, name):
    content = bytearray((guarded / name).read_bytes())
    content[len(content) // 2] ^= 1
    (guarded / name).write_bytes(content)
    assert bad(verify(guarded)) == [f"{name}: its SHA-256 is not the contract's; damaged or of another export"]
    with pytest.raises(ValueError, match="its SHA-256 differs"):
        Disagreement(guarded) if name == "disagreement.onnx" else OnnxPolicy(guarded / name)


def test_an_export_leaves_no_file_of_an_earlier_one(guarded):
    make().export_onnx(guarded)
    assert sorted(path.name for path in guarded.rglob("*")) == sorted([*HASHED, "CARD.md", "contract.json"])
    assert sorted(contract_of(guarded)["files"]) == HASHED


def test_a_guard_of_other_data_is_refused_though_all_settings_are_the_same(folder, guarded):
    other = with_guard(folder / "other", seed=2)
    policy = OnnxPolicy(guarded).metadata
    with pytest.raises(ValueError, match="guards another agent: its weights_sha256"):
        Disagreement(other, policy=policy)
    shutil.copy(other / "disagreement.onnx", guarded)
    with pytest.raises(ValueError, match=r"not the guard that contract\.json was written for: its SHA-256 differs"):
        Disagreement(guarded, policy=policy)


def test_a_guard_is_not_written_into_the_bundle_of_another_policy(bundle):
    data = toy_dataset()
    with pytest.raises(ValueError, match=r"is the bundle of another policy: .*weights_sha256 differ"):
        TD3BC(data, actor_hidden=(8,), critic_hidden=(8,)).write_guard(data, bundle)


def test_a_foreign_policy_beside_the_files_fails_verify_and_a_note_does_not(bundle):
    (bundle / "notes.txt").write_text("left knee replaced")
    assert bad(verify(bundle)) == []
    (bundle / "fp16").mkdir()
    shutil.copy(bundle / "policy.onnx", bundle / "fp16")
    assert bad(verify(bundle)) == ["fp16/policy.onnx: not of this export; remove it, or write it again"]


def test_a_folder_with_other_files_is_not_replaced(bundle):
    (bundle / "notes.txt").write_text("left knee replaced")
    before = contract_of(bundle)
    with pytest.raises(FileExistsError, match=r"has files that no export wrote \(notes.txt\)"):
        make().export_onnx(bundle)
    assert contract_of(bundle) == before


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("change", [place, extend])
def test_a_bundle_is_never_a_mixture(bundle, folder, monkeypatch, exchange, change):
    """An error at any call that renames or syncs leaves the old bundle, or the new one."""
    if not exchange:
        monkeypatch.setattr(files, "exchanged", lambda one, other: False)
    old = contract_of(bundle)
    new = {path.name: path.read_bytes() for path in with_guard(folder / "guarded").iterdir() if path.is_file()}
    added = new if change is place else {"disagreement.onnx": new["disagreement.onnx"]}
    for stop in range(60):
        with monkeypatch.context() as patch:
            fail_at(patch, stop)
            with contextlib.suppress(KilledError):
                change(bundle, added)
        found = contract_of(bundle)
        assert [text for text in bad(verify(bundle)) if "fp16" not in text and "int8" not in text] == []
        if found != old:
            break
        assert not (bundle / "disagreement.onnx").exists()
    assert stop > 5
    assert "disagreement.onnx" in found["files"]
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


class KilledError(Exception):
    pass


def fail_at(patch: pytest.MonkeyPatch, stop: int) -> None:
    """The call number `stop` of os.fsync, os.rename and os.replace raises."""
    count = itertools.count()

    def failing(call):
        def wrapped(*arguments):
            if next(count) == stop:
                raise KilledError
            return call(*arguments)

        return wrapped

    for name in ("fsync", "rename", "replace"):
        patch.setattr(os, name, failing(getattr(os, name)))

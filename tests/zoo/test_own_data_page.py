"""docs/own-data.md: its commands run as they are printed, with fewer steps, on the log that they make."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from tests.support.paths import ROOT

pytest.importorskip("pyarrow")
PAGE = ROOT / "docs" / "own-data.md"
ARM = ROOT / "examples" / "arm"
SHORT = {"20000": "20", "40": "2"}  # steps, episodes


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder in which every command of the page was run, and what each printed."""
    folder = tmp_path_factory.mktemp("arm")
    shutil.copytree(ARM, folder / "examples" / "arm")
    printed = {}
    for words in commands():
        if words[:2] == ["pip", "install"]:
            continue
        asked = [SHORT.get(word, word) for word in words]
        program = {"python": [sys.executable], "zoo": [sys.executable, "-m", "zoo"]}[asked[0]]
        done = subprocess.run([*program, *asked[1:]], cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode in ((0, 2) if words[:3] == ["zoo", "data", "check"] else (0,)), done.stdout + done.stderr
        printed[" ".join(words[:3])] = done.stdout
    return folder, printed


def test_the_log_is_what_the_page_says(run):
    folder, _ = run
    rows = np.genfromtxt(folder / "arm.csv", delimiter=",", names=True)
    last = np.append(np.diff(rows["episode"]) == 1, True)
    assert len(np.unique(rows["episode"])) == 40
    assert [int(rows[flag].sum()) for flag in ("success", "failed", "timeout")] == [17, 8, 15]
    assert [int(rows[flag][last].sum()) for flag in ("success", "failed", "timeout")] == [17, 8, 15]
    assert (rows["reward"][rows["success"] == 1] == 9.95).all()
    assert len(set(rows["payload"])) == 1


def test_the_import_keeps_every_success_and_failure(run):
    folder, printed = run
    assert "3,402 transitions in 40 episodes; 25 end in a termination, 15 are cut" in printed["zoo data import"]
    assert "3,402 transitions in 40 episodes; 25 end in a termination, 15 are cut" in PAGE.read_text()
    from zoo import load_dataset

    rewards = load_dataset(folder / "arm.hdf5").rewards
    assert [int((rewards == np.float32(value)).sum()) for value in (9.95, -5.05)] == [17, 8]


def test_the_first_map_has_what_the_page_shows(run):
    folder, _ = run
    first = (folder / "map.toml").read_text()
    shown = re.search(r"```toml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert shown is not None
    for line in shown.group(1).splitlines():
        assert line in first or line in ("observations = [", "actions = ["), line
    assert len(tomllib.loads(first)["observations"]) == 23


def test_the_contract_has_what_the_map_states(run):
    folder, printed = run
    contract = json.loads((folder / "deploy" / "contract.json").read_text())
    stated = tomllib.loads((ARM / "map.toml").read_text())
    assert contract["control_rate_hz"] == 20.0
    assert contract["observations"] == stated["observations"]
    assert [entry["name"] for entry in contract["actions"]] == [entry["name"] for entry in stated["actions"]]
    assert "tau2" in (folder / "deploy" / "CARD.md").read_text()
    assert "2 episodes:" in printed["python examples/arm/truth.py deploy"]
    assert "payload" in printed["zoo data info"]


def test_the_map_states_the_limits_of_the_simulator(monkeypatch):
    monkeypatch.syspath_prepend(str(ARM))
    import arm

    stated = tomllib.loads((ARM / "map.toml").read_text())
    for kind, entries in (("observations", arm.OBSERVATIONS), ("actions", arm.ACTIONS)):
        ours = [(entry["name"], entry["unit"], entry["low"], entry["high"]) for entry in stated[kind]]
        assert ours == [(name, unit, pytest.approx(low), pytest.approx(high)) for name, unit, low, high in entries]


def test_the_simulator_is_a_gymnasium_environment(monkeypatch):
    monkeypatch.syspath_prepend(str(ARM))
    import arm
    from gymnasium.utils.env_checker import check_env

    check_env(arm.ReachingArm(), skip_render_check=True)
    assert arm.tool_of(np.zeros(7)) == pytest.approx([0.0, 0.0, arm.LINKS.sum()])  # stretched, straight up
    q = np.array([0.0, np.pi / 2, 0, 0, 0, 0, 0])  # the second joint lays the rest of the arm along x
    assert arm.tool_of(q) == pytest.approx([arm.LINKS[1:].sum(), 0.0, arm.LINKS[0]])

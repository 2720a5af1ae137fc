"""What is installed: zoo and zoo_robot, whatever a user's folder holds; and the robot's side as a wheel of its own."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.imports import FILES
from tests.support.paths import ROOT, VECTORS

BUNDLE = VECTORS / "bundle-format-2"
BUILT_FROM = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "zoo", "agents", "policies", "export")


def run(*command: object, cwd: Path, timeout: int = 300) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(folder: Path) -> Path:
    """A fresh virtual environment; returns its Python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Python of a fresh environment with our wheel. The packages that it needs are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "tree").mkdir()
    for name in BUILT_FROM:  # a copy: pip builds inside the tree, and tests run side by side
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "tree" / name)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, folder / "tree", cwd=folder)
    python = environment(folder / "venv")
    (wheel,) = folder.glob("*.whl")
    run(python, "-m", "pip", "install", "--no-deps", wheel, cwd=folder)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    assert {path.name for path in site.iterdir()} >= {"zoo", "zoo_robot"}
    assert not {"agents", "policies", "export", "tests"} & {path.name for path in site.iterdir()}
    (site / "theirs.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_a_users_own_agents_policies_and_export_are_not_in_the_way(installed, tmp_path):
    for name in ("agents", "policies"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "export.py").write_text("MINE = True\n")
    (tmp_path / "mine.py").write_text(
        "import agents, policies, export\n"
        "from zoo import TD3BC, load_dataset\n"
        "from zoo_robot import OnnxPolicy\n"
        "data = load_dataset('hopper-medium-replay')\n"
        "agent = TD3BC(data, actor_hidden=(8,), critic_hidden=(8,)).learn_offline(data, 2)\n"
        "action = OnnxPolicy(agent.export_onnx('deploy')).predict(data.observations[0])\n"
        "print(agents.MINE, policies.MINE, export.MINE, TD3BC.__module__, action.shape)\n"
    )
    printed = run(installed, "mine.py", cwd=tmp_path).splitlines()[-1]
    assert printed == "True True True zoo.agents.td3bc (3,)"
    assert "usage: zoo" in run(installed.parent / "zoo", "--help", cwd=tmp_path)


def test_the_wheel_holds_every_module(installed, tmp_path):
    listed = ", ".join(FILES)
    code = f"import importlib.util as u; print([n for n in '{listed}'.split(', ') if u.find_spec(n) is None])"
    assert run(installed, "-c", code, cwd=tmp_path).strip() == "[]"


def test_the_robots_wheel_runs_where_there_is_no_torch(tmp_path):
    python = environment(tmp_path / "venv")
    shutil.copytree(ROOT / "export" / "robot", tmp_path / "robot")
    run(python, "-m", "pip", "install", "-c", ROOT / "constraints.txt", tmp_path / "robot", cwd=tmp_path)
    missing = "import importlib.util as u; print([n for n in ('torch', 'gymnasium', 'zoo') if u.find_spec(n)])"
    assert run(python, "-c", missing, cwd=tmp_path).strip() == "[]"
    code = (
        "import sys, numpy as np\n"
        "from zoo_robot import ControlLoop, Limits, OnnxPolicy\n"
        "policy = OnnxPolicy(sys.argv[1])\n"
        "print(policy.predict(np.zeros(policy.observation_size, np.float32)).shape)"
    )
    assert run(python, "-c", code, BUNDLE, cwd=tmp_path).strip() == "(2,)"
    assert run(tmp_path / "venv" / "bin" / "zoo-robot", "verify", BUNDLE, cwd=tmp_path).splitlines()[-1] == "verified"


def test_both_wheels_are_of_one_version():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    robot = tomllib.loads((ROOT / "export" / "robot" / "pyproject.toml").read_text())["project"]
    editor = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]["extraPaths"]
    version = setup["metadata"]["version"]
    assert robot["version"] == version
    assert [
        path for path in editor if f"offline_agent_zoo-{version}-" in path
    ] == editor  # the tree of a strict install


@pytest.mark.slow
def test_the_api_is_typed_for_a_user_who_is_strict(installed, tmp_path):
    (tmp_path / "mine.py").write_text((ROOT / "tests" / "support" / "strict_user.py").read_text())
    command = (sys.executable, "-m", "mypy", "--strict", "--python-executable", installed, "mine.py")
    assert "Success: no issues found in 1 source file" in run(*command, cwd=tmp_path, timeout=600)

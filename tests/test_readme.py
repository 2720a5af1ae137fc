"""The README's quickstart runs as it is printed, with fewer steps."""

import re

import numpy as np
import pytest

from tests.support.paths import ROOT

README = ROOT / "README.md"
PAGES = [
    README,
    *(page for folder in ("docs", "benchmarks", "examples") for page in README.parent.glob(f"{folder}/**/*.md")),
]


def test_quickstart_runs_and_ends_with_an_action(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2  # on the workstation, then on the robot
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        short, counts = re.subn(r"total_timesteps=[\d_]+", "total_timesteps=2", block)
        exec(compile(short, str(README), "exec"), names)
        assert counts == (2 if block is blocks[0] else 0)
    assert names["action"].shape == (3,)
    assert np.abs(names["action"]).max() <= 1.0
    assert (tmp_path / "hopper.zip").exists()


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(README.parent)) for page in PAGES])
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert links or page.parent != README.parent
    for link in links:
        assert (page.parent / link).exists(), link

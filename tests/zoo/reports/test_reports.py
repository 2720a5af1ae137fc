"""Pages about trainings and studies: whole, self-contained, and legible where a browser shows them."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from zoo.agents import TD3BC
from zoo.cli.report import Report, report
from zoo.cli.train import Train, train
from zoo.datasets.load import load_dataset
from zoo.evaluation.callbacks import Point, append_point
from zoo.reports.page import Page
from zoo.studies.folders import Status, prepare, write_plan, write_status

HOPPER = "hopper-medium-replay"
SETTINGS = ("actor_hidden=(8,)", "critic_hidden=(8,)", "batch_size=8")
STUDY = f"""
name = "two"
steps = 3
seeds = [0, 1]
[datasets]
hopper-medium-v2 = "{HOPPER}"
[[agents]]
agent = "TD3BC"
[[agents]]
agent = "TD3BC"
label = "BC <b>"
settings = {{ alpha = 0.0 }}
"""


class Checker(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br", "path", "use", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data):
        self.text += data


def read(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', text)
    assert outside == []  # nothing is fetched
    return checker.text


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(Train("TD3BC", HOPPER, out, steps=4, settings=SETTINGS, eval_every=2, workers=1))
    return out


def test_the_page_of_a_run_says_how_it_did_and_what_to_be_careful_about(run, tmp_path):
    path = report(Report(str(run), tmp_path / "report.html"))
    text = read(path)
    for words in ("TD3BC on hopper-medium-replay", "4 gradient steps, seed 0", "Signs of trouble", "promised value"):
        assert words in text
    assert "last evaluation, at step 4" in text
    assert "best, at step" in text
    assert "522.6" in text  # the data's mean return
    assert "policy.onnx" in text
    assert "actor_hidden" in text
    assert path.read_text().count("<svg") >= 3
    assert ("No video" in text) != ("data:image/webp" in path.read_text())


def test_texts_are_escaped(tmp_path):
    page = Page("<script>alert(1)</script>")
    page.text("a < b & c")
    page.table(("<i>",), [("<u>",)])
    assert "<script>" not in str(page)
    assert "a &lt; b &amp; c" in str(page)
    assert "&lt;u&gt;" in str(page)


def test_the_page_of_a_study_has_its_tables_and_bands(tmp_path):
    from zoo.studies.study import Study

    (tmp_path / "s.toml").write_text(STUDY)
    study = Study.read(tmp_path / "s.toml")
    for cell in study.cells():
        place = tmp_path / "out" / cell.place
        for step in (1, 2, 3):
            append_point(place / "evaluations.csv", Point(step, False, 100.0 * step + cell.seeds[0], 1.0))
        write_status(place, Status("done", 3, 3, 1.0))
    prepare(tmp_path / "out", study.cells())
    write_plan(tmp_path / "out", {})
    path = report(Report(str(tmp_path / "s.toml"), tmp_path / "study.html", folder=tmp_path / "out"))
    text = read(path)
    assert "BC <b>" in text
    assert "200 ± 1" in text  # means 200 and 201
    assert path.read_text().count("<svg") == 2


def test_what_cannot_be_reported_is_said(tmp_path, run):
    with pytest.raises(FileNotFoundError, match="holds no final"):
        report(Report(str(tmp_path), tmp_path / "x.html"))
    data = load_dataset(HOPPER)
    TD3BC(data, population=2, actor_hidden=(8,), critic_hidden=(8,), device="cpu").save(tmp_path / "p" / "final.zip")
    with pytest.raises(ValueError, match="holds a population: report one of its members"):
        report(Report(str(tmp_path / "p"), tmp_path / "x.html"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_a_browser_shows_the_page_on_a_phone_in_the_dark_and_on_a_desk(run, tmp_path, width, dark):
    from PIL import Image

    page = report(Report(str(run), tmp_path / "report.html"))
    picture = tmp_path / "page.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2200", f"--screenshot={picture}"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=120)
    pixels = np.asarray(Image.open(picture).convert("L"), float)
    background = np.median(pixels)
    assert (background < 60) == dark
    assert np.abs(pixels - background).max() > 120  # ink that is told apart from the paper
    assert (np.abs(pixels - background) > 60).mean() > 0.01

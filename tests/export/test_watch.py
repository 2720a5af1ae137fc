"""What a log shows, as text and as a page, and that nothing is served to anybody else."""

import re
import threading
import urllib.error
import urllib.request
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.support.scripted_robot import OBS, Robot
from zoo_robot import watch
from zoo_robot.__main__ import main
from zoo_robot.control import Limits
from zoo_robot.recorder import Recorder
from zoo_robot.runlog import read_log


class Guard:
    threshold = 0.5

    def __call__(self, obs, action):
        return 0.25


@pytest.fixture
def path(tmp_path):
    script = [OBS] * 6 + [None] * 4
    limits = Limits([-1.0, 0.0], [0.125, 2.0], [0.0, 0.5])
    Robot(script, thinking=0.01).run(recorder=Recorder(tmp_path / "run.log"), guard=Guard(), limits=limits)
    return tmp_path / "run.log"


def test_the_text_has_the_numbers_of_the_run(path):
    text = watch.text(read_log(path))
    assert "10 of 10 deadlines kept (100.00%), 0 ticks dropped" in text
    assert "at 8 Hz: done" in text
    assert re.search(r"work +10\.000 +10\.000", text)
    for line in (r"policy +6 +60\.00%", r"hold +2 +20\.00%", r"safe +2 +20\.00%", r"stale +2", r"limited +6"):
        assert re.search(line, text)
    assert "doubt: median 0.25, largest 0.25, threshold 0.5" in text


def test_only_the_last_ticks_where_that_is_asked(path):
    assert "4 of 4 deadlines" in watch.text(read_log(path), ticks=4)


def test_the_page_is_whole_markup_without_scripts_or_links(path, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["watch", str(path), "--html", str(tmp_path / "page.html")])
    assert end.value.code == 0
    page = (tmp_path / "page.html").read_text()
    curves = re.findall(r"<svg.*?</svg>", page)
    assert len(curves) == 5  # lateness, work, doubt, two actions
    for curve in curves:
        ElementTree.fromstring(curve)
    assert not re.search(r"<script|href=|src=|http", page.replace("http-equiv", ""))


def test_names_of_a_log_are_text_and_no_markup(path):
    log = read_log(path)
    about = {**log.runs[0].about, "policy": {"agent": "<script>", "actions": [{"name": "<b>"}, {"name": "knee"}]}}
    run = watch.Run(about, log.runs[0].rows, None)
    page = watch.page(watch.Log((run,), 3))
    assert "<script>" not in page
    assert "<b>" not in page
    assert "still running, or cut off" in page
    assert "3 bytes of the file are damaged" in page


def test_a_run_without_ticks_says_so(path):
    log = read_log(path)
    empty = watch.Run(log.runs[0].about, log.runs[0].rows[:0], None)
    assert "no ticks yet" in watch.text(watch.Log((empty,), 0))
    assert "<svg" not in watch.page(watch.Log((empty,), 0))


def test_the_bar_shows_where_the_actions_were():
    bar = watch._bar(np.array([-1.0] * 9 + [1.0]), -1.0, 1.0)
    assert (len(bar), bar[0], bar[-1], bar[1:-1].strip()) == (watch.BAR, "@", ".", "")


def test_the_page_is_served_on_loopback_only_and_read_anew(path, monkeypatch):
    made = []

    class Server(watch.ThreadingHTTPServer):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(watch, "ThreadingHTTPServer", Server)
    started = threading.Event()
    thread = threading.Thread(target=watch.serve, args=(path, 0, None, lambda text: started.set()))
    thread.start()
    assert started.wait(30.0)
    host, port = made[0].server_address
    assert host == "127.0.0.1"
    try:
        assert "10 of 10 deadlines" in urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().decode()
        Robot([OBS] * 3).run(recorder=Recorder(path))
        assert "3 of 3 deadlines" in urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().decode()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/etc/passwd")
    finally:
        made[0].shutdown()
        thread.join()

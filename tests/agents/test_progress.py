"""What a long loop tells where there is no terminal."""

import pytest

from zoo.agents.loop import progress
from zoo.agents.loop.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40, "40 seconds"), (720, "12 minutes"), (12_600, "3.5 hours"), (181_440, "2.1 days")],
)
def test_durations_are_told_as_a_person_would(seconds, words):
    assert duration(seconds) == words


def test_lines_come_after_ever_longer_pauses_with_rate_and_what_is_left(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(1000, "offline", True) as bar:
        for second in range(100):
            now[0] = float(second)
            bar.losses({"critic": 0.25})
            bar.update(2)
    lines = capsys.readouterr().err.splitlines()
    # After 10, 30 and 70 seconds. At 10: 22 steps in 10 s leave 978 / 2.2 = 445 s.
    assert lines[0] == "offline: 22 of 1,000 steps, 2.2 a second, about 7 minutes to go, critic 0.25"
    assert len(lines) == 3


@pytest.mark.parametrize("show", [None, False])
def test_nothing_is_told_where_nobody_asked(capsys, show):
    with Progress(10, "offline", show) as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""

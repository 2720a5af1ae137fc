"""A study: what its file may say, how it is run, killed, continued and told."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from zoo.cli.study import Plan
from zoo.studies.cell import run_cell
from zoo.studies.folders import Status, prepare, read_status, write_status
from zoo.studies.results import curves, paper_table, profiles, returns_table, rows_of, scores, scores_table
from zoo.studies.runner import run_local
from zoo.studies.status import duration, report, seconds_left
from zoo.studies.study import Study, StudyError
from zoo.studies.together import Timing

HOPPER = "hopper-medium-replay"
NETS = {"actor_hidden": [8], "critic_hidden": [8], "batch_size": 8}


def study(**other) -> Study:
    values = {
        "name": "small",
        "steps": 4,
        "seeds": [0, 1],
        "evaluation": {"every": 2, "episodes": 1},
        "datasets": {HOPPER: HOPPER},
        "agents": [
            {"agent": "TD3BC", "settings": NETS},
            {"agent": "TD3BC", "label": "BC", "settings": NETS | {"alpha": 0.0}},
        ],
    }
    return Study.of(values | other)


def test_cells_come_seed_by_seed_so_that_a_study_cut_short_compares_all_agents():
    cells = study().cells()
    assert [(cell.entry.label, cell.seeds) for cell in cells] == [
        ("TD3BC", (0,)),
        ("BC", (0,)),
        ("TD3BC", (1,)),
        ("BC", (1,)),
    ]
    assert len({cell.place for cell in cells}) == 4
    joined = study().cells({("BC", HOPPER): True})
    assert [(cell.entry.label, cell.seeds) for cell in joined] == [("BC", (0, 1)), ("TD3BC", (0,)), ("TD3BC", (1,))]


def test_a_datasets_own_settings_win():
    entry = study(agents=[{"agent": "TD3BC", "settings": {"alpha": 1.0}, "for": {HOPPER: {"alpha": 4.0}}}]).entries[0]
    assert entry.settings_for(HOPPER) == {"alpha": 4.0}
    assert entry.settings_for("another") == {"alpha": 1.0}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"stepz": 3}, r"unknown 'stepz'.* did you mean steps\?"),
        ({"steps": 0}, "steps is missing"),
        ({"steps": 1.5}, "steps must be a whole number of at least 1, got 1.5"),
        ({"seeds": [1, 1]}, r"seeds has one twice: \[1, 1\]"),
        ({"seeds": [-1]}, "seeds must be a list of whole numbers from 0 on"),
        ({"agents": [{"agent": "TD3BC"}, {"agent": "TD3BC"}]}, "two agents have the label 'TD3BC'"),
        (
            {"agents": [{"agent": "TD3BC", "setings": {}}]},
            r"agents\[0\] has an unknown 'setings'",
        ),
        ({"agents": [{"agent": "TD3BC", "for": {"none": {}}}]}, "for names the dataset 'none'; there are hopper"),
        ({"evaluation": {"every": 0}}, "evaluation.every must be a whole number, got 0"),
        ({"paper": {"source": "x"}}, "paper lacks protocol, scores"),
    ],
)
def test_a_slip_is_named_with_its_place(wrong, said):
    with pytest.raises(StudyError, match=said):
        study(**wrong)


def test_a_cell_stops_goes_on_and_ends_as_one_that_never_stopped(tmp_path):
    whole, short = (study(seeds=[0], agents=[{"agent": "TD3BC", "settings": NETS}], steps=n) for n in (4, 2))
    (place,) = prepare(tmp_path / "a", whole.cells())
    assert (run_cell(place).state, read_status(place).steps) == ("done", 4)
    (place,) = prepare(tmp_path / "b", short.cells())
    run_cell(place)
    (again,) = prepare(tmp_path / "b", whole.cells())  # the study has become longer
    assert again == place
    run_cell(place)
    files = [(tmp_path / run / whole.cells()[0].place / "evaluations.csv").read_text() for run in ("a", "b")]
    assert files[0] == files[1]
    assert prepare(tmp_path / "b", whole.cells()) == []


def test_a_plan_names_what_another_scheduler_runs(tmp_path, capsys):
    (tmp_path / "s.toml").write_text(
        f'name = "planned"\nsteps = 2\nseeds = [0, 1]\n[evaluation]\nevery = 2\nepisodes = 1\n[datasets]\n'
        f'{HOPPER} = "{HOPPER}"\n[[agents]]\nagent = "TD3BC"\n'
        "settings = { actor_hidden = [8], critic_hidden = [8] }\n"
    )
    plan = Plan(str(tmp_path / "s.toml"), tmp_path / "out")
    plan.run()
    places = [Path(line) for line in capsys.readouterr().out.split()]
    assert [place.name for place in places] == ["seed_0", "seed_1"]
    assert run_cell(places[0]).state == "done"
    plan.run()
    assert capsys.readouterr().out.split() == [str(places[1])]


def test_a_cell_of_other_settings_is_not_gone_on_with(tmp_path):
    prepare(tmp_path, study().cells())
    other = study(agents=[{"agent": "TD3BC", "settings": NETS | {"alpha": 9.0}}])
    with pytest.raises(StudyError, match=r"trained with other settings: settings was .* is .*'alpha': 9.0"):
        prepare(tmp_path, other.cells())


def test_what_diverges_or_fails_is_a_row_and_the_study_goes_on(tmp_path):
    entries = [
        {"agent": "TD3BC", "label": "sick", "settings": NETS | {"critic_lr": 1e30, "actor_lr": 1e30}},
        {"agent": "TD3BC", "label": "wrong", "settings": NETS | {"alpha": "much"}},
        {"agent": "TD3BC", "settings": NETS},
    ]
    plan = study(seeds=[0], agents=entries)
    over = []
    run_local(prepare(tmp_path, plan.cells()), 2, over.append)
    states = {cell.entry.label: read_status(tmp_path / cell.place).state for cell in plan.cells()}
    assert states == {"sick": "diverged", "wrong": "failed", "TD3BC": "done"}
    assert len(over) == 3
    told = report(tmp_path, plan.cells(), 1)
    assert "2 of 3 trainings are over" in told
    assert "got 'much'" in told


def test_a_population_has_a_curve_for_each_seed(tmp_path):
    plan = study(agents=[{"agent": "TD3BC", "settings": NETS}])
    cells = plan.cells({("TD3BC", HOPPER): True})
    (place,) = prepare(tmp_path, cells)
    assert run_cell(place).state == "done"
    rows = rows_of(tmp_path, cells)
    assert [(row.seed, row.step, row.state) for row in rows] == [
        (0, 2, "done"),
        (0, 4, "done"),
        (1, 2, "done"),
        (1, 4, "done"),
    ]
    assert rows[1].return_mean != rows[3].return_mean


def test_together_is_what_the_clock_says():
    assert Timing(single_ms=10.0, population_ms=12.0, seeds=3, workers=1).together  # 12 against 30
    assert not Timing(single_ms=10.0, population_ms=16.0, seeds=3, workers=2).together  # 16 against 15
    assert Timing(single_ms=10.0, population_ms=9.0, seeds=2, workers=64).together  # workers that have nothing to do


def test_the_rest_takes_as_long_as_what_is_like_it_took(tmp_path):
    cells = study(steps=100).cells()
    statuses = [
        Status("done", 100, 100, 50.0),  # TD3BC: 0.5 s a step
        Status("running", 40, 100, 80.0),  # BC: 2 s a step, 60 to go
        Status(),  # TD3BC: 100 to go at 0.5
        Status(),  # BC: 100 to go at 2
    ]
    assert seconds_left(cells, statuses) == pytest.approx(60 * 2 + 100 * 0.5 + 100 * 2)
    assert seconds_left(cells, [Status()] * 4) is None
    for cell, status in zip(cells, statuses, strict=True):
        write_status(tmp_path / cell.place, status)
    assert report(tmp_path, cells, workers=2).endswith("1 of 4 trainings are over; about 3 minutes left")
    assert [duration(s) for s in (None, 30, 600, 36_000)] == [
        "an unknown time",
        "about 30 seconds",
        "about 10 minutes",
        "about 10.0 hours",
    ]


def written(folder, plan, values) -> list:
    """Cells as if they had been run: a last evaluation, and the two before it at half of it, for each seed."""
    cells = plan.cells()
    for cell in cells:
        value = values[cell.entry.label][cell.seeds[0]]
        lines = ["timesteps,online,return_mean,return_std,episodes"]
        lines += [f"{step},False,{v},1.0,10" for step, v in ((1, value / 2), (2, value / 2), (4, value))]
        place = folder / cell.place
        place.mkdir(parents=True)
        (place / "evaluations.csv").write_text("\n".join(lines) + "\n")
        write_status(place, Status("done", 4, 4, 1.0))
    return cells


def test_tables_have_means_deviations_and_intervals_of_known_value(tmp_path):
    plan = study(
        datasets={"hopper-medium-v2": "hopper-medium-v2"},
        paper={"source": "a paper", "protocol": "a million steps", "scores": {"BC": {"hopper-medium-v2": 52.9}}},
    )
    found = curves(rows_of(tmp_path, written(tmp_path, plan, {"TD3BC": (300.0, 600.0), "BC": (30.0, 90.0)})))
    rows = {line.split("|")[2].strip(): line for line in returns_table(plan, found).splitlines()[2:]}
    # last: 300 and 600; means of three: 200 and 400, mean 300, deviation 141.4, t(0.975, 1) = 12.706: 300 +- 1270.6
    assert rows["TD3BC"].split(" | ")[2:] == ["2", "450 ± 212", "300 ± 141", "-971 to 1571", "450 ± 212 |"]
    of = scores(plan, found)
    # D4RL: 100 (R + 20.272305) / 3254.572305, of 200 and 400
    assert of["TD3BC"]["hopper-medium-v2"] == pytest.approx([6.7681, 12.9133], abs=1e-3)
    table = scores_table(plan, of)
    assert "| TD3BC | 1 | 2 | 9.8 |" in table
    assert "| BC | 1 | 2 | 1.9 | 1.2 to 2.5 | 0.00 | 0.00 to 0.00 |" in table
    told = paper_table(plan, plan.paper, of)
    assert "| hopper-medium-v2 | BC | 1.9 ± 0.9 | 52.9 |" in told
    assert "Ours: 4 steps, 2 seeds, mean of the last 3 evaluations, one every 2 steps, 1 episodes each" in told
    assert "The paper's (a paper): a million steps." in told
    thresholds, shares = profiles(of, points=3)
    assert (len(thresholds), shares["TD3BC"].tolist(), shares["BC"].tolist()) == (3, [1.0, 0.5, 0.0], [0.5, 0.0, 0.0])


@pytest.mark.slow
def test_a_killed_study_goes_on_and_repeats_nothing(tmp_path):
    (tmp_path / "s.toml").write_text(
        f'name = "killed"\nsteps = 6000\nseeds = [0]\n[evaluation]\nevery = 200\nepisodes = 1\n[datasets]\n'
        f'{HOPPER} = "{HOPPER}"\n[[agents]]\nagent = "TD3BC"\n'
        "settings = { actor_hidden = [8], critic_hidden = [8], batch_size = 8 }\n"
    )
    command = [sys.executable, "-m", "zoo", "study", "run", "s.toml", "--out", "out", "--workers", "1"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    place = tmp_path / "out" / "cells" / "TD3BC" / HOPPER / "seed_0"
    until = time.monotonic() + 120
    while read_status(place).steps < 400:
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert read_status(place).steps < 6000
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300).stdout
    assert "1 of 1 trainings are over" in printed
    with (tmp_path / "out" / "results.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(200, 6001, 200))
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300).stdout
    assert "seed_0:" not in again
    assert json.loads((place / "status.json").read_text())["state"] == "done"
    assert np.isfinite(read_status(place).seconds)

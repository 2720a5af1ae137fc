"""The studies in benchmarks/: their tables against hand calculations, and one run of each that trains."""

from types import SimpleNamespace

import learning
import mood
import numpy as np
import pytest
import scale
import torch
from gymnasium.spaces import Box

from zoo.agents import IQL
from zoo.collecting.mood.rewards import TARGETS, env_id
from zoo.datasets.dataset import OfflineDataset

HEAD = "label,agent,dataset,seed,step,return_mean,return_std,seconds,settings"


def lines(path, *rows: str):
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return path


# Learning -------------------------------------------------------------------------------------------------------------


def test_a_learning_table_has_the_deviation_over_the_seeds(tmp_path):
    curves = {0: (10, 20, 30, 40), 1: (100, 50, 60, 70)}
    rows = [
        f"BC,TD3BC,set,{seed},{1000 * (i + 1)},{value},0,0,"
        for seed, curve in curves.items()
        for i, value in enumerate(curve)
    ]
    # last 40 and 70; means of the last three 30 and 60; best 40 and 100
    assert learning.table(lines(tmp_path / "a.csv", *rows)).splitlines()[-1] == (
        "| BC | set | 2 | 4,000 | 55 ± 21 | 45 ± 21 | 70 ± 42 |"
    )


def test_a_verdict_needs_an_interval_without_zero(tmp_path):
    means = {"low": (10, 12, 14), "high": (30, 32, 34), "wide": (0, 20, 70)}
    rows = [f"{name},IQL,set,{i},1,{value},0,0," for name, values in means.items() for i, value in enumerate(values)]
    verdicts = {row.split("|")[1].strip(): row.split("|")[-2].strip() for row in
                learning.table(lines(tmp_path / "a.csv", *rows), "low").splitlines()[2:]}  # fmt: skip
    # Equal deviations of 2, three seeds each: 20 +- 2.7764 (t of 4 degrees, 97.5 %) * 2 * sqrt(2 / 3)
    assert verdicts["high"] == "+15 to +25: above"
    assert verdicts["wide"].endswith("open")
    assert verdicts["low"] == ""


def test_a_seed_that_the_file_has_is_refused(tmp_path):
    path = lines(tmp_path / "a.csv", "BC,TD3BC,set,1,1000,10,0,0,")
    learning.refuse_repeats(path, "BC", "set", [0, 2])
    learning.refuse_repeats(path, "BC", "another set", [1])
    with pytest.raises(SystemExit, match=r"has BC on set with the seeds 1 already"):
        learning.refuse_repeats(path, "BC", "set", [0, 1])


# Network size, ensembles and evaluation sampling ----------------------------------------------------------------------


def test_a_scale_table_has_students_interval(tmp_path):
    rows = []
    for seed, level in enumerate((100, 200, 300)):
        for step, offset in ((1, 900), (2, -30), (3, 0), (4, 30)):  # the first is not of the last three
            for samples, factor in ((1, 1), (50, 2)):
                value = factor * (level + offset)
                rows.append(f'"small, 2 critics",IQL,set,{seed},{step},{value},0,0,evaluation_samples={samples}')
    # 200 +- 4.3027 * 100 / sqrt(3): the quantile of two degrees of freedom; twice that for the best of 50
    assert scale.table(lines(tmp_path / "a.csv", *rows)).splitlines()[-1] == (
        "| small | 2 | 3 | 4 | 200 ± 248 | 400 ± 497 |"
    )


@pytest.mark.parametrize("network", scale.NETWORKS)
def test_every_network_of_the_study_is_one_that_iql_takes(network):
    data = cheetah(30)
    agent = IQL(data, population=2, n_critics=5, **scale.FORM | {"batch_size": 8}, **scale.NETWORKS[network])
    agent.learn_offline(data, 2)
    qs = agent.critic(torch.zeros(8, 17), torch.zeros(8, 6))
    assert qs.shape == (2, 5, 8)
    assert qs.isfinite().all()


# MOOD -----------------------------------------------------------------------------------------------------------------


def cheetah(rows: int) -> OfflineDataset:
    """Random transitions of two episodes; rewards of 1."""
    rng = np.random.default_rng(0)
    walk = rng.standard_normal((rows + 1, 17))
    return OfflineDataset.from_arrays(
        observations=walk[:-1],
        actions=rng.uniform(-1.0, 1.0, (rows, 6)),
        rewards=np.ones(rows),
        next_observations=walk[1:],
        terminations=np.zeros(rows, bool),
        truncations=np.isin(np.arange(rows), [rows // 3 - 1, rows - 1]),
        action_space=Box(-1.0, 1.0, (6,)),
        name="mood-cheetah-walk-same",
        env_id=env_id("cheetah", "walk"),
    )


def test_a_mood_score_is_a_mean_over_tasks(tmp_path):
    percents = {"walk": 10, "run": 20, "walk_backward": 30, "run_backward": 40}
    rows = [
        f"IQL,IQL,mood-cheetah-{task}-same,{seed},9,{factor * percent / 100 * TARGETS['cheetah'][task]},0,0,"
        for seed, factor in ((0, 1.0), (1, 2.0))
        for task, percent in percents.items()
    ]
    read = learning.read(lines(tmp_path / "a.csv", *rows))
    same = mood.sets("cheetah", "same")
    assert mood.score(read, "IQL", same) == "37.5 ± 12.5"  # 25 and 50
    assert mood.score(read[:-1], "IQL", same) == ""  # a seed of one task lacks
    assert mood.score(read, "IQL", mood.sets("cheetah", "mixed")) == ""
    assert mood.score(read, "AWAC", same) == ""


def test_sets_are_of_the_tasks_asked_for():
    assert mood.sets("walker", "mixed", ["spin", "jump"]) == ["mood-walker-spin-mixed"]
    with pytest.raises(ValueError, match="cheetah has none of the tasks spin; it has walk, run, walk_backward"):
        mood.sets("cheetah", "same", ["spin"])


def test_the_datas_own_score_is_of_its_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr(mood, "load_dataset", lambda path: cheetah(297))  # returns of 99 and 198
    targets = {"walk": 990.0, "run": 990.0, "walk_backward": 990.0, "run_backward": 990.0}
    monkeypatch.setitem(TARGETS, "cheetah", targets)
    assert mood.score_of_data(tmp_path, mood.sets("cheetah", "same"), np.max) == "20.0"
    assert mood.score_of_data(tmp_path, mood.sets("cheetah", "same"), np.mean) == "15.0"


@pytest.mark.parametrize("label", mood.RUNS)
def test_every_agent_of_the_study_trains_and_is_noted(label, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mood, "load_dataset", lambda path: cheetah(300))
    monkeypatch.setattr(mood.Evaluator, "evaluate_members", lambda *_: np.array([[99.0, 297.0], [0.0, 0.0]]))
    options = SimpleNamespace(seeds=2, steps=2, episodes=2, out=tmp_path / "out.csv")
    mood.train(label, tmp_path / "set.hdf5", options)
    rows = learning.read(options.out)
    assert [(row["label"], row["seed"], row["step"], row["return_mean"]) for row in rows] == [
        (label, "0", "2", "198.0"),
        (label, "1", "2", "0.0"),
    ]
    assert {row["dataset"] for row in rows} == {"mood-cheetah-walk-same"}

"""The papers' tables as studies: every file names datasets, agents, presets and settings that exist."""

import re

import numpy as np
import pytest

from tests.support.papers import PAPERS
from zoo.agents import AGENTS
from zoo.agents.core.presets import load_preset
from zoo.datasets.readers.d4rl import CATALOG
from zoo.studies.study import Study, shipped

STUDIES = {path.stem: Study.read(path) for path in shipped()}


def test_there_is_a_study_for_each_paper():
    assert {name.split("-table")[0] for name in STUDIES} == {"pars", "ssar", "car", "aspc", "simple-ingredients"}


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_name_in_a_study_is_known(study):
    assert study.paper is not None
    for dataset, source in study.datasets.items():
        assert source in CATALOG
        for entry in study.entries:
            cls = AGENTS[entry.agent]
            preset = load_preset(entry.agent, dataset, entry.preset)
            if entry.agent in ("PARS", "TD3BCSA", "CQLSA"):  # which have settings for each dataset
                assert preset
            cls.Config.build(preset | entry.settings_for(dataset))
    labels = {entry.label for entry in study.entries}
    assert set(study.paper.scores) <= labels
    assert {name for scores in study.paper.scores.values() for name in scores} == set(study.datasets)


@pytest.mark.skipif(not PAPERS.is_dir(), reason="needs the papers' specifications")
@pytest.mark.parametrize(
    ("name", "label", "dataset", "page", "row"),
    [
        ("pars-table-2-antmaze", "PARS", "antmaze-large-play-v2", "pars.md", r"\| large-p .*\| (84\.8)\+-5\.9 \|"),
        ("pars-table-2-mujoco", "TD3BC", "hopper-medium-replay-v2", "pars.md", r"\| hop-mr \| (60\.9) \|"),
        ("ssar-table-1-mujoco", "CQLSA", "walker2d-expert-v2", "ssar.md", r"\| walker2d-expert .*?(110\.2)±0\.2 \|"),
        ("car-table-1-adroit", "CAR", "pen-human-v1", "car.md", r"\| pen-human .*\| (122\.2)\+-5\.7 \|"),
        ("aspc-table-1-maze2d", "ASPC", "maze2d-large-v1", "aspc.md", r"\| maze2d-large-v1 \| (195\.8)±"),
        ("simple-ingredients-table-16", "IQL", "hopper-medium-v2", "simple_ingredients.md", r"(96\.4)/2\.0 \| 67"),
    ],
)  # fmt: skip
def test_published_scores_are_the_papers(name, label, dataset, page, row):
    found = re.search(row, (PAPERS / page).read_text())
    assert found
    assert STUDIES[name].paper.scores[label][dataset] == float(found.group(1))


def stand_in(path, observations: int, actions: int) -> None:
    """A small file of a D4RL dataset's sizes, in episodes of ten rows, every other one of which ends in success."""
    import h5py

    rows, rng = 400, np.random.default_rng(0)
    obs = rng.normal(size=(rows + 1, observations)).astype("f4")
    last = np.arange(rows) % 10 == 9
    success = last & (np.arange(rows) // 10 % 2 == 0)
    with h5py.File(path, "w") as file:
        file["observations"], file["next_observations"] = obs[:-1], obs[1:]
        file["actions"] = rng.uniform(-0.9, 0.9, (rows, actions)).astype("f4")
        file["rewards"] = success.astype("f4")
        file["terminals"], file["timeouts"] = success, last & ~success


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_study_runs_on_small_files_of_its_datasets(study, tmp_path, monkeypatch):
    from zoo.datasets.load import load_dataset

    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    dataset = next(iter(study.datasets))
    stand_in(tmp_path / CATALOG[dataset].file_name, 17, 6)
    data = load_dataset(dataset)
    shortened = {"batch_size": 16, "density_steps": 1, "warmup_steps": 2, "filter_steps": 2}
    for entry in study.entries:
        cls = AGENTS[entry.agent]
        short = {name: value for name, value in shortened.items() if name in cls.Config.names()}
        agent = cls(data, preset=entry.preset, **{**entry.settings_for(dataset), **short})
        agent.learn_offline(data, 2)
        assert np.isfinite(agent.predict(data.observations[:3])[0]).all()

"""Agents that a user derives from ours."""

import pytest

import zoo
from tests.support.data import assert_same_state, tiny, toy_dataset
from zoo.agents import CQLSA, PARS, CheckpointError
from zoo.agents.core.learner import paper


class Mine(PARS):
    pass


class Youngest(Mine):
    pass


class Cautious(CQLSA):
    pass


@pytest.mark.parametrize(("cls", "nearest"), [(Mine, PARS), (Youngest, PARS), (Cautious, CQLSA), (PARS, PARS)])
def test_a_subclass_has_the_settings_of_the_nearest_paper(cls, nearest):
    data = zoo.load_dataset("hopper-medium-replay")
    assert paper(cls) is nearest
    assert cls(data).config == nearest(data).config
    assert cls(data).preset == nearest(data).preset == "hopper-medium-replay"


def test_a_subclass_is_loaded_by_its_own_name_or_where_it_is_named(tmp_path):
    data = toy_dataset()
    mine = tiny(Mine, data).learn_offline(data, 2)
    path = mine.save(tmp_path / "mine.zip")
    for loaded in (Mine.load(path), zoo.load(path, classes=[Youngest, Mine])):
        assert type(loaded) is Mine
        assert_same_state(loaded, mine)
    with pytest.raises(CheckpointError, match=r"holds a Mine, a subclass of PARS.*zoo.load\(path, classes=\[Mine\]\)"):
        zoo.load(path)
    with pytest.raises(CheckpointError, match=r"use Mine\.load"):
        PARS.load(path)
    ours = tiny(PARS, data).save(tmp_path / "ours.zip")
    assert type(zoo.load(ours, classes=[Mine])) is PARS


def test_a_subclass_of_the_same_name_is_not_taken_for_ours(tmp_path):
    class PARS(zoo.PARS):
        pass

    path = tiny(PARS).save(tmp_path / "agent.zip")
    with pytest.raises(CheckpointError, match="name it"):
        zoo.load(path)
    assert type(zoo.load(path, classes=[PARS])) is PARS


def test_a_member_of_a_subclass_is_of_the_subclass_and_a_bundle_names_its_paper(tmp_path):
    from zoo.agents.files.description import describe

    member = tiny(Mine, population=2).member(1)
    assert type(member) is Mine
    assert describe(member).paper == describe(tiny(PARS)).paper

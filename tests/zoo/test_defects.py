"""Every planted defect is found in both recordings, and nothing is found that it does not explain."""

import pytest
from defects import DEFECTS, arm, hopper, outcome, titles_of

from zoo.datasets.doctor.findings import examine

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return {"hopper": hopper(), "arm": arm(tmp_path_factory.mktemp("arm"))}


@pytest.fixture(scope="module")
def usual(recordings):
    return {name: titles_of(recording) for name, recording in recordings.items()}


def test_the_sound_recordings_give_no_error(recordings):
    assert examine(recordings["hopper"]) == []
    assert [finding.title for finding in examine(recordings["arm"])] == ["constant observations"]  # its payload


def test_there_are_thirty_and_more():
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 30


@pytest.mark.parametrize("name", ["hopper", "arm"])
@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.name for defect in DEFECTS])
def test_a_planted_defect_is_found_and_raises_no_false_alarm(recordings, usual, defect, name):
    assert outcome(recordings[name], defect, usual[name]) == (True, [])

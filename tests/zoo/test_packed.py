"""Data left in a file: the same numbers as from memory, bit for bit, and the same refusals."""

import h5py
import numpy as np
import pytest

from tests.support.d4rl_files import true_successors, worked_example, write_hdf5
from tests.support.data import BOX, assert_same_state, tiny, toy_dataset
from zoo.agents import CQL, IQL, PARS, TD3BC, TD3BCSA, ReBRAC
from zoo.cli.train import Train, train
from zoo.datasets import packing
from zoo.datasets.checks import DatasetKeyError, DatasetNotFoundError, DatasetValueError
from zoo.datasets.dataset import STORED, OfflineDataset
from zoo.datasets.load import load_dataset
from zoo.datasets.packed import open_packed
from zoo.datasets.packing import PackedWriter, convert_hdf5, write_packed
from zoo.datasets.writers import export
from zoo_robot.disagreement import Disagreement


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks that end inside episodes of 7."""
    monkeypatch.setattr(packing, "CHUNK", 25)


def columns_of(dataset) -> dict[str, np.ndarray]:
    return {name: dataset.column(name)[:] for name in STORED}


@pytest.mark.parametrize("cls", [TD3BC, ReBRAC, IQL, PARS, CQL, TD3BCSA])
def test_an_agent_learns_the_same_bits_from_the_file_as_from_memory(tmp_path, cls):
    data = toy_dataset()
    there = open_packed(write_packed(data, tmp_path / "toy"))
    options = {"trust": "return"} if cls is TD3BCSA else {}
    from_memory, from_file = (tiny(cls, source, **options).learn_offline(source, 20) for source in (data, there))
    assert_same_state(from_memory, from_file)


def test_every_column_reads_back(tmp_path):
    data = toy_dataset()
    there = open_packed(write_packed(data, tmp_path / "toy"))
    for name, column in columns_of(data).items():
        assert np.array_equal(there.column(name)[:], column), name
    assert (there.name, len(there), there.action_space) == ("toy", 210, BOX)


def test_slices_of_a_wide_column_are_those_of_an_array(tmp_path):
    data = toy_dataset()
    column = open_packed(write_packed(data, tmp_path / "toy")).column("next_observations")
    for rows in (slice(3, 9), slice(200, 999), slice(-4, None), slice(0, 30, 7), slice(9, 9)):
        assert np.array_equal(column[rows], data.next_observations[rows])


def test_a_last_row_without_an_end_is_truncated_once(tmp_path):
    part = {"observations": np.zeros((3, 1)), "actions": np.zeros((3, 1)), "rewards": np.zeros(3),
            "next_observations": np.ones((3, 1)), "terminations": np.zeros(3, bool),
            "truncations": np.zeros(3, bool)}  # fmt: skip
    with PackedWriter(tmp_path / "open") as writer:
        writer.append(part)
        writer.append(part)
    there = open_packed(tmp_path / "open")
    assert there.column("truncations").tolist() == [False] * 5 + [True]
    assert there.column("episode_ids").tolist() == [0] * 6


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_hdf5_is_converted_to_what_load_dataset_reads(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(packing, "CHUNK", chunk)
    path = write_hdf5(tmp_path / "tiny.hdf5", worked_example() | {"next_observations": true_successors()})
    there, here = open_packed(convert_hdf5(path, tmp_path / "tiny")), load_dataset(path)
    for name, column in columns_of(here).items():
        assert np.array_equal(there.column(name)[:], column), name


def test_unmarked_ends_are_cut_between_chunks_too(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 3)
    columns = worked_example() | {"next_observations": true_successors(), "timeouts": np.zeros(8, bool)}
    path = write_hdf5(tmp_path / "tiny.hdf5", columns)  # row 2, a chunk's last, has a successor that is not row 3
    there = open_packed(convert_hdf5(path, tmp_path / "tiny"))
    assert there.column("truncations").tolist() == load_dataset(path).truncations.tolist()
    assert there.column("truncations")[2]


def test_hdf5_whose_rows_have_to_be_dropped_is_refused(tmp_path):
    path = write_hdf5(tmp_path / "tiny.hdf5", worked_example())
    with pytest.raises(DatasetKeyError, match=r"tiny.hdf5 lacks next_observations"):
        convert_hdf5(path, tmp_path / "tiny")


def test_what_memory_refuses_is_refused_with_the_chunk_and_nothing_is_left(tmp_path):
    columns = worked_example() | {"next_observations": true_successors()}
    columns["rewards"] = np.array([0, 1, 2, 3, 4, np.nan, 6, 7])
    path = write_hdf5(tmp_path / "tiny.hdf5", columns)
    with pytest.raises(DatasetValueError, match="rewards holds 1 NaN or inf, the first in row 5"):
        convert_hdf5(path, tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == [path]


def test_actions_outside_the_box_are_refused(tmp_path):
    columns = worked_example() | {"next_observations": true_successors(), "actions": np.full((8, 1), 3.0)}
    with pytest.raises(DatasetValueError, match="8 actions lie outside the action box"):
        convert_hdf5(write_hdf5(tmp_path / "tiny.hdf5", columns), tmp_path / "tiny")


def test_nothing_written_is_refused(tmp_path):
    with pytest.raises(DatasetValueError, match="nothing was written"), PackedWriter(tmp_path / "empty"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_kept(tmp_path):
    write_packed(toy_dataset(), tmp_path / "toy")
    with pytest.raises(DatasetValueError, match="exists"):
        write_packed(toy_dataset(70), tmp_path / "toy")
    assert len(open_packed(tmp_path / "toy")) == 210


@pytest.mark.parametrize("name", ["rows.f32", "rewards.npy", "dataset.json"])
def test_damaged_folders_are_refused(tmp_path, name):
    folder = write_packed(toy_dataset(), tmp_path / "toy")
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    with pytest.raises(DatasetValueError, match=r"is not whole|is damaged"):
        open_packed(folder)


def test_a_file_that_is_cut_while_it_is_open_is_noticed(tmp_path):
    folder = write_packed(toy_dataset(), tmp_path / "toy")
    there = open_packed(folder)
    (folder / "rows.f32").write_bytes((folder / "rows.f32").read_bytes()[:-20])
    with pytest.raises(OSError, match="became shorter while it was read"):
        there.gather(np.array([0, 209]))


def test_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"has no dataset.json"):
        open_packed(tmp_path)


def test_load_dataset_names_the_function_that_opens_it(tmp_path):
    with pytest.raises(DatasetValueError, match=r"zoo.open_packed\(path\) opens it"):
        load_dataset(write_packed(toy_dataset(), tmp_path / "toy"))


def test_episodes_that_go_on_after_success_are_refused(tmp_path):
    toy = toy_dataset(14)
    columns = {name: toy.column(name).copy() for name in STORED}
    columns["terminations"][2] = True
    with pytest.raises(DatasetValueError, match="goes on after terminations"):
        write_packed(OfflineDataset.from_arrays(**columns, action_space=BOX), tmp_path / "toy")


def test_train_takes_a_folder_that_export_wrote(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "toy.hdf5", "w") as file:
        toy = toy_dataset()
        names = {"terminations": "terminals", "truncations": "timeouts"}
        for name in STORED[:6]:
            file[names.get(name, name)] = toy.column(name)
        file.attrs.update(action_low=BOX.low, action_high=BOX.high)
    export(str(tmp_path / "toy.hdf5"), str(tmp_path / "toy"), "packed")
    settings = ("actor_hidden=(8,)", "critic_hidden=(8,)")
    out = tmp_path / "run"
    assert train(Train("TD3BC", str(tmp_path / "toy"), out, steps=3, settings=settings, workers=1)).exists()


def test_training_says_where_batches_come_from_when_memory_has_no_room_for_all(tmp_path, capsys):
    folder = str(write_packed(toy_dataset(35_000), tmp_path / "toy"))  # rows of 40 bytes

    def trained(out, memory_mb):
        settings = ("actor_hidden=(8,)", "critic_hidden=(8,)")
        train(Train("TD3BC", folder, tmp_path / out, 1, settings=settings, workers=1, memory_mb=memory_mb))

    trained("a", 2)
    assert "window" not in capsys.readouterr().out
    trained("b", 1)
    assert "toy has 35,000 transitions: batches come from a window of 26,112 that" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--memory-mb must be at least 1, got 0"):
        trained("c", 0)


def test_a_guard_is_calibrated_on_the_file_as_on_memory(tmp_path):
    data = toy_dataset()
    there = open_packed(write_packed(data, tmp_path / "toy"))
    agent = tiny(TD3BC, data).learn_offline(data, 5)
    agent.export_onnx(tmp_path / "deploy")
    found = []
    for source in (data, there):
        guard = Disagreement(agent.write_guard(source, tmp_path / "deploy", 0.9, rows=100))
        found.append(guard.metadata["calibration"])
    assert found[0] == found[1]

"""Data larger than memory: what the window over the file holds, and that training cannot tell how it got there."""

import gc
import threading

import numpy as np
import pytest
import torch

from tests.support.data import ACT, LENGTH, OBS, ToyEnv, assert_same_state, tiny, toy_dataset
from tests.support.tape import Tape
from zoo.agents import ASAC, AWAC, CAR, CQL, IQL, SPOT, TD3, TD3BC, TD3BCSA, Agent, ReBRAC
from zoo.agents.core import window
from zoo.agents.core.replay import Layout
from zoo.agents.core.window import Window
from zoo.agents.loop.engine import Engine
from zoo.datasets.packed import PackedDataset, open_packed
from zoo.datasets.packing import write_packed

ROWS, PIECE, PIECES = 210, 6, 5
DATA = toy_dataset(ROWS, rewards=np.arange(ROWS))  # a row's reward is its index
COLUMNS = ("observations", "actions", "rewards", "next_observations", "terminations")
EVERY_COLUMN = (*COLUMNS, "next_actions", "next_action_valid", "trusted")


@pytest.fixture(autouse=True)
def few_pieces(monkeypatch):
    monkeypatch.setattr(window, "PIECES", PIECES)


@pytest.fixture
def there(tmp_path) -> PackedDataset:
    """The data in a file, with room in memory for some thirty rows."""
    write_packed(DATA, tmp_path / "toy")
    return open_packed(tmp_path / "toy", memory=PIECE * PIECES * 4 * (2 * OBS + ACT + 2))


def opened(there: PackedDataset, columns=COLUMNS, **position) -> Window:
    return Window(there, Layout(columns, OBS, ACT), torch.device("cpu"), torch.float32, PIECE, **position)


def indices(table: Window) -> np.ndarray:
    """Which rows of the dataset lie in the table."""
    rewards = table.rows[:, table.layout.slices["rewards"]]
    return rewards.flatten().numpy().astype(int)


# What it holds


def test_every_row_of_the_window_is_a_whole_row_of_the_data(there):
    table = opened(there, EVERY_COLUMN)
    trusted = np.arange(ROWS) % 3 == 0
    table.choose("trusted", torch.from_numpy(trusted))
    for _ in range(2 * ROWS // PIECE):  # two passes, with pieces that go round the end
        where, batch = indices(table), table.layout.unpack(table.rows)
        for name in EVERY_COLUMN[:-1]:
            assert np.array_equal(getattr(batch, name).numpy(), DATA.column(name)[where]), name
        assert np.array_equal(batch.trusted.numpy(), trusted[where])
        table.advance(PIECE)


def test_a_pass_brings_every_row_in_once_but_for_those_of_less_than_a_piece(there):
    table = opened(there)
    pieces = ROWS // 4  # of 4 rows: two are left over in each pass
    table.piece = 4
    for lap in range(3):
        seen = np.concatenate([table.indices(lap * pieces + turn) for turn in range(pieces)])
        assert len(np.unique(seen)) == len(seen) == 4 * pieces


def test_over_many_passes_every_row_is_drawn_as_often_as_any_other(there):
    agent = tiny(TD3BC, there)
    table, passes = agent.offline_table(there), 60
    drawn = np.zeros(ROWS)
    batches = passes * ROWS // 16
    for _ in range(batches):
        table.advance(16)
        drawn += np.bincount(agent.sample(table).rewards.numpy().astype(int), minlength=ROWS)
    assert drawn.sum() == 16 * batches
    # A row is there for about 30 batches a pass, of which each draws it with probability 16 / 30: a mean of 60 draws
    # whose variance is that of a binomial variable, at most.
    assert abs(drawn - passes).max() < 5 * np.sqrt(passes)


def test_rows_next_to_each_other_come_in_together_and_pieces_in_any_order(there):
    first = [opened(there).indices(turn)[0] for turn in range(ROWS // PIECE)]
    assert len(set(np.diff(first))) > ROWS // PIECE // 2


def test_seeds_have_their_own_orders(there):
    assert not np.array_equal(indices(opened(there, seed=0)), indices(opened(there, seed=1)))


@pytest.mark.parametrize("drawn", [0, 5, 6, 100, 1000])
def test_a_window_that_is_opened_later_holds_what_one_that_moved_there_does(there, drawn):
    moved = opened(there)
    for _ in range(drawn):
        moved.advance(1)
    assert torch.equal(moved.rows, opened(there, drawn=drawn).rows)


def test_it_moves_by_a_piece_when_so_many_rows_are_drawn(there):
    table = opened(there)
    before = table.rows.clone()
    table.advance(PIECE - 1)
    assert torch.equal(table.rows, before)
    table.advance(1)
    assert (table.rows != before).any(dim=1).view(PIECES, PIECE).sum(1).tolist() == [PIECE, 0, 0, 0, 0]


def trained(agent: Agent, engine: Engine, there: PackedDataset) -> Agent:
    table = agent.offline_table(there)
    for _ in range(30):
        table.advance(agent.config.batch_size)
        engine.update(lambda: agent.sample(table))
    return agent


def test_an_engine_that_replays_sees_the_rows_that_came_in(there):
    one_by_one, recorded, tape = tiny(IQL, there), tiny(IQL, there), Tape()
    trained(one_by_one, Engine(one_by_one), there)
    trained(recorded, Engine(recorded, tape), there)
    assert tape.replayed > 20
    assert_same_state(one_by_one, recorded)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_graphs_see_the_rows_that_came_in(there):
    on_gpu = {"device": "cuda", "dtype": torch.float64}
    one_by_one, recorded = tiny(IQL, there, **on_gpu), tiny(IQL, there, **on_gpu)
    trained(one_by_one, Engine(one_by_one), there)
    trained(recorded, Engine.of(recorded), there)
    for expected, found in zip(one_by_one.parameters(), recorded.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


# Training


@pytest.mark.parametrize("cls", [TD3BC, ReBRAC, SPOT, AWAC, CQL, TD3BCSA])
def test_training_goes_on_from_a_checkpoint_bit_for_bit(tmp_path, there, cls):
    options = {"trust": "return"} if cls is TD3BCSA else {}
    straight = tiny(cls, there, **options).learn_offline(there, 20)
    path = tiny(cls, there, **options).learn_offline(there, 13).save(tmp_path / "half")
    assert_same_state(straight, cls.load(path).learn_offline(there, 7))


def test_a_share_of_the_data_in_online_batches_moves_the_window_on(there, monkeypatch):
    moved = []
    monkeypatch.setattr(Window, "advance", lambda self, rows: moved.append(rows))
    agent = tiny(TD3, there, offline_ratio=0.25).learn_offline(there, 9)
    agent.finetune_online(ToyEnv(), LENGTH, dataset=there)
    assert moved == 9 * [16] + LENGTH * [4]
    assert agent.offline_table(there).drawn == sum(moved)  # where a later call goes on


def test_asac_draws_from_all_of_the_file_as_from_memory(there):
    from_memory, from_file = (tiny(ASAC, source).learn_offline(source, 10) for source in (DATA, there))
    assert_same_state(from_memory, from_file)


@pytest.mark.parametrize("mode", ["part", "all"])
def test_an_online_buffer_begins_with_rows_of_all_of_the_data(there, mode):
    def replay(source):
        agent = tiny(TD3BC, source, online_buffer=mode, part_episodes=3)
        return agent.finetune_online(ToyEnv(), 0, dataset=source).replay

    assert torch.equal(replay(there).rows, replay(DATA).rows)


def test_a_filter_looks_at_all_of_the_data(there):
    ssar = tiny(TD3BCSA, there, trust="iql", reward_shift=-100.0)
    assert ssar.offline_table(there).size < ROWS
    ssar.learn_offline(there, 1)
    kept = ssar.offline_table(there)
    ssar.annotate(kept, there)
    whole = ssar.offline_table(DATA)
    ssar.annotate(whole, DATA)
    assert 0 < whole.column("trusted").sum() < ROWS
    assert torch.equal(kept.column("trusted"), whole.column("trusted"))


def test_car_proposes_its_threshold_from_all_of_the_data(there):
    car = tiny(CAR, there).learn_offline(there, 5)
    noise = car.proposing.generator.get_state()
    from_file = car.propose_eps_ood(there)
    car.proposing.generator.set_state(noise)
    assert from_file == pytest.approx(car.propose_eps_ood(DATA), rel=1e-6)


# Refusals


def test_what_needs_a_column_of_all_rows_is_told_where_they_are(there):
    with pytest.raises(ValueError, match="toy is left in its file, and this asks for all of its rewards at once"):
        opened(there).column("rewards")
    with pytest.raises(ValueError, match="toy is left in its file, which is only read"):
        opened(there).append_rows(torch.zeros(1, 10))


def test_a_file_that_is_cut_while_it_is_open_stops_the_training(tmp_path, there):
    agent = tiny(TD3BC, there)
    path = tmp_path / "toy" / "rows.f32"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(OSError, match="the file of toy became shorter while it was read: write it again"):
        agent.learn_offline(there, 100)


def test_a_column_that_the_file_does_not_have_is_named(there):
    class Unknown(TD3):
        columns = (*COLUMNS, "leaves")

    with pytest.raises(KeyError, match="toy has no column leaves in its file"):
        tiny(Unknown, there).learn_offline(there, 1)


def test_no_thread_is_left_when_the_training_is_over(there):
    tiny(TD3BC, there).learn_offline(there, 3)
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("zoo-window"):
            thread.join(5.0)
            assert not thread.is_alive()

"""What an online buffer begins with, how it grows and forgets, and what it asks for."""

import numpy as np
import pytest
import torch

from tests.support.data import LENGTH, ToyEnv, assert_same_state, prepared, tiny, toy_dataset
from zoo.agents import SPOT, TD3BC, TD3BCSA

# One episode of 7 for each number, which is its reward and, offline, above all rewards of the environment.
EACH = (20.0, 50.0, 10.0, 50.0, 30.0)
ROWS = LENGTH * len(EACH)
BUFFER = 10


@pytest.fixture(scope="module")
def data():
    return toy_dataset(rows=ROWS, rewards=np.repeat(EACH, LENGTH))


def agent(data, mode: str, **settings) -> TD3BC:
    return tiny(TD3BC, data, **({"online_buffer": mode, "buffer_size": BUFFER} | settings))


def begun(data, mode: str, **settings) -> TD3BC:
    """An agent whose online buffer has begun, before its first step."""
    return agent(data, mode, **settings).finetune_online(ToyEnv(), 0, dataset=data)


def rewards(td3: TD3BC) -> list[float]:
    return td3.replay.column("rewards").tolist()


# What it begins with


def test_all_begins_with_the_whole_dataset_and_room_for_the_new(data):
    td3 = begun(data, "all")
    assert (td3.replay.size, td3.replay.capacity, td3.replay.next) == (ROWS, ROWS + BUFFER, ROWS)
    for name in ("observations", "actions", "rewards", "next_observations", "terminations"):
        assert np.array_equal(td3.replay.column(name).numpy(), data.column(name).astype(np.float32))


@pytest.mark.parametrize(
    ("episodes", "kept"),
    [(1, [1]), (3, [1, 3, 4]), (50, [0, 1, 2, 3, 4])],  # the first of equals
)  # fmt: skip
def test_part_begins_with_the_episodes_of_highest_return(data, episodes, kept):
    td3 = begun(data, "part", part_episodes=episodes)
    assert rewards(td3) == np.repeat([EACH[e] for e in kept], LENGTH).tolist()
    assert td3.replay.capacity == LENGTH * len(kept) + BUFFER
    first = td3.replay.column("observations")[:LENGTH].numpy()
    assert np.array_equal(first, data.observations[LENGTH * kept[0] : LENGTH * (kept[0] + 1)].astype(np.float32))


def test_part_goes_by_the_sum_and_not_by_the_mean_of_an_episodes_rewards():
    rewards_ = [1.0] * LENGTH + [2.0] * 3  # returns 7 and 6: the second episode is cut short
    short = toy_dataset(rows=10, rewards=np.array(rewards_))
    assert rewards(begun(short, "part", part_episodes=1)) == [1.0] * LENGTH


def test_subset_begins_with_the_trusted_rows(data):
    settings = {"online_buffer": "subset", "buffer_size": BUFFER, "min_return": 29.0 * LENGTH}
    ssar = tiny(TD3BCSA, data, **settings).finetune_online(ToyEnv(), 2, dataset=data)
    assert ssar.replay.column("rewards")[:-2].tolist() == [50.0] * 2 * LENGTH + [30.0] * LENGTH
    assert ssar.replay.column("trusted").tolist() == [1.0] * (3 * LENGTH + 2)
    assert ssar.replay.capacity == 3 * LENGTH + BUFFER


@pytest.mark.parametrize("mode", ["half", "none"])
def test_half_and_none_begin_empty(data, mode):
    td3 = begun(data, mode)
    assert (td3.replay.size, td3.replay.capacity) == (0, BUFFER)


# What the batches hold


@pytest.mark.parametrize("batch_size", [16, 6])
def test_half_takes_exactly_half_of_each_batch_from_the_data(data, batch_size):
    td3, seen = agent(data, "half", batch_size=batch_size), []
    td3.gradient_step = lambda batch: seen.append((len(batch.rewards), int((batch.rewards >= 10.0).sum()))) or {}
    td3.finetune_online(ToyEnv(), 4, dataset=data)
    assert seen == [(batch_size, batch_size // 2)] * 4


@pytest.mark.parametrize("mode", ["all", "part"])
def test_all_and_part_draw_uniformly_from_old_and_new(data, mode):
    td3, seen = agent(data, mode, batch_size=500, part_episodes=2), []
    td3.gradient_step = lambda batch: seen.append((batch.rewards >= 10.0).double().mean().item()) or {}
    td3.finetune_online(ToyEnv(), BUFFER, dataset=data)
    first = ROWS if mode == "all" else 2 * LENGTH
    expected = [first / (first + n) for n in range(1, BUFFER + 1)]
    assert seen == pytest.approx(expected, abs=0.1)  # deviation at most 0.022


def test_none_learns_from_its_own_transitions_alone_and_asks_for_no_dataset(data):
    td3, seen = agent(data, "none", learning_starts=2), []
    td3.gradient_step = lambda batch: seen.append(batch.rewards.max().item()) or {}
    td3.finetune_online(ToyEnv(), 6)
    assert len(seen) == 4
    assert max(seen) <= 1.0
    assert td3.replay.size == 6


@pytest.mark.parametrize(("mode", "more"), [("all", {}), ("part", {"part_episodes": 3})])
def test_a_full_buffer_forgets_its_oldest_and_can_draw_every_row_it_has(data, mode, more):
    td3 = agent(data, mode, **more)
    td3.gradient_step = lambda batch: {}
    td3.finetune_online(ToyEnv(), BUFFER + 4, dataset=data)
    first = ROWS if mode == "all" else 3 * LENGTH
    assert (td3.replay.size, td3.replay.capacity, td3.replay.next) == (first + BUFFER, first + BUFFER, 4)
    old = np.array(rewards(td3)) >= 10.0
    assert old.tolist() == [False] * 4 + [True] * (first - 4) + [False] * BUFFER
    drawn = td3.sample(td3.replay, 3000).rewards
    every = td3.replay.column("rewards")
    assert set(drawn.tolist()) == set(every.tolist())
    indices = td3.batches.indices("batch", (3000,), td3.replay.size)
    assert sorted(set(indices.tolist())) == list(range(first + BUFFER))


# What it asks for


@pytest.mark.parametrize("mode", ["all", "part"])
def test_without_the_dataset_a_buffer_that_begins_with_it_says_so(data, mode):
    message = rf"TD3BC begins its online buffer with the dataset \(online_buffer='{mode}'\): .*dataset=dataset"
    with pytest.raises(ValueError, match=message):
        agent(data, mode).finetune_online(ToyEnv(), 1)


def test_without_the_dataset_half_says_how_many_rows_it_needs(data):
    with pytest.raises(ValueError, match=r"TD3BC takes 8 of 16 rows of each online batch from the offline data"):
        agent(data, "half").finetune_online(ToyEnv(), 1)


def test_an_unknown_mode_is_refused(data):
    with pytest.raises(ValueError, match=r"online_buffer must be one of 'half', 'all', .*'none', got 'most'"):
        agent(data, "most")


@pytest.mark.parametrize("cls", [SPOT, TD3BCSA])
@pytest.mark.parametrize("mode", ["all", "part"])
def test_a_buffer_that_began_with_data_is_saved_and_then_needs_the_dataset_no_more(cls, mode, data, tmp_path):
    def begin():
        agent = prepared(cls, data, online_buffer=mode, part_episodes=2, buffer_size=BUFFER)
        return agent.finetune_online(ToyEnv(), BUFFER + 2, dataset=data)

    straight, saved = begin(), begin()
    loaded = cls.load(saved.save(tmp_path / "half"))
    assert torch.equal(loaded.replay.rows, saved.replay.rows)
    assert (loaded.replay.size, loaded.replay.next) == (saved.replay.size, saved.replay.next)
    straight.finetune_online(ToyEnv(), 5, dataset=data)
    assert_same_state(straight, loaded.finetune_online(ToyEnv(), 5))


def test_half_still_needs_the_dataset_after_resuming(data, tmp_path):
    path = agent(data, "half").finetune_online(ToyEnv(), 2, dataset=data).save(tmp_path / "half")
    with pytest.raises(ValueError, match="takes 8 of 16 rows"):
        TD3BC.load(path).finetune_online(ToyEnv(), 1)


def test_the_papers_buffers_are_the_defaults():
    assert [cls.Config().online_buffer for cls in (SPOT, TD3BCSA, TD3BC)] == ["all", "part", "half"]
    assert TD3BCSA.Config().part_episodes == 50

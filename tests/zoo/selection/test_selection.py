"""Rankings, the tournament of critics, the bandit, and the command around them."""

import numpy as np
import pytest
import torch

from tests.support.data import tiny, toy_dataset
from zoo.agents import BC, IQL, PARS, TD3BC
from zoo.cli.select import Select, selection_report
from zoo.selection import bvft
from zoo.selection.bandit import sequential_halving
from zoo.selection.candidates import Candidate, find_candidates, first_rows
from zoo.selection.fqe import FQEConfig
from zoo.selection.ranking import Ranking, agreement, opinions, rank


def chain(gamma: float = 0.5, rows: int = 4_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ring of four states that pays 1 in state 0: states and successors (N,), and the true q of each row."""
    states = np.random.default_rng(0).integers(0, 4, rows)
    after = (states + 1) % 4
    values = np.array([gamma ** ((4 - s) % 4) for s in range(4)]) / (1 - gamma**4)
    return states, after, values


def test_the_right_critic_wins_the_tournament():
    states, after, values = chain()
    rewards = (states == 0).astype(float)
    wrong = [values[::-1].copy(), np.full(4, 3.0), values + np.array([0.0, 1.0, 0.0, 0.0])]
    tables = [values, *wrong]
    q = np.stack([table[states] for table in tables])
    backups = np.stack([rewards + 0.5 * table[after] for table in tables])
    losses = bvft.losses(q, backups)
    assert losses[0] == pytest.approx(0.0, abs=1e-12)
    assert (losses[1:] > 0.2).all()


def test_a_pairs_error_is_worked_out_by_hand():
    q, backup = np.array([1.0, 1.0, 5.0]), np.array([2.0, 4.0, 5.0])
    # cells {0, 1} and {2}: projections 3, 3, 5; errors 2, 2, 0
    assert bvft.pair_error(q, backup, np.array([0, 0, 1]), np.array([0, 0, 0])) == pytest.approx(np.sqrt(8 / 3))
    # the other critic splits the first cell: projections 2, 4, 5; errors 1, 3, 0
    assert bvft.pair_error(q, backup, np.array([0, 0, 1]), np.array([0, 1, 1])) == pytest.approx(np.sqrt(10 / 3))


SHIFTED = {"reward_scale": 5.0, "reward_shift": 2.0, "q_min": -9.0}


@pytest.mark.parametrize(("cls", "settings"), [(PARS, SHIFTED), (IQL, {"return_range": 100.0})])
def test_opinions_are_in_the_units_of_the_rewards(cls, settings):
    data = toy_dataset()
    candidate = Candidate("one", tiny(cls, data, **settings))
    scale, shift = candidate.reward_units()
    table = candidate.agent.offline_table(data)
    batch = candidate.agent.layout.unpack(table.rows)
    seen = candidate.agent.scaled_rewards(batch).numpy()
    assert seen == pytest.approx(scale * data.rewards + shift, rel=1e-5)
    raw = candidate.agent.policy.evaluate(*(torch.tensor(data.column(name)) for name in ("observations", "actions")))
    expected = (raw.detach().numpy() - shift / (1 - 0.99)) / scale
    assert candidate.q(data.observations, data.actions) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_distance_is_zero_for_a_policy_that_repeats_the_log():
    data = toy_dataset()

    class Parrot(Candidate):
        def actions(self, observations):
            rows = {row.tobytes(): action for row, action in zip(data.observations, data.actions, strict=True)}
            default = np.zeros(2, np.float32)
            return np.stack([rows.get(row.tobytes(), default) for row in observations])

    agents = [tiny(TD3BC, data, seed=seed) for seed in (0, 1)]
    facts = opinions([Parrot("parrot", agents[0]), Candidate("other", agents[1])], data)
    assert facts.distance[0].max() == 0.0
    assert facts.distance[1].mean() > 0.1


def test_a_ranking_says_what_it_cannot_tell_apart():
    ranking = Ranking("fqe", ("a", "b", "c"), np.array([5.0, 9.0, 8.5]), "return", np.array([0.1, 0.4, 0.4]))
    assert ranking.order.tolist() == [1, 2, 0]
    assert ranking.alike().tolist() == [False, True, True]  # 0.5 apart, 1.96 * 0.566; 4 apart, 1.96 * 0.412
    assert agreement(ranking, np.array([10.0, 40.0, 50.0])) == (pytest.approx(0.5), pytest.approx(0.25))
    sure = Ranking("bvft", ("a", "b"), np.array([1.0, 2.0]), "loss")
    assert sure.alike().tolist() == [False, True]


def test_the_bandit_halves_and_spends_what_it_may():
    truth, asked = np.array([1.0, 4.0, 3.0, 2.0]), []

    def run(index, episodes, seed):
        asked.append((index, episodes, seed))
        return np.full(episodes, truth[index])

    found = sequential_halving(run, [0.0, 0.0, 0.0, 0.0], 16)
    assert found.order == [1, 2, 3, 0]
    assert found.episodes == 16
    assert [len(r) for r in found.returns] == [2, 6, 6, 2]  # two each, then four each of the better half
    assert asked[-2:] == [(1, 4, 102), (2, 4, 102)]  # the seeds go on, and both run the same


def test_with_fewer_episodes_than_candidates_the_prior_decides_who_runs():
    found = sequential_halving(lambda k, n, seed: np.full(n, float(k)), [0.1, 0.9, 0.5], 2)
    assert found.order[0] == 2
    assert [len(r) for r in found.returns] == [0, 1, 1]
    with pytest.raises(ValueError, match="--rollouts must be at least 1, got 0"):
        sequential_halving(lambda k, n, seed: np.zeros(n), [0.0], 0)


def test_candidates_are_found_in_runs_and_populations(tmp_path):
    data = toy_dataset()
    tiny(TD3BC, data).save(tmp_path / "a" / "final.zip")
    tiny(PARS, data, population=2).save(tmp_path / "b" / "final.zip")
    names = [candidate.name for candidate in find_candidates([tmp_path], device="cpu")]
    assert names == [str(tmp_path / "a"), f"{tmp_path / 'b'}[0]", f"{tmp_path / 'b'}[1]"]
    with pytest.raises(ValueError, match="two candidates or more, got 1"):
        find_candidates([tmp_path / "a"])
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        find_candidates([tmp_path / "none"])


def test_first_rows_begin_the_episodes():
    assert first_rows(np.array([0, 0, 0, 1, 2, 2])).tolist() == [0, 3, 4]


def test_a_method_that_nobody_knows_is_named():
    with pytest.raises(ValueError, match="no method 'luck'; choose of fqe, bvft"):
        rank([], None, ("luck",))


def test_all_methods_rank_all_agents():
    data = toy_dataset()
    candidates = [Candidate(cls.__name__, tiny(cls, data)) for cls in (TD3BC, IQL, PARS, BC)]
    rankings = rank(candidates, data, config=FQEConfig(steps=5, hidden=(8,), ensemble=2), device="cpu")
    assert [ranking.method for ranking in rankings] == ["fqe", "bvft", "td-error", "first-q", "action-distance"]
    assert all(np.isfinite(ranking.scores[:3]).all() for ranking in rankings)
    for ranking in rankings:  # cloning has no critics to ask
        own = ranking.method in ("bvft", "td-error", "first-q")
        assert np.isfinite(ranking.scores[3]) != own
        assert ("no critics" in str(ranking)) == own


def test_the_command_says_what_it_chose_and_how_sure_that_is(tmp_path):
    import zoo

    data = zoo.load_dataset("hopper-medium-replay")
    small = {"actor_hidden": (8,), "critic_hidden": (8,), "device": "cpu"}
    for seed in range(3):
        TD3BC(data, seed=seed, **small).save(tmp_path / str(seed) / "final.zip")
    command = {"dataset": "hopper-medium-replay", "steps": 3, "device": "cpu"}
    text = selection_report(Select((tmp_path,), **command))
    assert "3 candidates on 100,541 rows of hopper-medium-replay" in text
    assert f"choice: {tmp_path}" in text
    assert "An estimate from logs may be wrong" in text
    text = selection_report(Select((tmp_path,), methods=("td-error",), env="dataset", rollouts=4, **command))
    assert "4 episodes, shared out by sequential halving" in text
    assert text.splitlines()[-1].startswith(f"choice: {tmp_path}")

"""Curves and checkpoints of runs that are interrupted: nothing lost, nothing doubled, the same grid."""

import itertools
from pathlib import Path

import pytest
from stable_baselines3.common.callbacks import BaseCallback

from tests.support.data import ToyEnv, assert_same_state, prepared, tiny, toy_dataset
from zoo.agents import CAR, SPOT, TD3BC, TD3BCSA
from zoo.evaluation.callbacks import Evaluation, Point, SaveLatest, append_point, lost_return, read_curve
from zoo.evaluation.known import known_scores
from zoo.evaluation.report import curve_summary

EVERY, STEPS = 4, 10


class KilledError(Exception):
    pass


class Kill(BaseCallback):
    """Raises at a step of the agent's clock."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        if self.model.num_timesteps == self.step:
            raise KilledError
        return True


def callbacks(out: Path, *more: BaseCallback, before: bool = False) -> list[BaseCallback]:
    """Evaluation and SaveLatest, with a killer between the two or behind them."""
    evaluation = Evaluation(ToyEnv, EVERY, out / "evaluations.csv", episodes=5)
    save = SaveLatest(out / "latest.zip", EVERY)
    return [evaluation, *more, save] if before else [evaluation, save, *more]


def run(out: Path, steps: int, *more: BaseCallback, before: bool = False, **settings) -> TD3BC:
    """As zoo train: from the start, or from out/latest.zip."""
    data, latest = toy_dataset(), out / "latest.zip"
    agent = TD3BC.load(latest, device="cpu") if latest.exists() else tiny(TD3BC, data, **settings)
    return agent.learn_offline(data, steps - agent.num_timesteps, callbacks(out, *more, before=before))


@pytest.mark.parametrize("before", [True, False], ids=["evaluated, not saved", "saved"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_killed_run_has_the_curve_of_one_that_was_not(tmp_path, step, before):
    whole = run(tmp_path / "whole", STEPS)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", STEPS, Kill(step), before=before)
    again = run(tmp_path / "killed", STEPS)
    assert_same_state(again, whole)
    curves = [(tmp_path / name / "evaluations.csv").read_text() for name in ("whole", "killed")]
    assert curves[0] == curves[1]
    assert [point.timesteps for point in read_curve(tmp_path / "killed" / "evaluations.csv")] == [4, 8, 10]
    (score,) = known_scores(again, tmp_path / "killed" / "evaluations.csv")
    assert score["timesteps"] == STEPS


def test_of_a_population_too(tmp_path):
    run(tmp_path / "whole", STEPS, population=2)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", STEPS, Kill(8), before=True, population=2)
    run(tmp_path / "killed", STEPS)
    for i in range(2):
        paths = [tmp_path / name / f"member_{i}" / "evaluations.csv" for name in ("whole", "killed")]
        assert paths[0].read_text() == paths[1].read_text()


def test_a_run_that_is_already_over_is_not_evaluated_again(tmp_path):
    run(tmp_path, STEPS)
    before = (tmp_path / "evaluations.csv").read_text()
    run(tmp_path, STEPS)
    assert (tmp_path / "evaluations.csv").read_text() == before


def test_online_the_grid_is_that_of_the_clock_though_environments_step_together(tmp_path):
    data = toy_dataset()
    agent = prepared(TD3BC, data, learning_starts=1).learn_offline(data, 3)
    agent.finetune_online(ToyEnv(), 7, callbacks(tmp_path), dataset=data)
    assert [point.timesteps for point in read_curve(tmp_path / "evaluations.csv")] == [
        3,
        4,
        8,
        10,
    ]  # 3: where it begins


@pytest.mark.parametrize(
    "rest", ["8,Fal", "8,False,1.0", "8,False,1.0,", "\n", "\0\0\0\0", '"8,False', "x,False,1.0,2.0,5\n", "8,,1,2,5\n"]
)
def test_a_row_that_was_cut_off_breaks_no_reader(tmp_path, rest):
    point = Point(4, False, 1.5, 0.5, 5)
    append_point(tmp_path / "curve.csv", point)
    with (tmp_path / "curve.csv").open("a") as file:
        file.write(rest)
    if rest.strip("\0\n"):
        with pytest.warns(UserWarning, match=r"curve\.csv: left out a damaged row"):
            assert read_curve(tmp_path / "curve.csv") == [point]
    else:
        assert read_curve(tmp_path / "curve.csv")[:1] == [point]


# Preparation


@pytest.mark.parametrize(
    ("cls", "settings"),
    [(SPOT, {"density_steps": 7}), (CAR, {"density_steps": 7}), (TD3BCSA, {"trust": "iql", "filter_steps": 7})],
)
@pytest.mark.parametrize("step", [1, 3, 5, 7])
def test_a_killed_preparation_goes_on_from_its_last_checkpoint_bit_for_bit(tmp_path, monkeypatch, cls, settings, step):
    data = toy_dataset()
    whole = tiny(cls, data, **settings).learn_offline(data, 5)
    count, prepare = itertools.count(1), cls.prepare

    def killed(self, table):
        if next(count) == step:
            raise KilledError
        return prepare(self, table)

    latest = tmp_path / "latest.zip"
    with monkeypatch.context() as patch:
        patch.setattr(cls, "prepare", killed)
        with pytest.raises(KilledError):
            tiny(cls, data, **settings).learn_offline(data, 5, SaveLatest(latest, 2))
    assert latest.exists() == (step > 2)
    agent = cls.load(latest, device="cpu") if step > 2 else tiny(cls, data, **settings)
    assert agent.prepared == 2 * ((step - 1) // 2)
    assert_same_state(agent.learn_offline(data, 5, SaveLatest(latest, 2)), whole)


def test_every_must_be_a_step(tmp_path):
    with pytest.raises(ValueError, match="every must be at least 1 step, got 0"):
        SaveLatest(tmp_path / "latest.zip", 0)


def curve(*returns: float, begin: Point | None = None, std: float = 0.0) -> list[Point]:
    online = [Point(100 + 10 * k, True, value, std) for k, value in enumerate(returns)]
    return [*([] if begin is None else [begin]), *online]


def test_a_fine_tuning_that_ends_below_its_beginning_says_so():
    assert "from 686.0 at step 100 to 512.0, the mean of the last 2" in lost_return(curve(686.0, 524.0, 500.0))
    assert "of the last 3 evaluations" in lost_return(curve(686.0, 999.0, 500.0, 510.0, 520.0))
    offline = Point(100, False, 686.0, 0.0)
    assert "from 686.0 at step 100 to 512.0" in lost_return(curve(512.0, begin=offline))
    # A standard error is sqrt(100^2 + 100^2) / sqrt(10) = 44.7.
    assert "2.0 standard errors" in lost_return(curve(1000.0, 1000.0 - 89.4, std=100.0))


@pytest.mark.parametrize(
    "points",
    [
        curve(686.0),  # nothing to compare with
        curve(512.0, 686.0),
        curve(-100.0, -90.0),
        curve(1000.0, 960.0, std=100.0),  # neither a standard error nor a twentieth
        [Point(100, False, 686.0, 0.0), Point(200, False, 512.0, 0.0)],  # offline
    ],
)
def test_one_that_does_not_says_nothing(points):
    assert lost_return(points) is None


class Worse(ToyEnv):
    """Pays less from evaluation to evaluation."""

    resets = 0

    def reset(self, **kwargs):
        Worse.resets += 1
        return super().reset(**kwargs)

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, -float(Worse.resets), *rest


def test_fine_tuning_is_evaluated_before_its_first_step_and_warns_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(Worse, "resets", 0)
    data, path = toy_dataset(), tmp_path / "evaluations.csv"
    agent = prepared(TD3BC, data)
    with pytest.warns(UserWarning, match=r"lost return: from -7.0 at step 0 to -17.5, .* the last 2 evaluations"):
        agent.finetune_online(ToyEnv(), 6, Evaluation(Worse, 4, path, episodes=1), dataset=data)
    assert [(p.timesteps, p.return_mean) for p in read_curve(path)] == [(0, -7.0), (4, -14.0), (6, -21.0)]
    assert "Fine-tuning has lost return" in "\n".join(curve_summary("toy", read_curve(path), 3))
    agent.learn_offline(data, 2, Evaluation(Worse, 4, tmp_path / "offline.csv", episodes=1))  # says nothing

"""MOOD: golden rewards on real physics, relabelling against what was logged, and the sets that come of it."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

import zoo
from zoo.cli import main as cli
from zoo.collecting.collect import collect, random_actor
from zoo.collecting.mood import collect as mood_collect
from zoo.collecting.mood.rewards import BASE, TARGETS, env_id, reward_functions
from zoo.collecting.mood.sets import Relabel, base_set, check_rewards, merge, objectives_of, recording
from zoo.collecting.recording import as_rows, read_episodes
from zoo.datasets.checks import DatasetKeyError, DatasetValueError

suite = pytest.importorskip("dm_control.suite")
pytest.importorskip("shimmy")

SIZES = {"cheetah": (17, 6), "walker": (24, 6), "quadruped": (78, 12), "humanoid": (67, 21)}  # the paper's table


def physics_of(domain: str):
    return suite.load(domain, BASE[domain]).physics


def at(domain: str, *, qvel: dict | None = None, height: float | None = None, measure=None, ctrl: float = 0.0):
    """A body in its reference pose with velocities by joint, raised until `measure` says `height`."""
    physics = physics_of(domain)
    root = physics.model.jnt_qposadr[physics.model.name2id("rootz", "joint")] if domain == "walker" else 2
    raised = 0.0 if height is None else height - measure(physics)
    with physics.reset_context():
        physics.data.qpos[root] += raised
        for joint, value in (qvel or {}).items():
            physics.named.data.qvel[joint] = value
    assert height is None or measure(physics) == pytest.approx(height)
    physics.data.ctrl[:] = ctrl
    return physics


# Rewards


@pytest.mark.parametrize(
    ("speed", "expected"),
    [
        (4.0, {"walk": 1.0, "run": 0.4, "walk_backward": 0.0, "run_backward": 0.0}),
        (1.0, {"walk": 0.5, "run": 0.1, "walk_backward": 0.0, "run_backward": 0.0}),
        (-1.0, {"walk": 0.0, "run": 0.0, "walk_backward": 0.5, "run_backward": 0.1}),
        (-30.0, {"walk": 0.0, "run": 0.0, "walk_backward": 1.0, "run_backward": 1.0}),
    ],
)
def test_cheetah_is_paid_by_its_speed(speed, expected):
    physics = at("cheetah", qvel={"rootx": speed})
    assert {task: reward(physics) for task, reward in reward_functions("cheetah").items()} == pytest.approx(expected)


def test_walker_runs_at_half_the_speed():
    physics = at("walker", qvel={"rootx": 4.0}, height=1.3, measure=lambda p: p.torso_height())
    rewards = reward_functions("walker")
    assert rewards["run"](physics) == pytest.approx(0.58333, abs=1e-5)  # (5 * 4/8 + 1) / 6, standing upright
    assert rewards["walk"](physics) == pytest.approx(1.0)
    assert rewards["stand"](physics) == pytest.approx(1.0)


def test_walker_below_its_height():
    physics = at("walker", height=1.0, measure=lambda p: p.torso_height())
    assert reward_functions("walker")["stand"](physics) == pytest.approx((3 * 0.774264 + 1) / 4, abs=1e-6)


@pytest.mark.parametrize(("momentum", "reward"), [(5.0, 0.5), (-5.0, 0.0), (0.0, 0.0), (25.0, 1.0)])
def test_walker_spin_is_a_tenth_of_the_angular_momentum(momentum, reward):
    turning = at("walker", qvel={"rooty": 1.0})
    physics = at("walker", qvel={"rooty": momentum / turning.named.data.subtree_angmom["torso"][1]})  # it is linear
    assert reward_functions("walker")["spin"](physics) == pytest.approx(reward)


def test_quadruped_upright_and_still():
    physics = at("quadruped")
    rewards = {task: reward(physics) for task, reward in reward_functions("quadruped").items()}
    assert rewards["walk"] == pytest.approx(0.5)
    assert rewards["run"] == pytest.approx(0.5)
    assert rewards["stand"] == pytest.approx(1.0)


def test_quadruped_jump_at_half_a_metre():
    measure = lambda p: float(p.named.data.sensordata["center_of_mass"][2])  # noqa: E731
    jump = reward_functions("quadruped")["jump"]
    assert jump(at("quadruped", height=0.5, measure=measure)) == pytest.approx(0.75)
    assert jump(at("quadruped", height=1.2, measure=measure)) == pytest.approx(1.0)


def test_quadruped_on_its_back_earns_nothing():
    physics = physics_of("quadruped")
    with physics.reset_context():
        physics.named.data.qpos["root"] = [0, 0, 3, 0, 1, 0, 0]  # half a turn around x
    assert [reward(physics) for reward in reward_functions("quadruped").values()] == pytest.approx([0, 0, 0, 0])


@pytest.mark.parametrize(
    ("height", "speed", "ctrl", "expected"),
    [
        (1.2, 0.0, 0.0, 0.471487),
        (1.5, 0.0, 1.0, 0.8),
        (1.5, 0.0, -1.0, 0.8),
        (1.5, 1.0, 0.0, (0.562341 + 1) / 2),
    ],
)
def test_humanoid_stands(height, speed, ctrl, expected):
    velocity = {"root": [speed, 0, 0, 0, 0, 0]}
    physics = at("humanoid", qvel=velocity, height=height, measure=lambda p: p.head_height(), ctrl=ctrl)
    assert reward_functions("humanoid")["stand"](physics) == pytest.approx(expected, abs=1e-6)


def test_the_papers_table_has_fifteen_tasks_in_four_domains():
    assert {domain: len(tasks) for domain, tasks in TARGETS.items()} == {
        "cheetah": 4,
        "walker": 4,
        "quadruped": 4,
        "humanoid": 3,
    }
    assert sum(len(objectives_of(domain)) for domain in TARGETS) == 18  # base datasets
    for domain in TARGETS:
        assert reward_functions(domain).keys() == TARGETS[domain].keys()


# Environments and relabelling


def record(path, domain: str, task: str, steps: int, limit: int = 1000, seed: int = 0):
    infos = tuple(f"reward/{name}" for name in TARGETS[domain])
    make = lambda: TimeLimit(zoo.make_env(env_id(domain, task)), limit)  # noqa: E731
    about = {"env_id": env_id(domain, task)}
    return collect(make, random_actor, path, steps, about, seed=seed, infos=infos)


@pytest.fixture(scope="module", params=TARGETS)
def recorded(request, tmp_path_factory):
    """One domain, its last task, and 1,100 random steps: a whole episode and a cut one."""
    domain = request.param
    path = tmp_path_factory.mktemp("mood") / f"{domain}.hdf5"
    return domain, record(path, domain, list(TARGETS[domain])[-1], 1100)


def test_an_episode_is_a_thousand_steps_without_termination(recorded):
    domain, path = recorded
    whole, cut = read_episodes(path)
    assert (len(whole), len(cut)) == (1000, 100)
    assert (whole["observations"].shape[1], whole["actions"].shape[1]) == SIZES[domain]
    assert not whole["terminals"].any()
    assert np.flatnonzero(whole["timeouts"]).tolist() == [999]
    np.testing.assert_array_equal(whole["next_observations"][:-1], whole["observations"][1:])
    np.testing.assert_array_equal(whole["infos/next_qpos"][:-1], whole["infos/qpos"][1:])
    task = list(TARGETS[domain])[-1]
    np.testing.assert_allclose(whole["rewards"], whole[f"infos/reward/{task}"], atol=1e-7)
    assert whole["rewards"].min() >= 0.0
    assert whole["rewards"].max() <= 1.0


def test_rewards_from_the_recorded_state_are_those_logged_at_collection(recorded):
    domain, path = recorded
    _, rows = read_episodes(path)
    rewards = Relabel(domain)(rows)
    assert rewards.keys() == TARGETS[domain].keys()
    assert check_rewards(domain, rows, rewards) <= 1e-6
    assert max(column.max() for column in rewards.values()) > 0.0


def test_a_state_that_is_not_the_recorded_one_is_noticed(recorded):
    domain, path = recorded
    _, rows = read_episodes(path)
    rows = rows[:5].copy()
    rows["infos/next_qvel"][3] += 0.1
    rows["infos/next_qpos"][3] += 0.1
    with pytest.raises(DatasetValueError, match="from the recorded state differs by"):
        check_rewards(domain, rows, Relabel(domain)(rows))


def test_a_step_can_be_run_again_from_the_recorded_state(recorded):
    domain, path = recorded
    _, rows = read_episodes(path)
    env = zoo.make_env(env_id(domain, next(iter(TARGETS[domain]))))
    env.reset(seed=0)
    physics = env.unwrapped.physics
    with physics.reset_context():
        physics.data.qpos[:], physics.data.qvel[:] = rows["infos/qpos"][2], rows["infos/qvel"][2]
        if physics.model.na:
            physics.data.act[:] = rows["infos/act"][2]
    env.step(rows["actions"][2])
    np.testing.assert_allclose(physics.data.ctrl, rows["infos/ctrl"][2], atol=1e-12)
    np.testing.assert_allclose(physics.data.qpos, rows["infos/next_qpos"][2], atol=1e-3)  # contacts start cold


def test_the_same_seed_begins_and_goes_on_the_same(recorded):
    domain, _ = recorded
    traces = []
    for _ in range(2):
        env = zoo.make_env(env_id(domain, next(iter(TARGETS[domain]))))
        first, _ = env.reset(seed=3)
        traces.append([first, *(env.step(np.full(env.action_space.shape, 0.3, np.float32))[0] for _ in range(3))])
    np.testing.assert_array_equal(*traces)


def test_humanoid_rewards_without_the_control_are_too_high(tmp_path):
    _, rows = read_episodes(record(tmp_path / "h.hdf5", "humanoid", "stand", 40, limit=20))
    still = rows.copy()
    still["infos/ctrl"] = 0.0
    relabel = Relabel("humanoid")
    ratio = relabel(still)["stand"] / relabel(rows)["stand"]
    assert ratio.min() > 1.01
    assert ratio.max() <= 1.25


def test_quadruped_actions_reach_the_ends_of_the_native_range():
    env = zoo.make_env(env_id("quadruped", "walk"))
    env.reset(seed=0)
    physics = env.unwrapped.physics
    for end, column in ((-1.0, 0), (1.0, 1)):
        env.step(np.full(12, end, np.float32))
        np.testing.assert_allclose(physics.data.ctrl, physics.model.actuator_ctrlrange[:, column])


def test_relabelling_needs_the_state():
    rows = as_rows({"rewards": np.zeros(2), "infos/ctrl": np.zeros((2, 6))})
    with pytest.raises(DatasetKeyError, match="relabelling needs infos/next_qpos, infos/next_qvel: record with"):
        Relabel("walker")(rows)


def test_a_domain_or_task_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no MOOD domain 'hopper'; there are cheetah, walker"):
        reward_functions("hopper")
    with pytest.raises(ValueError, match="walker has no task 'jump'; it has walk, run, stand, spin"):
        gym.make("mood/walker-walk-v0", task="jump")


# Sets


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """Cheetah: 2 seeds of 2 random episodes of 10 steps for each objective, half of them kept."""
    folder = tmp_path_factory.mktemp("mood")
    for number, objective in enumerate(objectives_of("cheetah")):
        for seed in (0, 1):
            task = objective if objective in TARGETS["cheetah"] else "run"
            path = recording(folder, "cheetah", objective, seed)
            record(path, "cheetah", task, 20, limit=10, seed=10 * number + seed)
    paths = merge(folder, ["cheetah"], [0, 1], keep=0.5, kinds=("same", "cross", "mixed"))
    return folder, {path.stem: zoo.load_dataset(path) for path in paths}


def test_every_target_has_its_own_every_others_and_the_mixed_set(merged):
    _, sets = merged
    assert len(sets) == 4 * (1 + 4 + 1)
    for target in TARGETS["cheetah"]:
        assert len(sets[f"mood-cheetah-{target}-same"]) == 20  # 2 of 4 episodes of 10 steps
        assert len(sets[f"mood-cheetah-{target}-mixed"]) == 100
        assert sets[f"mood-cheetah-{target}-mixed"].num_episodes == 10


def test_sets_of_a_target_share_rows_and_differ_in_rewards_alone(merged):
    _, sets = merged
    same, mixed = sets["mood-cheetah-run-same"], sets["mood-cheetah-run-mixed"]
    rows = {obs.tobytes(): reward for obs, reward in zip(mixed.observations, mixed.rewards, strict=True)}
    assert [rows[obs.tobytes()] for obs in same.observations] == same.rewards.tolist()
    other = sets["mood-cheetah-run_backward-from-run"]
    np.testing.assert_array_equal(other.observations, same.observations)
    forward, backward = same.rewards, other.rewards
    assert not (forward * backward).any()  # one of the two directions earns nothing
    assert forward.any()
    assert backward.any()


def test_a_set_names_the_environment_of_its_target(merged):
    _, sets = merged
    dataset = sets["mood-cheetah-walk_backward-from-rnd"]
    env = zoo.make_env(dataset)
    env.reset(seed=0)
    assert env.unwrapped.spec.id == "mood/cheetah-walk_backward-v0"
    assert dataset.provenance["target_return"] == 990.0


def test_sets_are_made_once_and_a_missing_recording_is_named(merged, tmp_path):
    folder, _ = merged
    path = folder / "mood-cheetah-run-same.hdf5"
    before = path.stat().st_mtime_ns
    assert path in merge(folder, ["cheetah"], [0, 1], keep=0.5, kinds=("same",))
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"cheetah-walk.hdf5 was made with {'keep': 0.5}, not {'keep': 1.0}"):
        merge(folder, ["cheetah"], [0, 1], keep=1.0, kinds=("same",))
    with pytest.raises(FileNotFoundError, match=r"walker-run-seed0.hdf5.*not collected yet"):
        base_set(tmp_path, "walker", "run", [0], keep=1.0)


# Collection


def test_an_objective_that_a_domain_has_not_is_named(tmp_path):
    with pytest.raises(ValueError, match="humanoid has no objective 'rnd'; it has walk, run, stand"):
        mood_collect.collect_objective(tmp_path, "humanoid", "rnd", 0, 10)


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        ({"steps": None}, [1_000_000] * 4 + [2_000_000]),  # the paper's table 6
        ({"steps": 300}, [300] * 4 + [600]),
        ({"steps": 300, "exploration_steps": 100}, [300] * 4 + [100]),
    ],
)
def test_exploration_takes_twice_the_steps_or_its_own(given, lengths, tmp_path, monkeypatch):
    collected = []
    monkeypatch.setattr(mood_collect, "collect_objective", lambda *about: collected.append(about) or tmp_path)
    mood_collect.collect_all(tmp_path, ["walker"], (), [3], **given)
    assert [about[2:] for about in collected] == list(zip((*TARGETS["walker"], "rnd"), [3] * 5, lengths, strict=True))


def test_an_environment_is_made_without_dm_controls_remarks():
    env_id = "zoo.collecting.mood.rewards:mood/cheetah-walk-v0"
    code = f"from zoo.evaluation.envs import make_env; make_env({env_id!r}).reset(seed=0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.slow
def test_the_commands_make_the_small_instance(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(mood_collect.SETTINGS, "learning_starts", 500)
    monkeypatch.setitem(mood_collect.SETTINGS, "batch_size", 16)
    common = [str(tmp_path), "--domains", "walker", "--seeds", "0"]
    for words in (["collect", *common, "--steps", "1000"], ["merge", *common, "--keep", "1"]):
        monkeypatch.setattr(sys, "argv", ["zoo", "data", "mood", *words])
        cli.main()
    assert "rewards from the physics differ by" in capsys.readouterr().out
    sets = sorted(path.stem for path in tmp_path.glob("*.hdf5"))
    assert len(sets) == 4 * 6
    mixed = zoo.load_dataset(tmp_path / "mood-walker-spin-mixed.hdf5")
    assert len(mixed) == 4 * 1000 + 2000  # exploration takes twice the steps
    assert mixed.episode_lengths().tolist() == [1000] * 6
    assert mixed.rewards.min() >= 0.0

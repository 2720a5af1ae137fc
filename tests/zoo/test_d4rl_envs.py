"""D4RL's mazes, hands and kitchens: spaces, rewards, ends of episodes, and the ant against OGBench's."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from zoo.datasets.readers.d4rl import CATALOG
from zoo.evaluation.d4rl_envs.maps import ANT_MAZES
from zoo.evaluation.envs import make_env
from zoo.evaluation.protocols import environment_note

pytest.importorskip("mujoco")
SIZES = {  # observation, action, limit: D4RL's
    "antmaze-umaze-v2": (29, 8, 700),
    "antmaze-medium-diverse-v2": (29, 8, 1000),
    "antmaze-large-play-v2": (29, 8, 1000),
    "antmaze-ultra-play-v0": (29, 8, 2000),
    "maze2d-open-v0": (4, 2, 150),
    "maze2d-umaze-v1": (4, 2, 300),
    "maze2d-medium-dense-v1": (4, 2, 600),
    "maze2d-large-v1": (4, 2, 800),
    "pen-human-v1": (45, 24, 100),
    "door-cloned-v1": (39, 28, 200),
    "hammer-expert-v1": (46, 26, 200),
    "relocate-human-v1": (39, 30, 200),
    "kitchen-mixed-v0": (60, 9, 280),
}


def needs(name: str) -> None:
    if not name.startswith(("antmaze", "maze2d")):
        pytest.importorskip("gymnasium_robotics")


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.filterwarnings("ignore")
def test_spaces_and_limits_are_those_of_d4rl(name):
    needs(name)
    env = make_env(name, seed=0)
    observations, actions, limit = SIZES[name]
    assert env.observation_space.shape == (observations,)
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (actions,), env.action_space.dtype)
    assert env.spec.max_episode_steps == limit
    first, _ = env.reset(seed=3)
    action = env.action_space.sample()
    after = env.step(action)
    again = make_env(name)
    assert np.array_equal(again.reset(seed=3)[0], first)  # the same seed, the same episode
    assert np.array_equal(again.step(action)[0], after[0])
    env.close(), again.close()


@pytest.mark.parametrize("name", CATALOG)
def test_every_set_of_d4rl_has_an_environment_and_a_word_about_it(name):
    env_id = CATALOG[name].env_id
    assert env_id is not None
    assert environment_note(name, env_id)


@pytest.mark.filterwarnings("ignore")
def test_gymnasium_accepts_the_mazes():
    check_env(make_env("antmaze-umaze-v2").unwrapped, skip_render_check=True)
    check_env(make_env("maze2d-umaze-v1").unwrapped, skip_render_check=True)


# AntMaze


@pytest.mark.parametrize("maze", ANT_MAZES)
def test_an_ant_at_the_goal_is_paid_once_and_the_episode_ends(maze):
    env = make_env(f"zoo.evaluation.d4rl_envs:zoo/D4RL-antmaze-{maze}-v0", seed=0)
    _, info = env.reset()
    ant, still = env.unwrapped, np.zeros(8, np.float32)
    for away, expected in ((1.5, False), (0.3, True)):
        qpos = ant.init_qpos.copy()
        qpos[:2] = info["goal"] - [away, 0.0]
        ant.set_state(qpos, ant.init_qvel)
        obs, reward, terminated, truncated, told = env.step(still)
        assert (reward, terminated, truncated, told["success"]) == (float(expected), expected, False, expected)
        assert np.linalg.norm(obs[:2] - info["goal"]) == pytest.approx(away, abs=0.3)  # places are observed, goals not


def test_goals_lie_beside_the_middle_of_their_cell_and_change_from_episode_to_episode():
    # Cells of 4 from where the ant begins; noise of [0, 1] and [0, 0.5] on each axis, in ultra less 1.
    for maze, (x, y), shift in (
        ("umaze", (0, 8), 0),
        ("medium", (20, 20), 0),
        ("large", (32, 24), 0),
        ("ultra", (52, 36), -1),
    ):
        env = make_env(f"zoo.evaluation.d4rl_envs:zoo/D4RL-antmaze-{maze}-v0", seed=0)
        noise = np.array([env.reset()[1]["goal"] for _ in range(40)]) - [x, y] - shift
        assert noise.min() >= 0.0
        assert noise.max() <= 1.5
        assert len(np.unique(noise, axis=0)) == 40


def test_the_ant_begins_near_the_origin_and_walls_stand_where_the_map_has_them():
    env = make_env("antmaze-umaze-v2", seed=0)
    assert np.abs(env.reset()[0][:2]).max() <= 0.1
    model = env.unwrapped.model
    walls = {tuple(model.geom_pos[i][:2]) for i in range(model.ngeom) if (model.geom_size[i] == [2.0, 2.0, 1.0]).all()}
    assert len(walls) == 18
    assert (0.0, 4.0) in walls  # below the start, between the two arms of the U
    assert (8.0, 4.0) not in walls


@pytest.mark.filterwarnings("ignore")
def test_the_ant_moves_as_the_ant_of_ogbench_to_the_last_bit():
    """OGBench's ant has the values of D4RL's file; its medium maze is D4RL's."""
    mazes = pytest.importorskip("ogbench.locomaze.maze")
    theirs = mazes.make_maze_env("ant", "maze", maze_type="medium")
    ours = make_env("antmaze-medium-play-v2", seed=1)
    theirs.reset(), ours.reset()
    theirs.set_state(ours.unwrapped.data.qpos.copy(), ours.unwrapped.data.qvel.copy())
    rng = np.random.default_rng(0)
    for _ in range(50):
        action = rng.uniform(-1.0, 1.0, 8).astype(np.float32)
        np.testing.assert_allclose(ours.step(action)[0], theirs.step(action)[0], rtol=0.0, atol=1e-12)


# maze2d


@pytest.mark.parametrize(("dense", "near", "far"), [("", (1.0, 1.0), 0.0), ("-dense", (0.7, 1.0), 0.135335)])
def test_a_particle_is_paid_for_every_step_near_the_goal_and_nothing_ends(dense, near, far):
    env = make_env(f"maze2d-umaze{dense}-v1", seed=0)
    particle = env.unwrapped
    for distance, (low, high) in ((0.2, near), (2.0, (far, far))):
        particle.set_state(np.array([1.0, 1.0 + distance]), np.zeros(2))
        _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
        assert low - 1e-4 <= reward <= high + 1e-4
        assert (terminated, info["success"]) == (False, distance < 0.5)


def test_a_particle_is_stopped_by_walls_and_begins_in_free_cells():
    env = make_env("maze2d-umaze-v1", seed=0)
    free = {(1, 1), (1, 2), (1, 3), (2, 3), (3, 1), (3, 2), (3, 3)}
    assert {tuple(np.rint(env.reset()[0][:2]).astype(int)) for _ in range(60)} == free
    env.unwrapped.set_state(np.array([1.0, 1.0]), np.zeros(2))
    for _ in range(100):  # towards row 2, where the wall of (2, 1) begins at 1.5 + 0.2 less the particle's radius
        obs = env.step(np.array([1.0, 0.0], np.float32))[0]
    assert obs[0] == pytest.approx(1.2, abs=0.05)


# Hands and kitchen


@pytest.mark.filterwarnings("ignore")
def test_a_pen_that_drops_ends_the_episode_with_its_penalty():
    pytest.importorskip("gymnasium_robotics")
    env = make_env("pen-human-v1", seed=0)
    env.reset()
    hand = env.unwrapped
    assert not env.step(env.action_space.sample())[2]
    qpos = hand.data.qpos.copy()
    qpos[-6] += 0.3  # down, for the pen's axes are its own
    hand.set_state(qpos, hand.data.qvel)
    obs, reward, terminated, _, _ = env.step(np.zeros(24))
    assert terminated
    assert obs[26] < 0.075
    distance, similarity = np.linalg.norm(obs[39:42]), float(np.dot(obs[33:36], obs[36:39]))
    assert reward == pytest.approx(-distance + similarity - 5.0, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "palm", "target"),
    [
        ("door-human-v1", "grasp_site_id", "handle_site_id"),
        ("hammer-human-v1", "S_grasp_site_id", "obj_body_id"),
        ("relocate-human-v1", "S_grasp_site_id", "obj_body_id"),
    ],
)
def test_a_hand_is_charged_for_its_distance(name, palm, target):
    """D4RL's reward less the simulator's own, from positions of the simulator and not of the observation."""
    pytest.importorskip("gymnasium_robotics")
    env = make_env(name, seed=0)
    env.reset()
    hand, original = env.unwrapped, type(env.unwrapped).step
    raw = []
    type(hand).step = lambda self, action: raw.append(original(self, action)) or raw[-1]
    try:
        reward = env.step(env.action_space.sample())[1]
    finally:
        type(hand).step = original
    place = hand.data.xpos if target == "obj_body_id" else hand.data.site_xpos
    distance = np.linalg.norm(hand.data.site_xpos[getattr(hand, palm)] - place[getattr(hand, target)])
    assert distance > 0.05
    assert reward == pytest.approx(raw[0][1] - 0.2 * distance, abs=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tasks", "done"),
    [("complete", ["microwave", "kettle", "light switch", "slide cabinet"]), ("mixed", ["microwave", "bottom burner"])],
)
def test_a_kitchen_pays_one_for_each_task_once_and_ends_when_all_are_done(tasks, done):
    pytest.importorskip("gymnasium_robotics")
    from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_GOALS, OBS_ELEMENT_INDICES

    env = make_env(f"kitchen-{tasks}-v0", seed=0)
    first, _ = env.reset()
    assert np.count_nonzero(first[30:]) > 0
    robot = env.unwrapped.robot_env
    qpos = robot.data.qpos.copy()
    for task in done:
        qpos[OBS_ELEMENT_INDICES[task]] = OBS_ELEMENT_GOALS[task]
        assert np.array_equal(first[30:][OBS_ELEMENT_INDICES[task]], OBS_ELEMENT_GOALS[task])
    rewards, ended = [], False
    robot.set_state(qpos, robot.data.qvel)
    for _ in range(2):
        _, reward, ended, _, _ = env.step(np.zeros(9))
        rewards.append(reward)
    assert rewards == [float(len(done)), 0.0]
    assert ended == (len(done) == 4)

"""Maze sets: D4RL's maps and goals, one endless trajectory, the controller, and the reward of the maze's own goal."""

import sys

import numpy as np
import pytest

import zoo
from zoo.cli import main as cli
from zoo.collecting.mazes import MAZES, env_id, make_maze_set, shortest_path
from zoo.collecting.recording import read_episodes

pytest.importorskip("gymnasium_robotics")

U_MAZE = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
D4RL_MAPS = {  # as d4rl.pointmaze writes them: # a wall, G the goal
    "open": ["#######", "#OOOOO#", "#OOGOO#", "#OOOOO#", "#######"],
    "umaze": ["#####", "#GOO#", "###O#", "#OOO#", "#####"],
    "medium": ["########", "#OO##OO#", "#OO#OOO#", "##OOO###", "#OO#OOO#", "#O#OO#O#", "#OOO#OG#", "########"],
    "large": [
        "############",
        "#OOOO#OOOOO#",
        "#O##O#O#O#O#",
        "#OOOOOO#OOO#",
        "#O####O###O#",
        "#OO#O#OOOOO#",
        "##O#O#O#O###",
        "#OO#OOO#OGO#",
        "############",
    ],
}


@pytest.mark.parametrize("maze", MAZES)
def test_maps_goals_and_limits_are_d4rls(maze):
    env = zoo.make_env(env_id(maze))
    rows = env.get_wrapper_attr("maze").maze_map
    assert [[cell == "#" for cell in row] for row in D4RL_MAPS[maze]] == [[cell == 1 for cell in row] for row in rows]
    row, column = MAZES[maze].goal
    assert D4RL_MAPS[maze][row][column] == "G"
    assert env.get_wrapper_attr("_max_episode_steps") == {"open": 150, "umaze": 300, "medium": 600, "large": 800}[maze]


def test_the_shortest_path_goes_around_walls():
    around = [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    assert shortest_path(U_MAZE, (1, 1), (3, 1)) == around
    assert shortest_path(U_MAZE, (3, 1), (1, 1)) == around[::-1]
    assert shortest_path(U_MAZE, (1, 2), (1, 2)) == [(1, 2)]


def test_a_place_that_is_walled_in_has_no_path():
    closed = [[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]]
    with pytest.raises(ValueError, match=r"no way from cell \(1, 1\) to cell \(1, 3\)"):
        shortest_path(closed, (1, 1), (1, 3))


@pytest.fixture(scope="module")
def umaze(tmp_path_factory):
    return make_maze_set("umaze", tmp_path_factory.mktemp("maze") / "umaze.hdf5", 2000)


def test_the_set_is_one_endless_trajectory(umaze):
    rows = np.concatenate(list(read_episodes(umaze)))
    assert len(rows) == 2000
    assert not rows["terminals"].any()
    np.testing.assert_array_equal(rows["next_observations"][:-1], rows["observations"][1:])
    np.testing.assert_allclose(rows["observations"], np.hstack([rows["infos/qpos"], rows["infos/qvel"]]), atol=1e-6)


def test_every_time_out_is_a_goal_of_the_controller_that_was_reached(umaze):
    *reached, _ = read_episodes(umaze)  # the last one is cut
    assert len(reached) > 10
    goals = set()
    for rows in reached:
        distances = np.linalg.norm(rows["next_observations"][:, :2] - rows["infos/goal"], axis=1)
        assert (np.flatnonzero(distances < 0.1) == [len(rows) - 1]).all()
        assert len(rows) < 300
        goals.add(tuple(rows["infos/goal"][0]))
    assert len(goals) == len(reached)


def test_the_reward_is_that_of_the_mazes_goal_after_the_step(umaze):
    rows = np.concatenate(list(read_episodes(umaze)))
    distances = np.linalg.norm(rows["next_observations"][:, :2] - [-1.0, 1.0], axis=1)  # row 1, column 1 of 5 by 5
    assert np.abs(distances - 0.45).min() > 1e-5  # float32 cannot decide these
    assert rows["rewards"].tolist() == (distances < 0.45).astype(float).tolist()
    assert 0.01 < rows["rewards"].mean() < 0.5


def test_dense_rewards_fall_with_the_distance(tmp_path):
    rows = np.concatenate(list(read_episodes(make_maze_set("umaze", tmp_path / "d.hdf5", 50, dense=True))))
    distances = np.linalg.norm(rows["next_observations"][:, :2] - [-1.0, 1.0], axis=1)
    np.testing.assert_allclose(np.log(rows["rewards"]), -distances, atol=1e-5)


def test_the_dataset_leads_back_to_its_environment(umaze):
    dataset = zoo.load_dataset(umaze)
    env = zoo.make_env(dataset)
    starts = {tuple(np.round(env.reset(seed=seed)[0][:2])) for seed in range(20)}
    assert len(starts) > 3
    assert {*starts} <= {(-1, 1), (0, 1), (1, 1), (1, 0), (-1, -1), (0, -1), (1, -1)}  # the cells without a wall
    *_, reward, terminated, truncated, _ = env.step(np.zeros(2, np.float32))
    assert (reward, terminated, truncated) in [(0.0, False, False), (1.0, False, False)]


def test_noise_moves_the_force_and_trajectories_run_side_by_side(tmp_path):
    path = make_maze_set("medium", tmp_path / "m.hdf5", 600, noise=0.5, envs=2)
    episodes = list(read_episodes(path))
    assert sum(map(len, episodes)) == 600
    for rows in episodes:
        np.testing.assert_array_equal(rows["next_observations"][:-1], rows["observations"][1:])
    actions = np.concatenate(episodes)["actions"]
    assert np.abs(np.diff(actions, axis=0)).mean() > 0.2


def test_the_command_makes_a_set(tmp_path, monkeypatch):
    path = tmp_path / "large.hdf5"
    monkeypatch.setattr(sys, "argv", ["zoo", "data", "maze", "large", str(path), "--steps", "30"])
    cli.main()
    assert zoo.load_dataset(path).env_id == "zoo.collecting.mazes:zoo/Maze2D-large-v0"


def test_a_maze_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no maze 'giant'; there are open, umaze, medium, large"):
        env_id("giant")

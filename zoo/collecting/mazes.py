"""Maze sets by D4RL's maze2d protocol, in gymnasium-robotics' PointMaze: a controller wanders, one goal is rewarded.

The mazes and goals are D4RL's; the simulator is not: coordinates are centred, and the goal is reached at 0.45 instead
of 0.5. D4RL's reference returns do not belong to these sets. Source of the protocol: Fu et al. 2020, arXiv 2004.07219.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from zoo.collecting.collect import Episode, Noisy, collect
from zoo.datasets.checks import Array

Cell = tuple[int, int]  # row and column of the map


@dataclass(frozen=True)
class Maze:
    """point_maze: gymnasium-robotics' name. goal: the cell that is rewarded. limit: steps of an episode, as D4RL's."""

    point_maze: str
    goal: Cell
    limit: int


MAZES = {
    "open": Maze("Open", (2, 3), 150),
    "umaze": Maze("UMaze", (1, 1), 300),
    "medium": Maze("Medium", (6, 6), 600),
    "large": Maze("Large", (7, 9), 800),
}
REACHED = 0.1  # distance at which the controller counts a waypoint as reached
GAIN, DAMPING = 10.0, 1.0  # of the controller: force for a unit of distance, and against a unit of velocity
SPREAD = 0.1  # the controller's goals lie this far from the middle of their cells at most, in each direction


def env_id(maze: str, dense: bool = False) -> str:
    """What make_env and gymnasium.make take. Raises ValueError for another maze."""
    if maze not in MAZES:
        raise ValueError(f"no maze {maze!r}; there are {', '.join(MAZES)}")
    return f"zoo.collecting.mazes:zoo/Maze2D-{maze}{'-dense' if dense else ''}-v0"


class Maze2D(gym.Wrapper):
    """The task: position and velocity (4,), force (2,) in [-1, 1], from a random cell to the maze's goal, and stay.

    Each step that ends within 0.45 of the middle of the goal's cell earns 1; dense, exp(-distance). Nothing terminates.
    """

    def __init__(self, maze: str, dense: bool):
        import gymnasium_robotics  # an extra; makes its ids known

        gym.register_envs(gymnasium_robotics)
        name = f"PointMaze_{MAZES[maze].point_maze}{'Dense' if dense else ''}-v3"
        super().__init__(gym.make(name, continuing_task=True, reset_target=False, max_episode_steps=-1).unwrapped)
        self.maze: Any = self.env.get_wrapper_attr("maze")
        self.goal_cell = MAZES[maze].goal
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options={"goal_cell": self.goal_cell})
        self.env.unwrapped.goal = self.maze.cell_rowcol_to_xy(self.goal_cell)  # type: ignore[attr-defined]
        return observation["observation"], info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation["observation"], float(reward), terminated, truncated, info


class Wander(gym.Wrapper):
    """Episodes of one endless trajectory: each begins where the last one ended, with a goal in another cell.

    Truncated when that goal is reached or after `limit` steps; a new goal moves nothing else. info["goal"] (2,) is the
    goal of the step. The rewarded goal stays the maze's.
    """

    def __init__(self, env: Maze2D, limit: int):
        super().__init__(env)
        self.maze = env.maze
        self.limit = limit
        self._place: Array | None = None  # (2,), once there is one

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        if self._place is None:
            self._observation, _ = self.env.reset(seed=seed)
            self._place = self._observation[:2]
        rng = np.random.default_rng(seed)
        here = self._cell(self._place)
        middles = [middle for middle in self.maze.unique_goal_locations if self._cell(middle) != here]
        self.goal = middles[rng.integers(len(middles))] + rng.uniform(-SPREAD, SPREAD, 2)
        path = shortest_path(self.maze.maze_map, here, self._cell(self.goal))
        self.waypoints = deque([*(self.maze.cell_rowcol_to_xy(np.array(cell)) for cell in path[1:-1]), self.goal])
        self.steps = 0
        return self._observation, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        self._observation, reward, terminated, _, info = self.env.step(action)
        self._place = self._observation[:2]
        self.steps += 1
        if len(self.waypoints) > 1 and np.linalg.norm(self.waypoints[0] - self._place) < REACHED:
            self.waypoints.popleft()
        reached = bool(np.linalg.norm(self.goal - self._place) < REACHED)
        truncated = reached or self.steps == self.limit
        return self._observation, float(reward), terminated, truncated, info | {"goal": self.goal}

    def _cell(self, place: Array) -> Cell:
        row, column = self.maze.cell_xy_to_rowcol(place)
        return int(row), int(column)


def shortest_path(maze_map: Sequence[Sequence[Any]], start: Cell, end: Cell) -> list[Cell]:
    """Cells from start to end, both included, by steps to a neighbour that is no wall (1). ValueError if none."""
    came_from = {end: end}
    waiting = deque([end])
    while waiting and start not in came_from:
        row, column = cell = waiting.popleft()
        for neighbour in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if maze_map[neighbour[0]][neighbour[1]] != 1 and neighbour not in came_from:
                came_from[neighbour] = cell
                waiting.append(neighbour)
    if start not in came_from:
        raise ValueError(f"there is no way from cell {start} to cell {end}")
    path = [start]
    while path[-1] != end:
        path.append(came_from[path[-1]])
    return path


def follow_waypoints(observations: Array, episodes: Sequence[Episode]) -> Array:
    """D4RL's controller: a force towards the next waypoint of each Wander, damped, clipped to the box."""
    waypoints = np.stack([episode.env.get_wrapper_attr("waypoints")[0] for episode in episodes])  # (n, 2)
    return np.clip(GAIN * (waypoints - observations[:, :2]) - DAMPING * observations[:, 2:], -1.0, 1.0)


def make_maze_set(
    maze: str, out: Path, steps: int, noise: float = 0.0, dense: bool = False, envs: int = 1, seed: int = 0
) -> Path:
    """`steps` transitions of the controller, with the reward of the maze's goal, as a D4RL-layout HDF5 file.

    Time-outs mark the controller's own goals, without a reset, as in D4RL; infos/goal has them. Unlike D4RL's files the
    reward is that of the state after the action, and next_observations are there. noise: standard deviation of the
    force. envs: trajectories side by side. Interrupted, it goes on from a new place. Raises as collect.collect.
    """
    name = env_id(maze, dense)
    about = {"env_id": name, "policy": "waypoint controller", "noise": noise}
    actor = Noisy(follow_waypoints, noise) if noise else follow_waypoints

    def make() -> gym.Env:
        return Wander(Maze2D(maze, dense), MAZES[maze].limit)

    return collect(make, actor, out, steps, about, envs, seed, infos=("goal",), progress_bar=True)


for _maze, _facts in MAZES.items():
    for _dense in (False, True):
        gym.register(
            env_id(_maze, _dense).split(":")[1],
            entry_point="zoo.collecting.mazes:Maze2D",
            kwargs={"maze": _maze, "dense": _dense},
            max_episode_steps=_facts.limit,
            disable_env_checker=True,
        )

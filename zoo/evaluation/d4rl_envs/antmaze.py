"""D4RL's AntMaze: an ant walks to a goal that it does not observe, for a reward of 1 on arrival.

The body is Gymnasium's ant.xml with the four numbers of it in which D4RL's differs; the task is that of
d4rl/locomotion/maze_env.py, with a new goal at each reset (its -v2).
"""

import os
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from numpy.typing import NDArray

from zoo.evaluation.d4rl_envs.maps import ANT_MAZES, Cell, Maze

UNIT = 4.0  # width of a cell
HEIGHT = 2.0  # of the walls
REACHED = 0.5  # distance to the goal
MODES = ["human", "rgb_array", "depth_array", "rgbd_tuple"]
Array = NDArray[np.float64]


class AntMaze(MujocoEnv):
    """observation (29,): place and pose of the ant (15,), velocities (14,). action (8,): torques in [-1, 1].

    The cell where the ant begins is the origin; columns go along x, rows along y. The reward is 1 in the step that ends
    within 0.5 of the goal, and that ends the episode; else 0. info["success"] says so too, info["goal"] where it is.
    """

    metadata = {"render_modes": MODES, "render_fps": 10}  # noqa: RUF012

    def __init__(self, maze: str, **kwargs: Any):
        self.maze = ANT_MAZES[maze]
        (self.start,), (self.goal_cell,) = self.maze.cells("R"), self.maze.cells("G")
        self.goal: Array = np.zeros(2)
        space = Box(-np.inf, np.inf, (29,), np.float64)
        handle, path = tempfile.mkstemp(suffix=".xml")
        try:
            with os.fdopen(handle, "wb") as file:
                model(self.maze, self.start).write(file)
            super().__init__(path, frame_skip=5, observation_space=space, **kwargs)
        finally:
            Path(path).unlink()

    def step(self, action: NDArray[np.float32]) -> tuple[Array, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        self.do_simulation(np.clip(action, -1.0, 1.0), self.frame_skip)
        success = bool(np.linalg.norm(self.data.qpos[:2] - self.goal) <= REACHED)
        if self.render_mode == "human":
            self.render()
        return self._observation(), float(success), success, False, {"success": success, "goal": self.goal.copy()}

    def reset_model(self) -> Array:
        rng = self.np_random
        qpos = self.init_qpos + rng.uniform(-0.1, 0.1, self.model.nq)
        self.set_state(qpos, self.init_qvel + 0.1 * rng.standard_normal(self.model.nv))
        noise = rng.uniform(0.0, 1.0, 2) + rng.uniform(0.0, 0.5, 2) + self.maze.goal_shift
        self.goal = np.maximum(place(self.goal_cell, self.start) + noise, 0.0)
        return self._observation()

    def _get_reset_info(self) -> dict[str, Any]:
        return {"success": False, "goal": self.goal.copy()}

    def _observation(self) -> Array:
        return np.concatenate([self.data.qpos[:15], self.data.qvel[:14]])


def place(cell: Cell, start: Cell) -> Array:
    """The middle of a cell, (x, y)."""
    return UNIT * np.array([cell[1] - start[1], cell[0] - start[0]], dtype=np.float64)


def model(maze: Maze, start: Cell) -> Any:
    """Gymnasium's ant with D4RL's step, torques and contacts, among the walls."""
    tree = ET.parse(Path(gymnasium.envs.mujoco.__file__).parent / "assets" / "ant.xml")

    def element(path: str) -> ET.Element:
        found = tree.find(path)
        assert found is not None, path
        return found

    element("option").set("timestep", "0.02")
    element("default/geom").attrib.update(solref=".02 1", solimp=".8 .8 .01")
    for motor in tree.iterfind("actuator/motor"):
        motor.set("gear", "30")
    world = element("worldbody")
    for i, j in maze.cells("#"):
        x, y = place((i, j), start)
        half = f"{UNIT / 2} {UNIT / 2} {HEIGHT / 2}"
        wall = {"name": f"block_{i}_{j}", "type": "box", "pos": f"{x} {y} {HEIGHT / 2}", "size": half}
        ET.SubElement(world, "geom", wall | {"contype": "1", "conaffinity": "1", "rgba": "0.4 0.4 0.4 1"})
    return tree

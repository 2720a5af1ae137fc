"""D4RL's maze2d: a pushed particle in a maze with a goal that it does not observe, rewarded for every step there.

Physics and task are those of d4rl/pointmaze/maze_model.py.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from numpy.typing import NDArray

from zoo.evaluation.d4rl_envs.maps import POINT_MAZES, Maze

REACHED = 0.5  # distance to the goal
MODES = ["human", "rgb_array", "depth_array", "rgbd_tuple"]
Array = NDArray[np.float64]
MODEL = """<mujoco model="point_maze">
  <compiler inertiafromgeom="true" angle="radian"/>
  <option timestep="0.01" gravity="0 0 0" iterations="20" integrator="Euler"/>
  <default>
    <joint damping="1" limited="false"/>
    <geom friction=".5 .1 .1" density="1000" margin="0.002" condim="1" contype="2" conaffinity="1"/>
  </default>
  <worldbody>
    <geom name="ground" type="plane" size="40 40 0.25" pos="0 0 -0.1" contype="1" conaffinity="0"/>
    <body name="particle" pos="1.2 1.2 0">
      <geom name="particle_geom" type="sphere" size="0.1" contype="1" rgba="0 0 1 1"/>
      <joint name="ball_x" type="slide" axis="1 0 0"/>
      <joint name="ball_y" type="slide" axis="0 1 0"/>
    </body>
    {walls}
  </worldbody>
  <actuator>
    <motor joint="ball_x" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
    <motor joint="ball_y" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
  </actuator>
</mujoco>"""


class Maze2D(MujocoEnv):
    """observation (4,): place, as row and column of the map, and velocity. action (2,): force in [-1, 1].

    The reward is 1 in every step that ends within 0.5 of the goal's cell; dense, exp(-distance). Nothing terminates.
    """

    metadata = {"render_modes": MODES, "render_fps": 100}  # noqa: RUF012

    def __init__(self, maze: str, dense: bool = False, **kwargs: Any):
        self.maze, self.dense = POINT_MAZES[maze], dense
        self.goal: Array = np.array(self.maze.cells("G")[0], dtype=np.float64)
        self.free = np.array(self.maze.cells(".") + self.maze.cells("G"), dtype=np.float64)
        handle, path = tempfile.mkstemp(suffix=".xml")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(model(self.maze))
            space = Box(-np.inf, np.inf, (4,), np.float64)
            super().__init__(path, frame_skip=1, observation_space=space, **kwargs)
        finally:
            Path(path).unlink()

    def step(self, action: NDArray[np.float32]) -> tuple[Array, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        self.set_state(self.data.qpos, np.clip(self.data.qvel, -5.0, 5.0))
        self.do_simulation(np.clip(action, -1.0, 1.0), self.frame_skip)
        distance = float(np.linalg.norm(self.data.qpos - self.goal))
        if self.render_mode == "human":
            self.render()
        success = distance <= REACHED
        reward = float(np.exp(-distance)) if self.dense else float(success)
        return self._observation(), reward, False, False, {"success": success}

    def reset_model(self) -> Array:
        rng = self.np_random
        qpos = self.free[rng.integers(len(self.free))] + rng.uniform(-0.1, 0.1, 2)
        self.set_state(qpos, self.init_qvel + 0.1 * rng.standard_normal(2))
        return self._observation()

    def _observation(self) -> Array:
        return np.concatenate([self.data.qpos, self.data.qvel])


def model(maze: Maze) -> str:
    """MJCF with the walls of the map: the particle's 0.2 from a cell's middle is D4RL's own."""
    walls = (f'<geom type="box" pos="{i + 1.0} {j + 1.0} 0" size=".5 .5 .2"/>' for i, j in maze.cells("#"))
    return MODEL.format(walls="\n    ".join(walls))

"""D4RL's kitchen on Gymnasium-Robotics' FrankaKitchen: its tasks, and its observation of 60 numbers.

Source: d4rl/kitchen of Farama-Foundation/D4RL. The reward counts the tasks that are done for the first time in the
step; when all four are done the episode ends.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

TASKS = {
    "complete": ("microwave", "kettle", "light switch", "slide cabinet"),
    "partial": ("microwave", "kettle", "light switch", "slide cabinet"),
    "mixed": ("microwave", "kettle", "bottom burner", "light switch"),
}


def make(tasks: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Raises ImportError without gymnasium-robotics."""
    import gymnasium_robotics  # an extra; makes its ids known
    from gymnasium_robotics.envs.franka_kitchen import franka_env

    # The original asserts that a NumPy integer is one of MuJoCo's enums, which is not so since MuJoCo 3.17.
    franka_env.robot_get_obs = of_the_robot
    gymnasium.register_envs(gymnasium_robotics)
    names = list(TASKS[tasks])
    env = gymnasium.make("FrankaKitchen-v1", tasks_to_complete=names, max_episode_steps=10_000, **kwargs)
    return Kitchen(env.unwrapped, names)


def of_the_robot(model: Any, data: Any, names: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions and velocities of the joints whose names begin with "robot", all of them hinges or slides."""
    joints = [model.joint(name).id for name in names if name.startswith("robot")]
    return data.qpos[model.jnt_qposadr[joints]].copy(), data.qvel[model.jnt_dofadr[joints]].copy()


class Kitchen(gymnasium.ObservationWrapper[Any, Any, Any]):
    """observation (60,): joints of robot (9,) and objects (21,), then the goal (30,), zero for objects without."""

    def __init__(self, env: gymnasium.Env[Any, Any], tasks: list[str]):
        from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_GOALS, OBS_ELEMENT_INDICES

        super().__init__(env)
        self.observation_space = Box(-np.inf, np.inf, (60,), np.float64)
        self.goal = np.zeros(30)
        for task in tasks:
            self.goal[OBS_ELEMENT_INDICES[task]] = OBS_ELEMENT_GOALS[task]

    def observation(self, observation: dict[str, Any]) -> NDArray[np.float64]:
        """Of Gymnasium-Robotics' 59 numbers the positions: robot 9 and 9 velocities, objects 21 and 20 velocities."""
        state = observation["observation"]
        return np.concatenate([state[:9], state[18:39], self.goal])

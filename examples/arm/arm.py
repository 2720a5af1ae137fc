"""A robot arm of seven joints, and the simulator that is the truth about it.

The arm reaches for a point. Joints turn about z and y in turn; each has an inertia, friction and, about y, the weight
of what it carries. An episode ends in success (the tool rests at the goal), in failure (a joint runs into its stop or
overspeeds), or after 10 s.

`import arm` registers ReachingArm-v0, so that zoo evaluate and zoo.make_env("arm:ReachingArm-v0") find it.
"""

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

JOINTS = 7
RATE_HZ = 20.0
SUBSTEPS = 10
STEPS = 200  # 10 s

AXES = "zyzyzyz"
LINKS = np.array([0.34, 0.20, 0.20, 0.20, 0.20, 0.12, 0.08])  # m, along the arm
INERTIA = np.array([1.2, 1.2, 0.7, 0.6, 0.3, 0.2, 0.1])  # kg m^2
FRICTION = np.array([3.0, 3.0, 2.0, 2.0, 1.0, 0.7, 0.4])  # N m s
WEIGHT = np.array([0.0, 28.0, 0.0, 12.0, 0.0, 3.0, 0.0])  # N m at full stretch
LOW = np.array([-60.0, -40.0, -30.0, -24.0, -12.0, -8.0, -4.0])  # N m
HIGH = np.array([60.0, 72.0, 30.0, 40.0, 12.0, 10.0, 4.0])
STOPS = np.array([2.9, 2.1, 2.9, 2.1, 2.9, 2.1, 3.0])  # rad
FASTEST = 6.0  # rad/s
PAYLOAD = 1.5  # kg, what the tool carries: a column that never changes

NEAR, SLOW = 0.06, 0.6  # m from the goal, rad/s: a success
STEP_REWARD, SUCCESS_REWARD, FAILURE_REWARD = -0.05, 10.0, -5.0

OBSERVATIONS = (
    *((f"q{i + 1}", "rad", -STOPS[i] - 0.3, STOPS[i] + 0.3) for i in range(JOINTS)),
    *((f"dq{i + 1}", "rad/s", -9.0, 9.0) for i in range(JOINTS)),
    *((f"tool_{axis}", "m", -1.4, 1.4) for axis in "xyz"),
    *((f"goal_{axis}", "m", -1.4, 1.4) for axis in "xyz"),
    ("distance", "m", 0.0, 2.8),
    ("supply", "V", 40.0, 56.0),
    ("payload", "kg", 0.0, 5.0),
)
ACTIONS = tuple((f"tau{i + 1}", "N m", LOW[i], HIGH[i]) for i in range(JOINTS))


def turn(axis: str, angle: float) -> np.ndarray:
    """Rotation matrix (3, 3) about z or y."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]] if axis == "z" else [[c, 0, s], [0, 1, 0], [-s, 0, c]])


def tool_of(q: np.ndarray) -> np.ndarray:
    """Where the tool is, (3,), in m from the base. q: (7,) rad."""
    place, frame = np.zeros(3), np.eye(3)
    for axis, angle, length in zip(AXES, q, LINKS, strict=True):
        frame = frame @ turn(axis, angle)
        place = place + frame @ np.array([0.0, 0.0, length])
    return place


def weight_of(q: np.ndarray) -> np.ndarray:
    """Torques of gravity, (7,) N m: how far the arm leans at each joint about y."""
    lean = np.cumsum(np.where(np.array(list(AXES)) == "y", q, 0.0))
    return WEIGHT * np.sin(lean)


class ReachingArm(gym.Env):
    """observation (23,), see OBSERVATIONS; action (7,) torques in N m, see ACTIONS; reward of time and outcome."""

    def __init__(self):
        self.observation_space = Box(-np.inf, np.inf, (len(OBSERVATIONS),), np.float32)
        self.action_space = Box(LOW.astype(np.float32), HIGH.astype(np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.q = self.np_random.uniform(-0.2, 0.2, JOINTS)
        self.dq = np.zeros(JOINTS)
        self.target = self.np_random.uniform(-0.6, 0.6, JOINTS) * STOPS * 0.7  # a pose that reaches the goal
        self.goal = tool_of(self.target)
        self.steps = 0
        return self._observation(), {}

    def step(self, action):
        torque = np.clip(np.asarray(action, np.float64), LOW, HIGH)
        dt = 1.0 / RATE_HZ / SUBSTEPS
        for _ in range(SUBSTEPS):
            self.dq = self.dq + dt * (torque + weight_of(self.q) - FRICTION * self.dq) / INERTIA
            self.q = self.q + dt * self.dq
        self.steps += 1
        failed = bool((np.abs(self.q) > STOPS).any() or (np.abs(self.dq) > FASTEST).any())
        near = np.linalg.norm(tool_of(self.q) - self.goal) < NEAR
        success = bool(near and np.abs(self.dq).max() < SLOW and not failed)
        reward = STEP_REWARD + SUCCESS_REWARD * success + FAILURE_REWARD * failed
        over = self.steps == STEPS and not (success or failed)
        return self._observation(), float(reward), success or failed, over, {"success": success, "failed": failed}

    def _observation(self) -> np.ndarray:
        tool = tool_of(self.q)
        supply = 48.0 + self.np_random.normal(0.0, 0.2)
        rest = (np.linalg.norm(tool - self.goal), supply, PAYLOAD)
        return np.concatenate([self.q, self.dq, tool, self.goal, rest]).astype(np.float32)


gym.register("ReachingArm-v0", entry_point=ReachingArm)

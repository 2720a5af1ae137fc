"""A robot that follows a script, and a clock that only moves when it is told to."""

import numpy as np

from zoo_robot.control import ControlLoop, Limits

PERIOD = 0.125  # seconds; a power of two, so that sums of it are exact
SAFE = [0.0, 0.5]
OBS = np.array([0.1, 0.2, 0.3])
ACTION = [0.25, 0.75]  # what the policy below wants


class Robot:
    """Answers read() from a script, one entry a tick: an observation, None, an exception, or a function to call.

    The policy returns `action` after `thinking` seconds, one number or one for each call, and raises it where it is an
    exception. Everything that reaches the robot or the policy is kept.
    """

    def __init__(self, script, action=ACTION, thinking=0.0, oversleep=0.0):
        self.now, self.oversleep = 100.0, oversleep
        self.script, self.action, self.thinking = list(script), action, thinking
        self.begun, self.seen, self.written = [], [], []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0.0
        self.now += seconds + self.oversleep

    def read(self):
        self.begun.append(self.now - 100.0)
        entry = self.script.pop(0) if self.script else None
        entry = entry() if callable(entry) else entry
        if isinstance(entry, BaseException):
            raise entry
        return entry

    def policy(self, obs):
        self.seen.append(obs)
        self.now += self.thinking if isinstance(self.thinking, float) else self.thinking[len(self.seen) - 1]
        action = self.action(obs) if callable(self.action) else self.action
        if isinstance(action, BaseException):
            raise action
        return action

    def write(self, action):
        self.written.append(np.array(action).tolist())

    def loop(self, **changes):
        given = {
            "limits": Limits([-1.0, 0.0], [1.0, 2.0], SAFE),
            "rate": 1.0 / PERIOD,
            "observation_size": 3,
            "stale_after": 2 * PERIOD,
            "clock": self.clock,
            "sleep": self.sleep,
        }
        return ControlLoop(self.read, self.policy, self.write, **(given | changes))

    def run(self, ticks=None, **changes):
        """The report, and what was written in each tick, without the safe action that ends every run."""
        report = self.loop(**changes).run(len(self.script) if ticks is None else ticks)
        assert self.written[-1] == SAFE
        return report, self.written[:-1]

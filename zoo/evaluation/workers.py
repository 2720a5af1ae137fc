"""Environments side by side, in this process or in another one that lives across evaluations.

One message a step and process goes there, the bytes of the actions, and one comes back, the bytes of what the
environments gave, without a pickled array.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

import gymnasium as gym
import numpy as np

from zoo.agents.core.finite import check_rows
from zoo.agents.core.rewards import to_data
from zoo.agents.core.spec import DataSpec
from zoo.agents.core.vector import check_raw
from zoo.export.stopping import SIGNALS

MOST_WORKERS = 4  # by default: each is an interpreter with torch and MuJoCo in memory, for a share of 10 episodes
LARGEST_MAKER = 1 << 20  # bytes; an environment's name and settings are a few hundred
PATIENCE = 5.0  # seconds in which a worker may finish the step that it is in

Maker = Callable[[], gym.Env]


class EvaluationError(RuntimeError):
    """An environment failed in a worker process, or the process ended; the message has the seeds and the traceback."""


def default_workers() -> int:
    """One for each core that this process may use, at most MOST_WORKERS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def as_maker(source: Maker | gym.Env | str) -> Maker:
    """What makes an environment, also from an id or from an environment that Gymnasium has made.

    Episodes run side by side, each in an environment of its own. Raises TypeError for one that cannot be made again.
    """
    if isinstance(source, str):
        return partial(gym.make, source)
    if not isinstance(source, gym.Env):
        return source
    if source.spec is None:
        raise TypeError(
            f"{source} was not made by gymnasium.make, so it cannot be made again for episodes side by side: give the "
            "function that makes it, evaluate(agent, lambda: MyEnv())"
        )
    return partial(gym.make, source.spec)


def check_maker(make_env: Maker) -> None:
    """Raises TypeError for a make_env that no other process can be given, ValueError for one that takes data along."""
    fix = "Give functools.partial(zoo.make_env, agent.spec), a partial of a Gymnasium id, or a function of a module."
    try:
        size = len(ForkingPickler.dumps(make_env))
    except Exception as error:  # whatever the object's own __reduce__ raises
        raise TypeError(f"make_env cannot be sent to a worker process: {error}. {fix} Or take workers=1.") from error
    if size > LARGEST_MAKER:
        raise ValueError(
            f"make_env would take {size / 2**20:.0f} MB along to each worker process; a whole dataset? {fix}"
        )


class Group:
    """Environments that step side by side in this process, one for each reset seed.

    reset and step ask, rows answers: with several groups, all are asked before the first is waited for. An episode that
    is over is not stepped again. The environments stay for the next reset, for making one costs many steps.
    """

    def __init__(self, make_env: Maker):
        self.make_env = make_env
        self.envs: list[gym.Env] = []

    def reset(self, seeds: Sequence[int], spec: DataSpec | None = None, rewards: str | None = None) -> None:
        """Asks for one environment for each of these seeds, reset with it.

        spec: of the agent that will act in them. rewards: the convention that sparse ones are wanted in.
        rows will raise ValueError for environments with other spaces than spec's, or that normalise by themselves.
        """
        self._asked = partial(self._reset, seeds, spec, rewards)

    def step(self, actions: np.ndarray) -> None:
        """Asks for one step of those that are not over, n in the order of their seeds. actions: (n, A)."""
        self._asked = partial(self._step, actions)

    def rows(self) -> np.ndarray:
        """What the environments gave, (n,) with fields observation, reward, over, told and success.

        told, success: of all steps so far, whether an info had "success", and whether one was true. An exception of an
        environment notes the seed. Raises NotFiniteError for an observation or a reward that is not finite.
        """
        try:
            return self._asked()
        except Exception as error:
            error.add_note(f"in the episode of reset seed {self.seed}")
            raise

    def close(self) -> None:
        for env in self.envs:
            env.close()
        self.envs = []

    def _reset(self, seeds: Sequence[int], spec: DataSpec | None, rewards: str | None) -> np.ndarray:
        self.seeds, self.running = seeds, list(range(len(seeds)))
        self.shifts = [0.0] * len(seeds)  # of the rewards, to the data's convention
        observations = []
        for i, seed in enumerate(seeds):
            self.seed = seed
            if i == len(self.envs):
                self.envs.append(self.make_env())
                check_raw(self.envs[i])
            if spec is not None:
                spec.check_env(self.envs[i].observation_space, self.envs[i].action_space)
            self.shifts[i] = to_data(rewards, self.envs[i])
            observations.append(np.array(self.envs[i].reset(seed=seed)[0]))  # two may hand out the same array
        stacked = np.stack(observations).astype(np.float32)
        self.row = np.dtype(
            [
                ("observation", np.float32, stacked.shape[1:]),
                ("reward", np.float64),
                ("over", np.bool_),
                ("told", np.bool_),
                ("success", np.bool_),
            ]
        )
        rows = np.zeros(len(seeds), self.row)
        rows["observation"] = stacked
        check_rows({"observations": stacked}, self._source)
        self.told, self.successes = [False] * len(seeds), [False] * len(seeds)
        return rows

    def _step(self, actions: np.ndarray) -> np.ndarray:
        rows = np.zeros(len(self.running), self.row)
        for k, i in enumerate(self.running):
            self.seed = self.seeds[i]
            observation, reward, terminated, truncated, info = self.envs[i].step(np.array(actions[k]))
            if "success" in info:
                self.told[i] = True
                self.successes[i] |= bool(np.all(info["success"]))
            rows[k] = (
                observation,
                float(reward) + self.shifts[i],
                terminated or truncated,
                self.told[i],
                self.successes[i],
            )
        check_rows({"observations": rows["observation"], "rewards": rows["reward"]}, self._source)
        if rows["over"].any():
            self.running = [i for i, over in zip(self.running, rows["over"], strict=True) if not over]
        return rows

    def _source(self, row: int) -> str:
        self.seed = self.seeds[self.running[row]]
        return f"the environment of reset seed {self.seed}"


class Worker:
    """A Group in another process, which ends with close(), with this object, and with this process."""

    def __init__(self, make_env: Maker):
        # A new interpreter: a fork of a process in which torch has threads may hang.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, make_env), name="zoo-worker", daemon=True)
        self.process.start()
        theirs.close()  # so that its end is the pipe's end
        self.seeds: Sequence[int] = ()

    def reset(self, seeds: Sequence[int], spec: DataSpec | None = None, rewards: str | None = None) -> None:
        self.seeds = seeds
        self._send([seeds, spec, rewards])

    def step(self, actions: np.ndarray) -> None:
        self._send((actions.dtype.str, actions.shape, actions.tobytes()))

    def rows(self) -> np.ndarray:
        """As Group.rows. Raises EvaluationError where an environment raised, or where the process is gone."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            raise self._gone() from None
        if isinstance(answer, str):
            raise EvaluationError(f"an environment failed in a worker process, with this traceback:\n\n{answer}")
        if isinstance(answer, np.ndarray):
            self.row = answer.dtype
            return answer
        return np.frombuffer(answer, self.row)

    def close(self) -> None:
        """Ends the process; a step that takes longer than PATIENCE is not waited for."""
        self.pipe.close()
        self.process.join(PATIENCE if self.seeds else 0.0)  # one that was never asked has nothing to put away
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _send(self, message: object) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            raise self._gone() from None

    def _gone(self) -> EvaluationError:
        self.process.join(PATIENCE)
        return EvaluationError(
            f"a worker process ended by itself with exit code {self.process.exitcode}, in the episodes of reset seeds "
            f"{', '.join(map(str, self.seeds))}. What it had to say is on stderr; a script that evaluates with workers "
            'needs if __name__ == "__main__": around its calls. workers=1 evaluates in this process.'
        )


def _work(pipe: Connection, make_env: Maker) -> None:
    """A worker's life: answers seeds with a whole array of rows, actions with the bytes of one, errors with words."""
    for number in SIGNALS:  # they reach every process of a group, but the one that evaluates decides
        signal.signal(number, signal.SIG_IGN)
    group = Group(make_env)
    with contextlib.suppress(EOFError, ConnectionError):  # the other side has closed, or is no more
        while True:
            pipe.send(_answer(group, pipe.recv()))
    group.close()


def _answer(group: Group, message: Sequence) -> np.ndarray | bytes | str:
    try:
        if isinstance(message, list):
            group.reset(*message)
            return group.rows()
        dtype, shape, content = message
        group.step(np.frombuffer(content, dtype).reshape(shape))
        return group.rows().tobytes()
    except Exception:
        return traceback.format_exc()

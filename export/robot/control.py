"""The loop between a policy and a robot: read, decide, limit, write, at a fixed rate. Needs numpy, no other file of
this project.

docs/control.md has the table of what the loop does in each case. In short: only a fresh, sound observation is shown to
the policy; without one its last action is held until it is stale; all else is the safe action, and so is the last
write of every run, however it ends.

The loop is one thread and cannot interrupt `read`, `policy` or `write`: they must return in a fraction of a period.
What it cannot do, such as stop a robot whose computer has died, needs a watchdog on the robot.
"""

from __future__ import annotations  # Python 3.9 reads this file

import json
import logging
import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

OUTCOMES = ("policy", "hold", "safe")  # what was written: the policy's action, its last one again, or the safe action
CAUSES = ("none", "missing", "faulty", "stale", "guard", "action", "overrun")  # why it was not the policy's
ON_OVERRUN = ("hold", "safe", "stop")
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)

log = logging.getLogger("control")


class Guard(Protocol):
    """Says how far to trust an action: above `threshold`, or NaN, the loop falls back to the safe action."""

    threshold: float

    def __call__(self, obs: np.ndarray, action: np.ndarray) -> float: ...


class Memory(Protocol):
    """A policy that remembers past ticks, such as an OnnxPolicy with history or delay."""

    def reset(self) -> None: ...

    def wrote(self, action: np.ndarray) -> None: ...


class Recorder(Protocol):
    """Takes down every tick without waiting or raising; recorder.py beside this file has one."""

    def begin(self, about: dict[str, Any]) -> None: ...

    def note(
        self,
        tick: int,
        time: float,
        lateness: float,
        work: float,
        age: float,
        doubt: float,
        outcome: int,
        cause: int,
        limited: bool,
        late: bool,
        observation: np.ndarray | None,
        wanted: np.ndarray | None,
        written: np.ndarray,
    ) -> None: ...

    def end(self, reason: str) -> None: ...


class Limits:
    """What may be written to the robot; vectors of A numbers in the units of the actions, kept as read-only float64.

    low, high: the box, which may be smaller than the policy's.
    safe: the action to fall back to, inside the box; it is written at once, max_rate does not delay it.
    max_rate: the most that a component may change, in units per second; a number, A numbers, or None for no limit.
    Raises ValueError for other shapes, an empty box, numbers that are not finite, or a safe action outside the box.
    """

    def __init__(self, low: Any, high: Any, safe: Any, max_rate: Any = None):
        self.safe = np.array(safe, np.float64)
        if self.safe.ndim != 1 or not self.safe.size:
            raise ValueError(f"safe must be a vector of one number for each action, got shape {self.safe.shape}")
        self.low, self.high = (_vector(name, v, self.safe.shape) for name, v in (("low", low), ("high", high)))
        self.max_rate = None if max_rate is None else _vector("max_rate", max_rate, self.safe.shape)
        if not (self.low <= self.high).all():
            raise ValueError(f"low must not be above high, got low={self.low}, high={self.high}")
        if not ((self.low <= self.safe) & (self.safe <= self.high)).all():  # NaN too
            raise ValueError(f"the safe action {self.safe} is outside the box from {self.low} to {self.high}")
        if self.max_rate is not None and not (self.max_rate > 0.0).all():
            raise ValueError(f"max_rate must be positive, got {self.max_rate}")
        self.safe.setflags(write=False)

    def apply(self, action: np.ndarray, last: np.ndarray, seconds: float) -> np.ndarray:
        """The nearest allowed action (A,), `seconds` after `last` was written."""
        low, high = self.low, self.high
        if self.max_rate is not None:
            reach = self.max_rate * seconds
            low, high = np.maximum(low, last - reach), np.minimum(high, last + reach)
        return np.minimum(np.maximum(action, low), high)


@dataclass(frozen=True)
class Decision:
    """What a tick writes, and why."""

    outcome: str  # of OUTCOMES
    cause: str  # of CAUSES
    action: np.ndarray  # (A,)
    limited: bool = False  # the policy wanted more than the limits allow
    doubt: float = math.nan  # the guard's number


@dataclass(frozen=True)
class Report:
    """How a run went. Times are milliseconds by percentile ("50", ..., "100" is the largest) over the recorded ticks.

    reason: why it ended.  deadlines: that have passed.  kept: of them, where the write came before the next one.
    outcomes, causes: ticks by what was written and why; a tick that slept through whole periods is one tick.
    lateness: from the deadline to the tick's begin, the jitter.  work: from there until the action was written.
    last_fault: what was wrong with the last refused observation or action, "" if none was.
    """

    reason: str
    rate: float
    deadlines: int
    kept: int
    outcomes: dict[str, int]
    causes: dict[str, int]
    limited: int
    lateness_ms: dict[str, float]
    work_ms: dict[str, float]
    last_fault: str

    def __str__(self) -> str:
        share = self.kept / max(self.deadlines, 1)
        header = "".join(f"{'max' if p == 100.0 else f'p{p:g}':>10}" for p in PERCENTILES)
        rows = [
            f"{name:<12}" + "".join(f"{values[f'{p:g}']:>10.3f}" for p in PERCENTILES)
            for name, values in (("lateness", self.lateness_ms), ("work", self.work_ms))
        ]
        counts = (", ".join(f"{n} {name}" for name, n in c.items() if n) for c in (self.outcomes, self.causes))
        return "\n".join(
            [
                f"{self.kept} of {self.deadlines} deadlines kept ({share:.2%}) at {self.rate:g} Hz",
                f"{'ms':<12}{header}",
                *rows,
                "actions: {}; causes: {}; {} limited".format(*counts, self.limited),
                f"ended: {self.reason}",
            ]
        )


class ControlLoop:
    """Runs a policy on a robot, one tick a period, against absolute deadlines: a late tick moves none of the others.

    read() -> the newest observation (O,), or None where nothing new has come. It must not wait. An OSError, such as a
        closed connection, ends the run; TimeoutError and BlockingIOError mean None.
    policy(obs (O,) float32) -> action (A,), for example OnnxPolicy.predict. An ArithmeticError, or an action that is
        not A finite numbers, is answered with the safe action; any other exception ends the run and is raised.
    write(action (A,) float64): sends it. An OSError ends the run.
    limits: of what is written.  rate: ticks a second.  observation_size: O.
    stale_after: seconds for which an observation may speak for the robot, from when `read` returned it.
    on_overrun: where the action is ready only after the tick's period: "hold" the last one, "safe" action, or "stop".
    guard: zoo_robot.disagreement.Disagreement, or another callable with a threshold; it sees the limited action.
    record: ticks that are kept for the statistics and the log, the newest ones.
    memory: the policy, where it remembers: it is told of the begin of a run, and of what was written in each tick.
    recorder: zoo_robot.recorder.Recorder, which takes every tick to a file; without one nothing is kept on disk.
    clock, sleep: in seconds; for tests.
    """

    def __init__(
        self,
        read: Callable[[], Any],
        policy: Callable[[np.ndarray], Any],
        write: Callable[[np.ndarray], None],
        limits: Limits,
        *,
        rate: float,
        observation_size: int,
        stale_after: float,
        on_overrun: str = "hold",
        guard: Guard | None = None,
        record: int = 100_000,
        memory: Memory | None = None,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        for name, value in (("rate", rate), ("stale_after", stale_after)):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        for name, count in (("observation_size", observation_size), ("record", record)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if on_overrun not in ON_OVERRUN:
            raise ValueError(f"on_overrun must be one of {', '.join(ON_OVERRUN)}, got {on_overrun!r}")
        if guard is not None and not math.isfinite(guard.threshold):
            raise ValueError(f"the guard's threshold must be a finite number, got {guard.threshold}")
        self.read, self.policy, self.write, self.limits, self.guard = read, policy, write, limits, guard
        self.rate, self.period = rate, 1.0 / rate
        self.observation_size, self.stale_after, self.on_overrun = observation_size, stale_after, on_overrun
        self.memory, self.recorder = memory, recorder
        self.clock, self.sleep = clock, sleep
        self._records = np.zeros(record, self._columns())
        self._forget()

    def _columns(self) -> np.dtype:
        numbers = [(name, np.float64) for name in ("lateness", "work", "age", "doubt")]
        codes = [(name, np.uint8) for name in ("outcome", "cause", "limited", "late")]
        return np.dtype([("tick", np.int64), *numbers, *codes, ("action", np.float32, self.limits.safe.shape)])

    def _forget(self) -> None:
        """As before the first tick: nothing seen, and the robot taken to be at the safe action."""
        self.reason: str | None = None
        self.last_fault = ""
        self._signalled = False
        self._tick = 0  # of the next deadline
        self._done = 0  # ticks that ran
        self._kept = self._limited = 0
        self._outcomes, self._causes = dict.fromkeys(OUTCOMES, 0), dict.fromkeys(CAUSES, 0)
        self._last = self.limits.safe  # written
        self._held: np.ndarray | None = None  # the policy's last action, while it may be written again
        self._seen = -math.inf  # when the observation came that it answers
        self._distrust = "stale"  # why there is none to hold
        self._observed: np.ndarray | None = None  # in this tick
        self._wanted: np.ndarray | None = None  # by the policy, in this tick
        self._told: set[str] = set()  # causes of safe actions that were logged

    def run(self, ticks: int | None = None) -> Report:
        """Runs until `ticks` deadlines have passed, stop(), SIGINT, SIGTERM, a lost link, or an overrun where it stops.

        The last thing that it writes is the safe action, also where an exception ends it. A signal lets the tick
        end first; a second one raises KeyboardInterrupt at once. In other threads than the main one, signals are not
        caught. A run starts afresh: nothing of an earlier one is held or counted.
        """
        self._forget()
        if self.memory is not None:
            self.memory.reset()
        if self.recorder is not None:
            self.recorder.begin(self._about())
        with self._signals():
            try:
                start = self.clock()
                while self.reason is None and (ticks is None or self._tick < ticks):
                    self._run_tick(start)
            except BaseException as error:
                self.stop(f"raised {error!r}")
                raise
            finally:
                try:
                    self._write_safe()
                finally:
                    if self.recorder is not None:
                        self.recorder.end(self.reason or "done")
        self.stop("done")
        log.info("ended: %s", self.reason)
        return self.report()

    def stop(self, reason: str = "stop() was called") -> None:
        """Lets the tick end, then the run; from any thread, from `read`, `policy` and `write` too."""
        self.reason = self.reason or reason

    def report(self) -> Report:
        """How the last run went, or goes."""
        rows = self._rows()
        return Report(
            reason=self.reason or "running",
            rate=self.rate,
            deadlines=self._tick,
            kept=self._kept,
            outcomes=dict(self._outcomes),
            causes=dict(self._causes),
            limited=self._limited,
            lateness_ms=_percentiles(rows["lateness"]),
            work_ms=_percentiles(rows["work"]),
            last_fault=self.last_fault,
        )

    def write_log(self, path: str | os.PathLike[str]) -> None:
        """One JSON object a line: the report, then the recorded ticks, oldest first. Written whole or not at all.

        A tick has its number, lateness, work and age in seconds (null before the first), the guard's doubt (null where
        it was not asked), outcome, cause, whether it was limited or late, and the action as it was written. The age is
        that of the observation which the policy's last action answered.
        """
        lines = [json.dumps(asdict(self.report()))]
        for row in self._rows():
            values: dict[str, Any] = {name: row[name].item() for name in ("tick", "lateness", "work", "age", "doubt")}
            values = {name: v if math.isfinite(v) else None for name, v in values.items()}
            values |= {"outcome": OUTCOMES[row["outcome"]], "cause": CAUSES[row["cause"]]}
            values |= {name: bool(row[name]) for name in ("limited", "late")} | {"action": row["action"].tolist()}
            lines.append(json.dumps(values))
        _write_whole(Path(path), "".join(f"{line}\n" for line in lines).encode())

    def _about(self) -> dict[str, Any]:
        """What a recorder is told of the run."""
        rate = self.limits.max_rate
        return {
            "clock": self.clock(),
            "rate": self.rate,
            "observation_size": self.observation_size,
            "action_size": len(self.limits.safe),
            "outcomes": OUTCOMES,
            "causes": CAUSES,
            "stale_after": self.stale_after,
            "on_overrun": self.on_overrun,
            "memory": self.memory is not None,
            "threshold": None if self.guard is None else self.guard.threshold,
            "limits": {name: getattr(self.limits, name).tolist() for name in ("low", "high", "safe")}
            | {"max_rate": None if rate is None else rate.tolist()},
        }

    def _run_tick(self, start: float) -> None:
        deadline = start + self._tick * self.period
        while (early := deadline - self.clock()) > 0.0:
            self.sleep(early)
        begin = self.clock()
        decision = self._decide(begin)
        late = self.clock() - deadline > self.period
        if late:
            decision = self._overrun(decision)
        if decision.outcome == "policy":
            self._held, self._seen = decision.action, begin
        self._send(decision.action)
        if self.memory is not None:
            self.memory.wrote(decision.action)
        end = self.clock()
        late = late or end - deadline > self.period
        self._note(decision, begin, begin - deadline, end - begin, begin - self._seen, late)
        self._tick = max(self._tick + 1, math.ceil((end - start) / self.period))  # no burst makes up for missed ones

    def _decide(self, now: float) -> Decision:
        self._wanted = None
        obs, cause = self._observe()
        self._observed = obs
        if obs is None:
            return self._hold(cause, now)
        try:
            action = np.asarray(self.policy(obs), np.float64)
        except ArithmeticError as error:
            return self._fall_back("action", f"the policy failed: {error}")
        if action.shape != self.limits.safe.shape or not np.isfinite(action).all():
            fault = f"the policy's action is {action}, expected {len(self._last)} finite numbers"
            return self._fall_back("action", fault)
        self._wanted = action
        allowed = self.limits.apply(action, self._last, self.period)
        doubt = math.nan
        if self.guard is not None:
            doubt = float(self.guard(obs, allowed))
            if not doubt <= self.guard.threshold:  # NaN too
                return self._fall_back("guard", doubt=doubt)
        return Decision("policy", "none", allowed, not np.array_equal(allowed, action), doubt)

    def _observe(self) -> tuple[np.ndarray | None, str]:
        """A sound observation (O,) float32; or None and the cause."""
        try:
            raw = self.read()
        except (TimeoutError, BlockingIOError):
            return None, "missing"
        except OSError as error:
            self.stop(f"lost the robot: {error!r} from read")
            return None, "missing"
        if raw is None:
            return None, "missing"
        try:
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is refused as such
                obs = np.asarray(raw).astype(np.float32, casting="same_kind")
        except (TypeError, ValueError) as error:
            self.last_fault = f"the observation is no array of numbers: {error}"
            return None, "faulty"
        if obs.shape != (self.observation_size,):
            self.last_fault = f"the observation has shape {obs.shape}, expected ({self.observation_size},)"
        elif not np.isfinite(obs).all():
            bad = np.flatnonzero(~np.isfinite(obs)).tolist()
            self.last_fault = f"the observation has NaN or infinite entries in dimensions {bad}"
        else:
            return obs, "none"
        return None, "faulty"

    def _hold(self, cause: str, now: float) -> Decision:
        if self._held is not None and now - self._seen <= self.stale_after:
            return Decision("hold", cause, self._held)
        return self._fall_back("stale" if self._held is not None else self._distrust)

    def _fall_back(self, cause: str, fault: str = "", doubt: float = math.nan) -> Decision:
        """The safe action, and no way back to an older action of the policy: only a new observation ends it."""
        self._held, self._distrust = None, cause
        self.last_fault = fault or self.last_fault
        return Decision("safe", cause, self.limits.safe, doubt=doubt)

    def _overrun(self, decision: Decision) -> Decision:
        if self.on_overrun == "stop":
            self.stop(f"overrun in tick {self._tick}")
        if decision.outcome == "safe":
            return decision
        if self.on_overrun == "hold" and self._held is not None:
            return self._hold("overrun", self.clock())
        return self._fall_back("overrun")

    def _send(self, action: np.ndarray) -> None:
        try:
            self.write(action)
        except OSError as error:
            self.stop(f"lost the robot: {error!r} from write")
        self._last = action

    def _write_safe(self) -> None:
        try:
            self.write(self.limits.safe)
        except OSError as error:
            log.error("the safe action could not be written at the end: %r", error)

    def _note(self, decision: Decision, begin: float, lateness: float, work: float, age: float, late: bool) -> None:
        outcome, cause = OUTCOMES.index(decision.outcome), CAUSES.index(decision.cause)
        row = (self._tick, lateness, work, age, decision.doubt, outcome, cause, decision.limited, late, decision.action)
        self._records[self._done % len(self._records)] = row
        if self.recorder is not None:
            seen = (self._observed, self._wanted, decision.action)
            self.recorder.note(self._tick, begin, *row[1:9], *seen)
        self._done += 1
        self._kept += not late
        self._limited += decision.limited
        self._outcomes[decision.outcome] += 1
        self._causes[decision.cause] += 1
        if decision.outcome == "safe" and decision.cause not in self._told:  # once: at a high rate the log is a load
            self._told.add(decision.cause)
            fault = self.last_fault or "none"
            log.warning("tick %d: first safe action of cause %s; last fault: %s", self._tick, decision.cause, fault)

    def _rows(self) -> np.ndarray:
        """The recorded ticks, oldest first."""
        size = len(self._records)
        return self._records[: self._done] if self._done <= size else np.roll(self._records, -(self._done % size))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        if self._signalled:
            raise KeyboardInterrupt(name)
        self._signalled = True
        self.stop(name)


def _vector(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(value, np.float64)
    if array.shape not in ((), shape) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a finite number or {shape[0]} of them, as the safe action has, got {value}")
    array = np.broadcast_to(array, shape).copy()
    array.setflags(write=False)
    return array


def _percentiles(seconds: np.ndarray) -> dict[str, float]:
    values = np.percentile(seconds, PERCENTILES) * 1e3 if len(seconds) else np.zeros(len(PERCENTILES))
    return {f"{p:g}": float(v) for p, v in zip(PERCENTILES, values)}  # noqa: B905, Python 3.9 has no strict


def _write_whole(path: Path, content: bytes) -> None:
    """The file appears under its name only when all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

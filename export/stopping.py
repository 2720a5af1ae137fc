"""Signals that ask a program to end: Ctrl-C, and those of clusters (SIGTERM) and of closed terminals (SIGHUP)."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal has asked for the end; the message says what was kept. status: of the process, 128 + the signal."""

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.status = 128 + number


class Interrupt:
    """Whether a signal has asked for the end, and which one (0: none). A second one does not wait."""

    def __init__(self) -> None:
        self.requested = 0

    def __call__(self, number: int, _: FrameType | None = None) -> None:
        if self.requested:
            at_once(number)
        self.requested = number


def at_once(number: int, _: FrameType | None = None) -> None:
    raise Stopped(f"stopped by {signal.Signals(number).name}", number)


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """The signals set a mark instead of tearing an update apart."""
    interrupt = Interrupt()
    with handled(interrupt):
        yield interrupt


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """The signals go to the handler; those that are ignored (nohup) stay so. Only the main thread can do that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number, old in before.items() if old not in (signal.SIG_IGN, None)]
    for number in mine:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])

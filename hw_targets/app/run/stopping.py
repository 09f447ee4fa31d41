"""SIGTERM, which batch systems send before they kill: a run saves what it has and ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Exit status of a run that SIGTERM ended, as shells have it: 128 and the signal's number.
TERMINATED = 128 + signal.SIGTERM


class Terminated(BaseException):
    """SIGTERM came; the message says how to go on. Nobody's `except Exception` takes it for an error."""


class Stop:
    """Whether SIGTERM came. Within `deferred` it is only noted, elsewhere it raises `Terminated`."""

    def __init__(self) -> None:
        self.asked = False
        self._is_deferred = False
        self._owner = os.getpid()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In the block whoever runs asks `asked` where it suits, and raises."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """The signal's handler."""
        if os.getpid() != self._owner:  # a process that reads data, which inherited it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.asked = True
        if not self._is_deferred:
            raise Terminated("stopped by SIGTERM; go on with --resume from the last checkpoint, if there is one")


@contextmanager
def stopping() -> Iterator[Stop]:
    """Listen to SIGTERM in the block; outside the main thread, where nobody can, it does what it always does."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)

"""How far a long loop is: a bar with the time left on a terminal, a line every ten seconds where there is none."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Seconds between two lines.
SECONDS = 10.0


class Bar(Protocol):
    """What a loop tells how far it is."""

    def update(self, count: int = 1) -> object:
        """So many more are done."""
        ...


class _Silent:
    def update(self, count: int = 1) -> None:
        """Nothing is shown, whatever `count` is."""


@dataclass
class Lines:
    """A line on `stream` when `SECONDS` have passed since the last one.

    `total` None: nobody knows, and no time left is given. `done` is what was there before the loop began, which took
    none of its time.
    """

    title: str
    total: int | None
    done: int = 0
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._began = self._said = self.clock()
        self._before = self.done

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        now = self.clock()
        if now - self._said >= SECONDS:
            self._said = now
            print(self._line(now - self._began), file=self.stream, flush=True)

    def _line(self, passed: float) -> str:
        if self.total is None:
            return f"{self.title}: {_minutes(passed)} passed"
        text = f"{self.title}: {self.done} of {self.total}, {_minutes(passed)} passed"
        own = self.done - self._before
        return f"{text}, about {_minutes(passed / own * (self.total - self.done))} left" if own else text


@dataclass(frozen=True)
class _Task:
    """One bar of a display."""

    display: Progress
    task: TaskID

    def update(self, count: int = 1) -> None:
        self.display.advance(self.task, count)


#: Where bars within bars are drawn, and whether any are; both hold for a block of code, in its own thread.
_DISPLAY: ContextVar[Progress | None] = ContextVar("display", default=None)
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """No progress is shown in the block."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


@contextmanager
def progress_bar(total: int | None, title: str, done: int = 0) -> Iterator[Bar]:
    """What to tell how far the block is, of `total` (None: unknown) of which `done` are done.

    On a terminal (standard error) it is a bar that vanishes in the end, below the one of a block around it, if `rich`
    is installed; otherwise lines on standard error, one in ten seconds.
    """
    if _SILENT.get():
        yield _Silent()
    elif not (sys.stderr.isatty() and importlib.util.find_spec("rich")):
        yield Lines(title, total, done)
    elif (display := _DISPLAY.get()) is not None:
        task = display.add_task(title, total=total, completed=done)
        try:
            yield _Task(display, task)
        finally:
            display.remove_task(task)
    else:
        with _display() as display:
            token = _DISPLAY.set(display)
            try:
                yield _Task(display, display.add_task(title, total=total, completed=done))
            finally:
                _DISPLAY.reset(token)


def _display() -> Progress:
    """Title, bar, how many, time passed and left; what others print meanwhile goes where they print it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeLeft())
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=4,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _minutes(seconds: float) -> str:
    """75.2 → '1:15'."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"

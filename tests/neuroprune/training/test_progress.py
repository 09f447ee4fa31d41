"""Progress: a line every ten seconds where there is no terminal, a bar with the time left where there is one."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from neuroprune.training.progress import SECONDS, Lines, progress_bar, silent

ROOT = Path(__file__).resolve().parents[3]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(total: int | None, seconds: float, steps: int, done: int = 0) -> list[str]:
    """What is written when each of `steps` takes `seconds`."""
    clock, stream = Clock(), io.StringIO()
    bar = Lines("training", total, done, stream, clock)
    for _ in range(steps):
        clock.now += seconds
        bar.update()
    return stream.getvalue().splitlines()


def test_a_line_every_ten_seconds_with_the_time_left() -> None:
    assert SECONDS == 10
    assert lines(100, 2.5, 8) == [
        "training: 4 of 100, 0:10 passed, about 4:00 left",
        "training: 8 of 100, 0:20 passed, about 3:50 left",
    ]


def test_a_short_loop_says_nothing() -> None:
    assert lines(5, 1.9, 5) == []


def test_steps_of_an_earlier_process_took_no_time() -> None:
    assert lines(100, 5, 2, done=90) == ["training: 92 of 100, 0:10 passed, about 0:40 left"]


def test_nobody_knows_the_end() -> None:
    assert lines(None, 65, 1) == ["training: 1:05 passed"]


def test_nothing_is_shown_where_all_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("neuroprune.training.progress.SECONDS", 0)
    with silent(), progress_bar(2, "training") as bar:
        bar.update()
    assert stream.getvalue() == ""
    with progress_bar(2, "training") as bar:
        bar.update(2)
    assert stream.getvalue() == "training: 2 of 2, 0:00 passed, about 0:00 left\n"


def test_on_a_terminal_there_are_bars_with_the_time_left_and_in_the_end_there_are_none() -> None:
    code = """
import time
from neuroprune.training.progress import progress_bar
with progress_bar(4, "outer") as outer:
    for _ in range(4):
        outer.update()
        with progress_bar(3, "inner") as inner:
            for _ in range(3):
                inner.update()
                time.sleep(0.05)
print("done")
"""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment, cwd=ROOT, check=True
    )
    os.close(theirs)
    shown = re.sub(r"\x1b\[[\d;]*m", "", os.read(ours, 1 << 16).decode())  # without colours
    os.close(ours)
    assert done.stdout == b"done\n"
    assert re.search(r"outer .*[1-4]/4 .*0:00:00 .*0:00:00", shown)
    assert re.search(r"inner .*[1-3]/3 ", shown)
    assert shown.rstrip().endswith("\x1b[2K"), "erased"

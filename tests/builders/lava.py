"""Lava for the tests, in one process for all of them: its imports take five seconds of CPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from hw_targets.targets.loihi.lava import check, runner
from hw_targets.targets.loihi.lava.check import LavaJob, LavaUnavailable, run_lava_jobs

CI = os.environ.get("CI") == "true"

#: For each line of arguments runs the runner, and answers with its exit status. Lava prints; the answers stand alone.
SERVE = """
import json, os, sys
from hw_targets.targets.loihi.lava import runner
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    try:
        status = runner.main(*json.loads(line))
        assert "torch" not in sys.modules, "the training half of lava-dl was imported"
    except Exception as error:  # what would end the runner's own process ends this command
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        status = 1
    print(status, file=replies, flush=True)
"""


@contextmanager
def required_in_ci() -> Iterator[None]:
    """Skip where Lava is not installed, but never where CI=true."""
    try:
        yield
    except LavaUnavailable as error:
        if CI:
            raise
        pytest.skip(str(error))


class LavaProcess:
    """A process that stays, and does for each command what the runner's own would do.

    What it reads and writes are the runner's arguments, results and exit status; only the start of a new process is
    left out (`test_netx.py` has a test that starts one).
    """

    def __init__(self, errors: Path) -> None:
        self._errors = errors
        self._process: subprocess.Popen[str] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, `run_lava` and its like start no process of their own."""
        with required_in_ci(), mock.patch.object(check, "_run", self._run):
            yield

    def traces(self, jobs: Sequence[LavaJob]) -> list[list[NDArray[np.int64]]]:
        """As `run_lava_jobs`."""
        with self.running():
            return run_lava_jobs(jobs)

    def _run(self, command: list[str], _errors: Path, _waiting: Callable[[], object]) -> tuple[int, str]:
        assert command[:3] == [sys.executable, "-m", runner.__name__]
        if self._process is None:
            started = [sys.executable, "-c", SERVE]
            pipe = subprocess.PIPE
            with self._errors.open("w") as stream:
                self._process = subprocess.Popen(started, stdin=pipe, stdout=pipe, stderr=stream, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command[3:]), file=self._process.stdin, flush=True)
        reply = self._process.stdout.readline()
        assert reply, f"the process of Lava has ended: {self._errors.read_text()}"
        return int(reply), self._errors.read_text().strip().rpartition("\n")[2]

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.communicate()


def lava_module(package: str, path: str) -> Any:
    """One file of Lava by itself, without what its package imports."""
    try:
        found = importlib.metadata.distribution(package).locate_file(path)
    except importlib.metadata.PackageNotFoundError:
        if CI:
            raise
        pytest.skip(f"{package} is not installed")
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), str(found))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""The frontier's runs as tasks of a real Ray, which `pip install 'neuroprune[ray]'` brings."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from examples.benchmarks.frontier.ray_tasks import RayTasks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tasks() -> Iterator[RayTasks]:
    """A cluster of two cores on this machine."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'neuroprune[ray]'")
    with RayTasks(2, retries=2) as executor:
        yield executor


def test_results_and_errors_are_those_of_the_task(tasks: RayTasks) -> None:
    def refuse(value: int) -> None:
        raise KeyError(value)

    assert sorted(tasks.map(lambda value: -value, [-3, -2, -1])) == [1, 2, 3]
    with pytest.raises(KeyError, match="7"):
        tasks.submit(refuse, 7).result(timeout=60)


def test_a_dying_worker_is_replaced_and_one_that_dies_each_time_is_told(tasks: RayTasks, tmp_path: Path) -> None:
    def die(deaths: Path, times: int) -> int:
        count = len(deaths.read_text()) if deaths.exists() else 0
        if count < times:
            deaths.write_text("x" * (count + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    assert tasks.submit(die, tmp_path / "twice", 2).result(timeout=120) == 2
    with pytest.raises(BrokenProcessPool, match="died 3 times"):
        tasks.submit(die, tmp_path / "always", 9).result(timeout=120)

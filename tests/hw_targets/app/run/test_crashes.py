"""Runs killed at random moments end as if nothing had happened; `make crashes` does it a hundred times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples.benchmarks.common import RESULTS

ROOT = Path(__file__).resolve().parents[4]


def counts_of(folder: Path, *options: str) -> dict[str, object]:
    """What the program counts, in a process of its own: it forks, which pytest's must not."""
    command = [sys.executable, "-m", "examples.benchmarks.crashes", "--out", str(folder / "counts.json"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (folder / "counts.json").exists(), done.stderr
    found: dict[str, object] = json.loads((folder / "counts.json").read_text())["counts"]
    return found


def test_a_few_killed_runs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    found = counts_of(tmp_path, "--kills", "4", "--terminations", "2", "--commands", "0", "--recipes", "noisy", "mixed")
    assert found["wrong"] == []
    assert (found["kills"], found["terminations"]) == (4, 2)


@pytest.mark.slow
def test_many_killed_runs_and_commands(tmp_path: Path) -> None:
    found = counts_of(tmp_path, "--kills", "100", "--terminations", "20", "--commands", "100")
    assert found["wrong"] == []
    assert found["kills"] == found["commands_killed"] == 100
    assert found["terminations"] == 20


def test_nothing_was_wrong_in_the_committed_counts() -> None:
    found = json.loads((RESULTS / "crashes.json").read_text())["counts"]
    assert found["wrong"] == []
    assert found["kills"] > 0
    assert found["terminations"] > 0

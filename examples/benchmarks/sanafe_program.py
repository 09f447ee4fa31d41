"""Starting SANA-FE, where it is installed: a program of its own that reads files and answers with one.

It runs in the Python named by the environment variable SANAFE_PYTHON, or in this one. `pip install sanafe==2.2.9`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VERSION = "2.2.9"


class SanafeFailed(RuntimeError):
    """SANA-FE is not installed, or died; the message says which."""


def python() -> str:
    """The interpreter that has SANA-FE."""
    return os.environ.get("SANAFE_PYTHON", sys.executable)


@cache
def missing() -> str | None:
    """Why SANA-FE cannot be run, None if it can."""
    # The version is read without importing it, so that asking costs nothing.
    code = "import importlib.metadata as m; print(m.version('sanafe'))"
    try:
        done = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"SANAFE_PYTHON={python()}: {error.strerror}"
    if done.returncode:
        return f"SANA-FE is not installed in {python()}: pip install sanafe=={VERSION}, or set SANAFE_PYTHON"
    found = done.stdout.strip()
    return None if found == VERSION else f"SANA-FE is {found}, but {VERSION} is what was compared: pip install it"


def dvs_file() -> Path:
    """The weights of the DVS gesture network that ships with SANA-FE."""
    code = "import importlib.metadata as m; print(m.distribution('sanafe').locate_file('sanafe/examples'))"
    done = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()) / "dvs_challenge.npz"


def simulate(what: Path | int) -> dict[str, Any]:
    """Run exported files, or that many steps of SANA-FE's own DVS gesture network.

    Returns joules by kind, counts, seconds by step, spikes as (step, neuron) by group, wall seconds and peak memory.

    Raises:
        SanafeFailed: it is not installed, or died.
    """
    if reason := missing():
        raise SanafeFailed(reason)
    task = ["dvs", str(what)] if isinstance(what, int) else ["files", str(Path(what).resolve())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        command = [python(), "-m", "examples.benchmarks.sanafe_run", *task, str(out)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SanafeFailed(f"SANA-FE failed ({done.returncode}): {done.stderr.strip()[-300:]}")
        found: dict[str, Any] = json.loads(out.read_text())
    return found

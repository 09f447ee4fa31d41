"""The numbers of every training step as CSV, for a spreadsheet or another plotting tool, and for TensorBoard."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_targets.app.report.read import load_run
from hw_targets.app.run.tensorboard import Board
from hw_targets.errors import InvalidFile
from hw_targets.files.atomic import new_file


def write_scalars(folder: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the lines of a run's metrics.jsonl as rows: `run`, `step`, and every other number that any line has.

    Raises:
        InvalidFile: the run's files are missing or broken, nothing was trained, or `path` exists.
    """
    steps = _steps(folder)
    columns = list(dict.fromkeys(("run", "step", *(key for step in steps for key in step))))
    with new_file(path, overwrite=overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(steps)
    return Path(path)


def write_tensorboard(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Write them as TensorBoard's event files, in a new folder: one subfolder per run that metrics.jsonl names.

    Raises:
        InvalidFile: as `write_scalars`.
        ImportError: tensorboard is not installed.
    """
    steps, out = _steps(folder), Path(path)
    if out.exists():
        raise InvalidFile(f"{out} exists already, and event files of two runs would be shown as one; name a new folder")
    with Board(out) as board:
        for step in steps:
            board.add(str(step.get("run", "run")), step)
    return out


def _steps(folder: str | os.PathLike[str]) -> Sequence[Mapping[str, Any]]:
    steps = load_run(folder).steps
    if not steps:
        raise InvalidFile(f"{folder} has no metrics.jsonl with steps; name the folder of a training run")
    return steps

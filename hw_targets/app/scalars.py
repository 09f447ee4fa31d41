"""The numbers of every training step as CSV, for a spreadsheet or another plotting tool."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from hw_targets.app.report.read import load_run
from hw_targets.errors import InvalidFile
from hw_targets.files.atomic import new_file


def write_scalars(folder: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the lines of a run's metrics.jsonl as rows: `run`, `step`, and every other number that any line has.

    Raises:
        InvalidFile: the run's files are missing or broken, nothing was trained, or `path` exists.
    """
    steps = load_run(folder).steps
    if not steps:
        raise InvalidFile(f"{folder} has no metrics.jsonl with steps; name the folder of a training run")
    columns = list(dict.fromkeys(("run", "step", *(key for step in steps for key in step))))
    with new_file(path, overwrite=overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(steps)
    return Path(path)

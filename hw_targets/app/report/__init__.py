"""One self-contained page, and one picture, about a finished run."""

from __future__ import annotations

import os
from pathlib import Path

from hw_targets.app.report.canvas import require_matplotlib
from hw_targets.app.report.page import html_page
from hw_targets.app.report.picture import save_picture
from hw_targets.app.report.read import load_run
from hw_targets.files.atomic import new_file

__all__ = ["write_figure", "write_report"]


def write_report(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write `folder/report.html` from the run's `summary.json` and `metrics.jsonl`.

    The page needs nothing else: the plots are in it, and it loads nothing. What the summary does not say is shown
    as "unknown".

    Raises:
        InvalidFile: one of the two files is missing or broken, or there is a report and `overwrite` is False.
        ImportError: matplotlib is not installed.
    """
    require_matplotlib()
    run = load_run(folder)
    path = Path(folder) / "report.html"
    with new_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(html_page(run), encoding="utf-8")
    return path


def write_figure(folder: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write one PNG of 1600 x 900 pixels with the four panels that say most about the run in `folder`.

    Raises:
        InvalidFile: the run's files are missing or broken, or `path` exists and `overwrite` is False.
        ImportError: matplotlib is not installed.
    """
    require_matplotlib()
    run = load_run(folder)
    with new_file(path, overwrite=overwrite) as temporary:
        save_picture(run, temporary)
    return Path(path)

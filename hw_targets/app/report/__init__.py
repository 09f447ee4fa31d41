"""One self-contained page, and one picture, about a finished run; one page about several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hw_targets.app.report.canvas import require_matplotlib
from hw_targets.app.report.compare import html_comparison
from hw_targets.app.report.page import html_page
from hw_targets.app.report.picture import save_picture
from hw_targets.app.report.read import load_run
from hw_targets.app.run.hashes import check, new_result, sources
from hw_targets.files.atomic import new_file

__all__ = ["write_comparison", "write_figure", "write_report"]


def write_report(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write `folder/report.html` from the run's `summary.json` and, where something was trained, `metrics.jsonl`.

    The page needs nothing else: the plots are in it, and it loads nothing. What was not run is not on it.

    Raises:
        InvalidFile: there is no summary, a file is broken or another run's, or there is a report and `overwrite` is
            False.
        ImportError: matplotlib is not installed.
    """
    require_matplotlib()
    path = Path(folder) / "report.html"
    made_of = sources(Path(folder))
    check(Path(folder), making=[path.name])
    run = load_run(folder)
    with new_result(Path(folder), path, overwrite=overwrite, made_of=made_of) as temporary:
        temporary.write_text(html_page(run), encoding="utf-8")
    return path


def write_comparison(
    folders: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write one page about several runs to `path`: their numbers in a table that sorts, their curves in one plot each.

    Raises:
        InvalidFile: as `write_report`, of any of the folders.
        ImportError: matplotlib is not installed.
    """
    require_matplotlib()
    runs = [(name, load_run(folder)) for name, folder in zip(_names(folders), folders, strict=True)]
    with new_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(html_comparison(runs), encoding="utf-8")
    return Path(path)


def _names(folders: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Names of the folders; their paths where two have one name."""
    names = [Path(folder).resolve().name for folder in folders]
    return [name if names.count(name) == 1 else str(Path(f)) for name, f in zip(names, folders, strict=True)]


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

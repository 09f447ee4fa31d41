"""`neuroprune report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hw_targets.app.cli.console import Console
from hw_targets.app.report import write_comparison, write_report
from hw_targets.app.scalars import write_scalars
from hw_targets.errors import InvalidFile


def report(folders: Sequence[Path], csv: Path | None, out: Path | None, *, overwrite: bool, console: Console) -> None:
    """A page about one run, or about several."""
    if len(folders) > 1:
        if csv is not None:
            raise InvalidFile("--csv is for one run; name one folder")
        written = [write_comparison(folders, out or Path("comparison.html"), overwrite=overwrite)]
    else:
        if out is not None:
            raise InvalidFile("--out is for a page about several runs; one run's page is report.html in its folder")
        written = [] if csv is None else [write_scalars(folders[0], csv, overwrite=overwrite)]
        written.append(write_report(folders[0], overwrite=overwrite))
    console.result({"written": written}, "\n".join(f"written to {path}" for path in written))

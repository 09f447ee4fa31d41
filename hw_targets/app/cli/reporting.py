"""`neuroprune report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hw_targets.app.cli.console import Console
from hw_targets.app.report import write_comparison, write_report
from hw_targets.app.scalars import write_scalars, write_tensorboard
from hw_targets.errors import InvalidFile


@dataclass(frozen=True)
class Scalars:
    """Where the numbers of every training step are to be written, too."""

    csv: Path | None = None
    tensorboard: Path | None = None


def report(folders: Sequence[Path], scalars: Scalars, out: Path | None, *, overwrite: bool, console: Console) -> None:
    """A page about one run, or about several."""
    if len(folders) > 1:
        for option, given in (("--csv", scalars.csv), ("--tensorboard", scalars.tensorboard)):
            if given is not None:
                raise InvalidFile(f"{option} is for one run; name one folder")
        written = [write_comparison(folders, out or Path("comparison.html"), overwrite=overwrite)]
    else:
        if out is not None:
            raise InvalidFile("--out is for a page about several runs; one run's page is report.html in its folder")
        written = []
        if scalars.csv is not None:
            written.append(write_scalars(folders[0], scalars.csv, overwrite=overwrite))
        if scalars.tensorboard is not None:
            written.append(write_tensorboard(folders[0], scalars.tensorboard))
        written.append(write_report(folders[0], overwrite=overwrite))
    console.result({"written": written}, "\n".join(f"written to {path}" for path in written))

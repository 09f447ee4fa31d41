"""`neuroprune report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_targets.app.report import write_comparison, write_report
from hw_targets.app.scalars import write_scalars
from hw_targets.errors import InvalidFile


def report(options: argparse.Namespace) -> None:
    if len(options.folder) > 1:
        if options.csv is not None:
            raise InvalidFile("--csv is for one run; name one folder")
        out = options.out or Path("comparison.html")
        print(f"written to {write_comparison(options.folder, out, overwrite=options.overwrite)}")
        return
    if options.out is not None:
        raise InvalidFile("--out is for a page about several runs; one run's page is report.html in its folder")
    if options.csv is not None:
        print(f"written to {write_scalars(options.folder[0], options.csv, overwrite=options.overwrite)}")
    print(f"written to {write_report(options.folder[0], overwrite=options.overwrite)}")

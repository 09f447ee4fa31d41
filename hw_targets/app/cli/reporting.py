"""`neuroprune report`."""

from __future__ import annotations

import argparse

from hw_targets.app.report import write_report


def report(options: argparse.Namespace) -> None:
    print(f"written to {write_report(options.folder, overwrite=options.overwrite)}")

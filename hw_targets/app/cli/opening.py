"""Run folders that commands are given."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hw_targets.app.cli.console import Console
from hw_targets.app.run_folder import RunFolder


def open_run(path: Path, console: Console, *, making: Collection[str] = ()) -> RunFolder:
    """`RunFolder.open`, with a note on a folder that nothing ties together.

    Raises:
        InvalidFile: as `RunFolder.open`.
    """
    folder = RunFolder.open(path, making=making)
    if not folder.is_tied:
        console.note(f"{path} has no hashes.json, so nothing tells whether its files are of one run")
    return folder

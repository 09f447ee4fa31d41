"""metrics.jsonl while it grows: a line per optimizer step, at once in the file, and cut off where a run goes on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from hw_targets.files.atomic import told
from neuroprune.training.loop import Record


class Position(NamedTuple):
    """How much of the file there was, and the SHA-256 of that."""

    size: int
    sha256: str


class Metrics:
    """An open metrics.jsonl. Lines are not held back, so that a killed process loses none.

    Args:
        path: the file.
        keep: what of it stays; None: nothing.
    """

    def __init__(self, path: Path, keep: Position | None = None) -> None:
        self._path = path
        with told(path):
            self._file = path.open("r+b" if keep is not None else "wb", buffering=0)
            kept = self._file.read(keep.size) if keep is not None else b""
            self._file.truncate(len(kept))
            self._file.seek(len(kept))
        self._size, self._digest = len(kept), hashlib.sha256(kept)

    def recorder(self, run: str) -> Record:
        """A function that writes one line for each record it is given."""
        return lambda row: self._write(json.dumps({"run": run, **row}).encode() + b"\n")

    def position(self) -> Position:
        """What is there by now, and certainly on the disk."""
        with told(self._path):
            os.fsync(self._file.fileno())
        return Position(self._size, self._digest.hexdigest())

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        with told(self._path):
            while left:
                left = left[self._file.write(left) or 0 :]
        self._size += len(line)
        self._digest.update(line)


def holds(path: Path, position: Position) -> bool:
    """Whether a file begins with what there was at a position."""
    try:
        with path.open("rb") as file:
            kept = file.read(position.size)
    except OSError:
        return False
    return len(kept) == position.size and hashlib.sha256(kept).hexdigest() == position.sha256

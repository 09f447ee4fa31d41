"""The results file: one JSON line per finished run, safe against interruption and against two writers."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

#: One line: plain JSON values. `kind` is "cell" or "calibration".
Record: TypeAlias = dict[str, Any]


class ResultsError(ValueError):
    """A results file that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Key:
    """What makes a cell the same cell. `budget` is the digest of the task's and the method's settings."""

    model: str
    method: str
    target: float
    seed: int
    budget: str

    @classmethod
    def of(cls, record: Record) -> Key:
        """The key of a line."""
        return cls(*(record[name] for name in ("model", "method", "target", "seed", "budget")))


def read(path: Path) -> list[Record]:
    """All finished lines. A last line without its newline was cut off in writing, and is left out.

    Raises:
        ResultsError: another line is not a result.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_parsed(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def append(path: Path, record: Record) -> None:
    """Add one line and wait until it is on disk; half a line left by a crash is removed first.

    An exclusive lock keeps lines whole where several processes write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _drop_half_line(file)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def cells(records: Iterable[Record]) -> dict[Key, Record]:
    """Cells by key; of two with the same key, the first."""
    found: dict[Key, Record] = {}
    for record in records:
        if record["kind"] == "cell":
            found.setdefault(Key.of(record), record)
    return found


def _drop_half_line(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    file.truncate(end)
    file.seek(0, os.SEEK_END)


def _parsed(line: bytes, where: str) -> Record:
    needed = {"kind", "model", "method", "target", "seed", "budget"}
    try:
        record: Record = json.loads(line)
    except ValueError as error:
        raise ResultsError(f"{where} is not JSON ({error}); remove that line, or choose another --out") from error
    if not isinstance(record, dict) or not needed <= record.keys():
        raise ResultsError(f"{where} is no result of this benchmark; remove that line, or choose another --out")
    return record

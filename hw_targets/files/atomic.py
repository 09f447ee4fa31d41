"""Writing result files without ever losing or half-writing one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hw_targets.errors import InvalidFile


def check_free(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a path that no file may be written to: asked before work whose result would be lost.

    Raises:
        InvalidFile: `path` exists and `overwrite` is False, is a folder, or its folder does not exist.
    """
    target = Path(path)
    if target.is_dir():
        raise InvalidFile(f"{target} is a folder; give the name of a file")
    if target.exists() and not overwrite:
        raise InvalidFile(f"{target} exists already; choose another name or pass overwrite=True (--overwrite)")
    if not target.parent.is_dir():
        raise InvalidFile(f"{target.parent} is not a folder; create it first")


@contextmanager
def new_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error.

    Raises:
        InvalidFile: as `check_free`.
    """
    target = Path(path)
    check_free(target, overwrite=overwrite)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    try:
        yield Path(name)
        # mkstemp makes files private; a result is as readable as the user's other files.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)

"""Writing result files without ever losing or half-writing one."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from hw_targets.errors import InvalidFile, check_path

AnyPath: TypeAlias = "str | os.PathLike[str]"

#: How files begin that are not whole yet; a process that is killed leaves them behind.
UNFINISHED = ".neuroprune-"
#: What a medium, its limits or its rights say when they take no more: all that a user can mend elsewhere.
_MEDIUM = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ENXIO, errno.EBUSY, errno.ESTALE),
}


def check_free(path: AnyPath, *, overwrite: bool = False) -> Path:
    """Refuse a path that no file may be written to: asked before work whose result would be lost.

    Returns:
        The file itself, where `path` is a link to it.

    Raises:
        InvalidFile: `path` exists and `overwrite` is False; is a folder, a device, a pipe or a link to nothing; has a
            name that is too long; or its folder does not exist or cannot be written to.
    """
    target = check_path(path)
    kind = _kind(target)
    if kind == "folder":
        raise InvalidFile(f"{target} is a folder; give the name of a file")
    if kind not in ("", "file"):
        raise InvalidFile(f"{target} is {kind}, which is never replaced; give the name of a file")
    if kind and not overwrite:
        raise InvalidFile(f"{target} exists already; choose another name or pass overwrite=True (--overwrite)")
    target = Path(os.path.realpath(target)) if target.is_symlink() else target
    if not target.parent.is_dir():
        raise InvalidFile(f"{target.parent} is not a folder; create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InvalidFile(f"{target.parent} cannot be written to; choose another folder, or change its rights")
    return target


@contextmanager
def new_file(path: AnyPath, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error.

    Raises:
        InvalidFile: as `check_free`, or the medium takes no more; what was there before is then as it was.
    """
    with new_files([path], overwrite=overwrite) as (temporary,):
        yield temporary


@contextmanager
def new_files(paths: Sequence[AnyPath], *, overwrite: bool = False) -> Iterator[tuple[Path, ...]]:
    """Temporary files that take the places of `paths` together when the block ends without an error.

    The last one seals them: it is gone before any other is replaced, and comes last. Files are on the disk, not in its
    cache, before they take a place.

    Raises:
        InvalidFile: as `new_file`.
    """
    targets = [check_free(path, overwrite=overwrite) for path in paths]
    made: list[Path] = []
    try:
        with told(targets[0]):
            for target in targets:
                # Of fixed length: beside the longest name that a folder takes there must be room for it, too.
                try:
                    handle, name = tempfile.mkstemp(prefix=UNFINISHED, dir=target.parent)
                except FileNotFoundError as error:  # as /proc says
                    raise InvalidFile(f"{target.parent} takes no new files; choose another folder") from error
                os.close(handle)
                made.append(Path(name))
            yield tuple(made)
            for temporary in made:
                _publish(temporary)
            if len(targets) > 1:
                targets[-1].unlink(missing_ok=True)
            for temporary, target in zip(made, targets, strict=True):
                os.replace(temporary, target)
            for folder in {target.parent for target in targets}:
                sync(folder)
    finally:
        for temporary in made:
            temporary.unlink(missing_ok=True)


def write_new(path: AnyPath, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file whole or not at all.

    Raises:
        InvalidFile: as `new_file`.
    """
    with new_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where there are none.

    Raises:
        InvalidFile: something else is in the way, or it may not be made there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidFile(f"{path} cannot be a folder: {reason}; choose another name") from error


def sync(path: Path) -> None:
    """Wait until a file, or a folder's names, are on the disk; where a file system cannot, nothing is waited for."""
    if os.name == "nt" and path.is_dir():  # which cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def told(target: Path) -> Iterator[None]:
    """Say in a sentence that a medium takes no more, of whatever is written in the block.

    Raises:
        InvalidFile: disk full, quota, size limit, read-only, no right, name too long, broken medium.
    """
    try:
        yield
    except OSError as error:
        name = error.filename
        elsewhere = isinstance(name, (str, bytes)) and not Path(os.fsdecode(name)).is_relative_to(target.parent)
        if error.errno not in _MEDIUM or elsewhere:
            raise
        raise InvalidFile(
            f"{target} cannot be written: {error.strerror}; make room or choose another place, what was there before is"
            " as it was"
        ) from error


def _kind(path: Path) -> str:
    """What is at a path: nothing (""), a "file" (also behind a link), a "folder", or what else in words."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            if not path.exists():
                return f"a link to {os.readlink(path)}, where nothing is"
            mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidFile(f"{path} cannot be looked at: {reason}; give the name of a file") from error
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _publish(temporary: Path) -> None:
    """Put a finished file on the disk, as readable as the user's other files; mkstemp makes them private."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    sync(temporary)

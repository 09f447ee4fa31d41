"""What ties a run folder together: hashes.json, the SHA-256 of its recipe, its model and each result made from it.

A folder's model never changes, since a new run takes the place of the whole folder; so a result whose hash is recorded
here was made from it. A hash is recorded before its file takes its place, beside the one of the file before, so that a
command that is killed in between leaves a folder whose files are all known.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from hw_targets.errors import InvalidFile
from hw_targets.files.atomic import UNFINISHED, check_free, make_folder, new_file, new_files, told, write_new

NAME = "hashes.json"
#: Files of every finished run.
SOURCES = ("recipe.toml", "model.safetensors")
#: What an unfinished run holds besides: how it was started, whose it is, from where it can go on, what it replaces.
PASSING = ("run.json", "lock", "checkpoints", ".replaced", NAME)
#: What the commands make of a run, by the names that they choose themselves.
RESULTS = (
    *("dense.safetensors", "metrics.jsonl", "summary.json", "model.net", "model.nir", "placement.npz", "report.html"),
    *(f"sanafe/{name}" for name in ("architecture.yaml", "network.yaml", "run.json")),
)

Recorded: TypeAlias = dict[str, list[str]]
#: Hashes of a run's recipe and model, by which it is told from one that takes its place.
Sources: TypeAlias = tuple[tuple[str, ...], ...]


def recorded(folder: Path) -> Recorded | None:
    """By name in the folder, the hashes that a file may have; None for a folder without hashes.json.

    Raises:
        InvalidFile: hashes.json is broken.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["files"]
        if all(isinstance(name, str) and all(isinstance(one, str) for one in known) for name, known in content.items()):
            return {str(name): list(known) for name, known in content.items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read: {error.strerror}; check the folder's name and rights") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InvalidFile(f"{path} does not hold hashes as they are written; put the file back, or repeat the run")


def sources(folder: Path) -> Sources | None:
    """What tells a finished run from others; None for a folder without hashes.json.

    Raises:
        InvalidFile: hashes.json is broken.
    """
    known = recorded(folder)
    return None if known is None else tuple(tuple(known.get(name, ())) for name in SOURCES)


def seal(folder: Path) -> None:
    """Record every file of a run as it is now: from here on the folder is a finished run.

    Raises:
        InvalidFile: the disk takes no more.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_passing(path, folder)]
    _write(folder, {path.relative_to(folder).as_posix(): [sha256(path)] for path in files})


def _is_passing(path: Path, folder: Path) -> bool:
    """Whether a file is there only until its run is finished."""
    first = path.relative_to(folder).parts[0]
    return first in PASSING or any(part.startswith(UNFINISHED) for part in path.relative_to(folder).parts)


def check(folder: Path, *, making: Collection[str] = ()) -> None:
    """Refuse a folder whose files do not belong together; one without hashes.json cannot be judged, and passes.

    Args:
        folder: a run folder.
        making: names of results that are about to be replaced, whatever they are now.

    Raises:
        InvalidFile: a file is not the one that the run wrote, or bears a result's name and none was written.
    """
    known = recorded(folder)
    if known is None:
        return
    for name in (*SOURCES, *(set(known) | set(RESULTS)) - set(SOURCES) - set(making)):
        path = folder / name
        if not path.is_file():
            continue
        found, expected = sha256(path), known.get(name)
        if expected is not None and found in expected:
            continue
        what = "put the file back, or repeat the run" if name in SOURCES else "remove it and make it again"
        if name in ("metrics.jsonl", "summary.json", "dense.safetensors"):
            what = "put the file back, remove it, or repeat the run"
        raise InvalidFile(
            f"{folder} is mixed: {name} was made by another run or changed since (its SHA-256 begins with {found[:12]},"
            f" {'the run wrote ' + ' or '.join(one[:12] for one in expected) if expected else 'this run wrote none'});"
            f" {what}"
        )


@contextmanager
def new_result(folder: Path, path: Path, *, overwrite: bool = False, made_of: Sources | None = None) -> Iterator[Path]:
    """A temporary file that becomes a result of the run in `folder`, recorded there if it lies there.

    Args:
        folder: the run's.
        path: the result's.
        overwrite: whether it may replace an earlier one.
        made_of: `sources` of the run that the result is made of, None where there is no other.

    Raises:
        InvalidFile: as `new_file`; or another run took the folder's place meanwhile.
    """
    with (
        ExitStack() as until_it_is_in_place,
        _of_one_run(folder, made_of),
        new_file(path, overwrite=overwrite) as temporary,
    ):
        yield temporary
        until_it_is_in_place.enter_context(alone(folder))
        _check_run(folder, [path], made_of)
        _record(folder, {path: temporary})


@contextmanager
def new_results(
    folder: Path, paths: Sequence[Path], *, overwrite: bool = False, made_of: Sources | None = None
) -> Iterator[Path]:
    """A temporary folder, whose files of these names become results together, recorded as by `new_result`.

    Raises:
        InvalidFile: as `new_files`, of which the last one is the seal, and as `new_result`.
    """
    folder_of_all = paths[0].parent
    make_folder(folder_of_all)
    for path in paths:
        check_free(path, overwrite=overwrite)
    with (
        ExitStack() as until_they_are_in_place,
        _of_one_run(folder, made_of),
        told(paths[0]),
        tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder_of_all) as name,
    ):
        yield Path(name)
        with new_files(paths, overwrite=overwrite) as temporaries:
            for path, temporary in zip(paths, temporaries, strict=True):
                os.replace(Path(name) / path.name, temporary)
            until_they_are_in_place.enter_context(alone(folder))
            _check_run(folder, paths, made_of)
            _record(folder, dict(zip(paths, temporaries, strict=True)))


def change_result(folder: Path, path: Path, change: Callable[[], bytes], made_of: Sources | None = None) -> None:
    """Put a result in place whose new content is made of the old one, while no other command writes any.

    Raises:
        InvalidFile: as `new_result`, and what `change` raises.
    """
    with _of_one_run(folder, made_of), alone(folder), new_file(path, overwrite=True) as temporary:
        _check_run(folder, [path], made_of)
        temporary.write_bytes(change())
        _record(folder, {path: temporary})


def sha256(path: Path) -> str:
    """A file's hash, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _of_one_run(folder: Path, made_of: Sources | None) -> Iterator[None]:
    """Say why a temporary file is gone: it lay in the folder of a run whose place another one took."""
    try:
        yield
    except FileNotFoundError:
        _check_run(folder, [folder / NAME], made_of)
        raise


def _check_run(folder: Path, paths: Sequence[Path], made_of: Sources | None) -> None:
    """Refuse to put what was made of one run beside the model of another.

    Raises:
        InvalidFile: as said.
    """
    inside = Path(os.path.realpath(folder))
    if made_of is None or not any(inside in Path(os.path.realpath(path)).parents for path in paths):
        return
    if sources(folder) != made_of:
        raise InvalidFile(
            f"another run took the place of {folder} meanwhile, and this was made of the one before; give the command"
            " again"
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within it no other command records a result of this folder; it ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows has none of these
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # A network's file system may lend none of a folder; there two commands at once must be run in turn.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _record(folder: Path, made: dict[Path, Path]) -> None:
    """Allow each file that is about to be replaced to be the old or the new one."""
    known = recorded(folder)
    if known is None:
        return
    inside = Path(os.path.realpath(folder))
    for path, temporary in made.items():
        real = Path(os.path.realpath(path))
        if inside in real.parents:
            name = real.relative_to(inside).as_posix()
            before = {sha256(path)} if path.is_file() else set()
            known[name] = sorted({*before.intersection(known.get(name, [])), sha256(temporary)})
    _write(folder, known)


def _write(folder: Path, known: Recorded) -> None:
    content = json.dumps({"format": 1, "files": dict(sorted(known.items()))}, indent=1, ensure_ascii=False)
    write_new(folder / NAME, (content + "\n").encode(), overwrite=True)

"""A run that is not finished: a folder beside the one that it becomes, which takes that one's place whole and last.

`runs/a` is made in `runs/a.unfinished`: recipe.toml, run.json (how it was started), metrics.jsonl, checkpoints/. When
all is there it is sealed (`hashes`), an earlier run moves into it as `.replaced`, what in there is nobody's result
moves out again, and the folder gets its name. Whenever a process is killed, `resume` and `finish` do the rest.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TextIO

from hw_targets.app.run import checkpoints, hashes
from hw_targets.errors import InvalidFile
from hw_targets.files.atomic import UNFINISHED, make_folder, sync, told, write_new

SUFFIX = ".unfinished"
REPLACED = ".replaced"
#: What a run may have left in its folder, also from before hashes were recorded.
_OURS = (
    *hashes.SOURCES,
    *hashes.RESULTS,
    *(hashes.NAME, "run.json", "lock", "checkpoints/*", f"{REPLACED}/*", f"{UNFINISHED}*", f"*/{UNFINISHED}*"),
    *("*.net", "*.nir", "*.placement.npz", "*.safetensors"),
)


@dataclass(frozen=True)
class UnfinishedRun:
    """An unfinished run that this process works on and no other.

    Attributes:
        out: the folder that it becomes.
        path: where it is until then.
        options: how it was started, as run.json says.
    """

    out: Path
    path: Path
    options: Mapping[str, Any]
    lock: TextIO

    @classmethod
    def begin(
        cls, out: Path, recipe: str | None, options: Mapping[str, Any], *, overwrite: bool = False
    ) -> UnfinishedRun:
        """A new run; an interrupted one in the same place is dropped only if `overwrite` says so, or it has no step.

        Args:
            out: the folder that it becomes.
            recipe: content of recipe.toml; None: nothing is trained.
            options: for run.json.
            overwrite: whether the run may take the place of an earlier one.

        Raises:
            InvalidFile: `out` may not be replaced (`check_place`), or another process works there.
        """
        out = check_place(out, overwrite=overwrite)
        path = unfinished_path(out)
        if path.exists():
            _check_ours(path)
        make_folder(path)
        with told(path):
            lock = _locked(path, out)
        if (path / REPLACED).exists():  # killed within its last moments, an earlier run in its belly
            cls(out, path, {"overwrite": True}, lock).finish()
            return cls.begin(out, recipe, options, overwrite=overwrite)
        if not overwrite and _has_progress(path):
            lock.close()
            raise InvalidFile(
                f"{path} holds a run that was interrupted: go on with it (neuroprune train --resume --out {out}), or"
                " pass --overwrite to begin anew"
            )
        with told(path / "run.json"):
            for entry in path.iterdir():
                if entry.name != "lock":
                    _remove(entry)
        run = cls(out, path, {**options, "overwrite": overwrite}, lock)
        if recipe is not None:
            write_new(path / "recipe.toml", recipe.encode(), overwrite=True)
        write_new(path / "run.json", json.dumps(run.options).encode(), overwrite=True)
        return run

    @classmethod
    def resume(cls, out: Path, *, overwrite: bool = False) -> UnfinishedRun | None:
        """The run that was interrupted on its way to `out`; None if there is none.

        Raises:
            InvalidFile: another process works on it, or it is no run of `neuroprune train`.
        """
        out = Path(os.path.realpath(out))
        path = unfinished_path(out)
        try:
            if not path.is_dir():
                return None
        except OSError:  # a name that no folder can have, of which `begin` says so
            return None
        _check_ours(path)
        try:
            options = json.loads((path / "run.json").read_text(encoding="utf-8"))
            said = {**options, "overwrite": bool(options["overwrite"]) or overwrite}
        except FileNotFoundError:
            if hashes.recorded(path) is None:
                return None  # killed before it began
            said = {"overwrite": True}  # killed while it took its place
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidFile(f"{path / 'run.json'} cannot be read ({error}); remove {path} and begin anew") from error
        return cls(out, path, said, _locked(path, out))

    @property
    def checkpoint_folder(self) -> Path:
        """Where they are."""
        return self.path / "checkpoints"

    @property
    def is_sealed(self) -> bool:
        """Whether all of it is there, and it only has to take its place."""
        return hashes.recorded(self.path) is not None

    def newest(self) -> checkpoints.Checkpoint | None:
        """The checkpoint to go on from; newer ones, which are damaged, are removed."""
        found = checkpoints.newest(self.checkpoint_folder, self.path / "metrics.jsonl")
        checkpoints.drop_newer(self.checkpoint_folder, found)
        return found

    def discard(self) -> None:
        """Remove what nobody can go on from."""
        shutil.rmtree(self.path)
        self.lock.close()

    def finish(self) -> None:
        """Take the place of `out`, whole; entries of an earlier run's folder that no run made are kept.

        Raises:
            InvalidFile: something is at `out` that may not be replaced; the run stays where it is, finished.
        """
        if not self.is_sealed:
            hashes.seal(self.path)
        before = self.path / REPLACED
        # If an earlier run has moved out of the way already, nothing else may have come there.
        check_place(self.out, overwrite=bool(self.options["overwrite"]) and not before.exists())
        try:
            _remove(self.checkpoint_folder)
            _remove(self.path / "run.json")
            with hashes.alone(self.out) if self.out.exists() else nullcontext():  # no command is amid a result then
                if self.out.exists() and any(self.out.iterdir()):
                    os.rename(self.out, before)
                for name in foreign(before):
                    (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                    os.rename(before / name, self.path / name)
                os.rename(self.path, self.out)
            sync(self.out.parent)
            _remove(self.out / REPLACED)
            _remove(self.out / "lock")
        except OSError as error:
            raise InvalidFile(
                f"{self.path} is finished, but cannot take the place of {self.out}: {error}; mend that, and go on with"
                f" neuroprune train --resume --out {self.out}"
            ) from error
        finally:
            self.lock.close()


def check_place(out: Path, *, overwrite: bool = False) -> Path:
    """Refuse a folder whose place no run may take; the folder itself, where `out` is a link to it.

    Raises:
        InvalidFile: `out` is not empty and `overwrite` is False; is no run folder; no folder at all, a link to nothing
            or a mounted disk; or has a name that is too long.
    """
    try:
        if out.is_symlink() and not out.exists():
            raise InvalidFile(
                f"{out} is a link to {os.readlink(out)}, where nothing is; choose another folder with --out"
            )
        real = Path(os.path.realpath(out))
        exists, is_folder = real.exists(), real.is_dir()
        is_empty = is_folder and not any(real.iterdir())
        if real.name:
            unfinished_path(real).exists()  # whose name is longer
    except InvalidFile:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidFile(f"{out} cannot be looked at: {reason}; choose another folder with --out") from error
    if exists and not is_folder:
        raise InvalidFile(f"{out} exists already and is no folder; choose another name with --out")
    if is_folder and os.path.ismount(real):
        raise InvalidFile(f"{out} is a disk of its own, whose place nothing can take; give a folder in it with --out")
    if is_folder and not is_empty and not overwrite:
        raise InvalidFile(f"{out} exists already; choose another folder with --out, or pass --overwrite")
    if is_folder and not is_empty and not is_run(real):
        raise InvalidFile(
            f"{out} exists already and holds no run, so it is not replaced; choose another one with --out"
        )
    return real


def is_run(folder: Path) -> bool:
    """Whether a folder is a finished run's, of training or of what is made of a trained model."""
    try:
        return (folder / hashes.NAME).is_file() or all((folder / name).is_file() for name in hashes.SOURCES)
    except (OSError, ValueError):  # a name that no folder can have
        return False


def foreign(folder: Path) -> list[str]:
    """Names of what is in a run folder and was not made by a run, folders without such things left out."""
    try:
        known = hashes.recorded(folder) or {}
    except InvalidFile:  # no reason to keep the run that is replaced
        known = {}
    names = (path.relative_to(folder).as_posix() for path in _leaves(folder))
    return [name for name in names if name not in known and not _is_ours(name)]


def _is_ours(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _OURS if ("/" in pattern) == ("/" in name))


def _leaves(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            yield from _leaves(entry)
        else:
            yield entry


def unfinished_path(out: Path) -> Path:
    """Where a run is until it takes its place."""
    return out.with_name(out.name + SUFFIX)


def _check_ours(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        names = {entry.name for entry in path.iterdir() if not entry.name.startswith(UNFINISHED)}
        # In between, while it is begun, cleared or finished, it holds some of these alone.
        made = {name.partition("/")[0] for name in _OURS} | {"checkpoints", REPLACED, "sanafe"}
        if is_run(path) or {"run.json", "recipe.toml"} <= names or names <= made:
            return
    raise InvalidFile(f"{path} is in the way, and is no interrupted run; move it, or choose another --out")


def _has_progress(path: Path) -> bool:
    """Whether anything would be lost with an interrupted run: a step, or all of it."""
    found = checkpoints.newest(path / "checkpoints", path / "metrics.jsonl")
    return hashes.recorded(path) is not None or (found is not None and (found.stage, found.steps) > (0, 0))


def _locked(path: Path, out: Path) -> TextIO:
    """A lock that ends with this process, however that ends.

    Raises:
        InvalidFile: another process holds it.
    """
    file = (path / "lock").open("w")
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has none of these
        pass
    except OSError as error:
        file.close()
        raise InvalidFile(
            f"another process works on {out} in {path} ({error.strerror}); wait for it, or choose another --out"
        ) from error
    return file


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)

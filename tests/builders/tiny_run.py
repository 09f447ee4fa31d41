"""Training runs that take a second, and ways to stop one at a step."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.benchmarks.crashes import RECIPES
from hw_targets.app.cli import main
from neuroprune.training.resuming import Running


def write_recipe(folder: Path, name: str = "mixed", seed: int = 0) -> Path:
    """A recipe that is run in a second."""
    path = folder / f"{name}{seed}.toml"
    path.write_text(RECIPES[name].replace("[training]\n", f"[training]\nseed = {seed}\n"))
    return path


def train(recipe: Path | None, out: Path, *options: str) -> int:
    """`neuroprune train`."""
    return main(["train", *([] if recipe is None else [str(recipe)]), "--out", str(out), *options])


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Interrupted(Exception):
    """What a killed process does not even raise."""


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, how: Callable[[], None] | None = None) -> None:
    """From now on a run ends when so many of its steps are done, in whatever stage."""
    from hw_targets.app.run.keeper import Keeper

    done, count = Keeper.done, [0]

    def counting(keeper: Keeper, number: int, running: Running) -> None:
        count[0] += 1
        if count[0] == steps and how is not None:
            how()
        done(keeper, number, running)
        if count[0] == steps and how is None:
            raise Interrupted

    monkeypatch.setattr(Keeper, "done", counting)


def keep_last_checkpoint(monkeypatch: pytest.MonkeyPatch, to: Path) -> None:
    """Copy what `finish` drops."""
    from hw_targets.app.run.unfinished import UnfinishedRun

    finish = UnfinishedRun.finish

    def keeping(run: UnfinishedRun) -> None:
        newest = max(run.checkpoint_folder.glob("*.json"))
        to.mkdir()
        for path in (newest, newest.with_suffix(".safetensors")):
            shutil.copy(path, to / path.name)
        finish(run)

    monkeypatch.setattr(UnfinishedRun, "finish", keeping)


def terminate_self() -> None:
    """SIGTERM to this process."""
    os.kill(os.getpid(), signal.SIGTERM)

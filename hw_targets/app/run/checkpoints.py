"""Checkpoints of a run: tensors in a safetensors file, all else in a JSON file that comes after it and seals it.

Neither holds the time or the machine. A checkpoint counts if its JSON is whole, the tensors are those that it names,
and metrics.jsonl begins with what was recorded until then; the newest that does is the one to go on from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_targets.app.run.metrics import Position, holds
from hw_targets.files.atomic import write_new
from neuroprune._require import require
from neuroprune.training.recipe import InvalidRecipe
from neuroprune.training.state_tree import Unsaveable, packed, unpacked

#: Complete checkpoints that are kept, so that there is one if the disk loses the newest.
KEPT = 2
_NAME = re.compile(r"(\d+)-(\d+)\.json")


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stood: so many steps of its stage (0: training, 1: fine-tuning) done, and `state` what that made."""

    stage: int
    steps: int
    metrics: Position
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, and then remove all but the newest ones.

    Raises:
        InvalidFile: the disk takes no more; the checkpoints before stay.
        InvalidRecipe: the model's state holds something that no checkpoint can.
    """
    try:
        tree, tensors = packed(checkpoint.state)
    except Unsaveable as error:
        raise InvalidRecipe(f"{error}, and no checkpoint can be written; keep tensors and numbers there") from error
    folder.mkdir(exist_ok=True)
    name = f"{checkpoint.stage}-{checkpoint.steps:010d}"
    content = require("safetensors.torch", "train").save(tensors)
    write_new(folder / f"{name}.safetensors", content, overwrite=True)
    document = {
        "format": 1,
        "stage": checkpoint.stage,
        "steps": checkpoint.steps,
        "metrics": list(checkpoint.metrics),
        "tensors": hashlib.sha256(content).hexdigest(),
        "state": tree,
    }
    write_new(folder / f"{name}.json", _sealed(document), overwrite=True)
    for old in _newest_first(folder)[KEPT:]:
        _remove(old)


def newest(folder: Path, metrics: Path) -> Checkpoint | None:
    """The newest complete checkpoint of a folder, None if there is none."""
    for path in _newest_first(folder):
        found = _load(path)
        if found is not None and holds(metrics, found.metrics):
            return found
    return None


def drop_newer(folder: Path, checkpoint: Checkpoint | None) -> None:
    """Remove the checkpoints after one, or all: damaged, they would crowd out those that a run goes on to write."""
    last = (-1, -1) if checkpoint is None else (checkpoint.stage, checkpoint.steps)
    for path in _newest_first(folder):
        if _position(path) > last:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # what cannot be removed is only too much
        path.unlink()
        path.with_suffix(".safetensors").unlink()


def _position(path: Path) -> tuple[int, int]:
    """Stage and steps that a file name says, (−1, −1) of another file's."""
    match = _NAME.fullmatch(path.name)
    return (int(match[1]), int(match[2])) if match else (-1, -1)


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.json") if _position(path)[0] >= 0), key=_position, reverse=True)


def _load(path: Path) -> Checkpoint | None:
    """The checkpoint that a JSON file seals, or None if one of its files is damaged or missing."""
    try:
        document = json.loads(path.read_bytes())
        if _sealed({key: value for key, value in document.items() if key != "seal"}) != path.read_bytes():
            return None
        content = path.with_suffix(".safetensors").read_bytes()
        if hashlib.sha256(content).hexdigest() != document["tensors"]:
            return None
        state = unpacked(document["state"], require("safetensors.torch", "train").load(content))
        return Checkpoint(document["stage"], document["steps"], Position(*document["metrics"]), state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _sealed(document: dict[str, Any]) -> bytes:
    """A document as JSON with a hash of all the rest in it."""
    seal = hashlib.sha256(json.dumps(document).encode()).hexdigest()
    return json.dumps({**document, "seal": seal}).encode()

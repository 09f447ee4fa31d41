"""A training on several processes: the first one has the run's folder, the others follow and write nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw_targets.app.run import checkpoints
from hw_targets.app.run.stopping import Stop, Terminated
from hw_targets.app.run.unfinished import unfinished_path
from hw_targets.app.stages import load_data, train_recipe
from neuroprune.training.processes import Following, Processes, Together
from neuroprune.training.progress import silent
from neuroprune.training.recipe import InvalidRecipe, Recipe, load_recipe
from neuroprune.training.resuming import Progress


def check_recipe(recipe: Recipe, processes: Processes) -> None:
    """Refuse what several processes cannot do.

    Raises:
        InvalidRecipe: as said.
    """
    processes.check(recipe.training)
    if processes.count > 1 and recipe.quantization is not None:
        raise InvalidRecipe(
            f"{recipe.name}: fine-tuning to a chip's integers, the table quantization, runs in one process, and there"
            f" are {processes.count}; leave the table out, or start one process"
        )


def follow(out: Path, processes: Processes, stop: Stop) -> Mapping[str, Any]:
    """What a process does that is not the first: the same steps, from the same checkpoint; it has no result.

    Raises:
        Terminated: one of the processes was asked to end.
        FloatingPointError: the loss became infinite, on all.
    """
    if not processes.any(False):  # the first one has found all done
        processes.end()
        return {}
    path = unfinished_path(Path(os.path.realpath(out)))
    recipe = load_recipe(path / "recipe.toml")
    options = json.loads((path / "run.json").read_text(encoding="utf-8"))
    found = checkpoints.newest(path / "checkpoints", path / "metrics.jsonl")
    following = Following(None, 0) if found is None else Following(found.state, found.steps)
    data = load_data(recipe)
    processes.wait()
    with stop.deferred(), silent():
        train_recipe(
            recipe,
            data.train,
            pruned=not options["dense"],
            device=processes.device("cpu"),
            progress=together(following, processes, stop),
            processes=processes,
        )
    processes.end()
    return {}


def together(inner: Progress, processes: Processes, stop: Stop) -> Progress:
    """The progress of one of several processes, which all stop when one of them is asked to; alone, `inner` itself."""
    if processes.count == 1:
        return inner

    def end() -> None:
        stop.asked = True

    def stopped() -> BaseException:
        return Terminated("stopped by SIGTERM, as all processes of this run")

    return Together(inner, processes, lambda: stop.asked, end, stopped)

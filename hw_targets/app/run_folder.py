"""A run folder: everything one training run left behind.

recipe.toml, model.safetensors (and dense.safetensors of the dense twin, if it was trained), metrics.jsonl,
summary.json, model.net, model.nir, placement.npz, report.html, and hashes.json, which ties them together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hw_targets.app.run import hashes
from hw_targets.app.run.metrics import Metrics
from hw_targets.app.run.unfinished import check_place, is_run, unfinished_path
from hw_targets.errors import InvalidFile
from hw_targets.files.atomic import make_folder
from neuroprune._require import require
from neuroprune.training.recipe import Recipe, load_recipe, save_recipe


@dataclass(frozen=True)
class RunFolder:
    """Paths and formats of a run; `overwrite` says whether its files may be replaced.

    `sources` tells the run that was opened from one that takes its place: no result of the one is put into the other.
    """

    path: Path
    overwrite: bool = False
    sources: hashes.Sources | None = None

    @classmethod
    def create(cls, path: Path, recipe: Recipe, *, overwrite: bool = False) -> RunFolder:
        """A new folder with its recipe, to be filled by hand: nothing ties its files together.

        Raises:
            InvalidFile: `path` exists and `overwrite` is False, or is no folder of a run.
        """
        folder = cls(check_place(path, overwrite=overwrite), overwrite)
        make_folder(folder.path)
        folder.save_recipe(recipe)
        return folder

    @classmethod
    def open(cls, path: Path, *, making: Collection[str] = ()) -> RunFolder:
        """An existing run, whose files belong together.

        Args:
            path: the folder.
            making: names of results that are about to be replaced, and may be anything now.

        Raises:
            InvalidFile: `path` is no run folder, or files of different runs are in it (`hashes.check`).
        """
        if not is_run(path) or not all((path / name).is_file() for name in hashes.SOURCES):
            raise InvalidFile(f"{path} is no run folder: {_what_is_missing(path)}; make one with `neuroprune train`")
        sources = hashes.sources(path)
        hashes.check(path, making=making)
        return cls(path, overwrite=True, sources=sources)

    @property
    def is_tied(self) -> bool:
        """Whether hashes tell that the files belong together; folders made by hand or long ago have none."""
        return hashes.recorded(self.path) is not None

    def new_result(self, path: Path, *, overwrite: bool = False) -> AbstractContextManager[Path]:
        """A temporary file that becomes a result made from this run's model (`hashes.new_result`)."""
        return hashes.new_result(self.path, path, overwrite=overwrite, made_of=self.sources)

    def new_results(self, paths: Sequence[Path], *, overwrite: bool = False) -> AbstractContextManager[Path]:
        """A temporary folder, whose files become such results together (`hashes.new_results`)."""
        return hashes.new_results(self.path, paths, overwrite=overwrite, made_of=self.sources)

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return load_recipe(self.path / "recipe.toml")

    def save_recipe(self, recipe: Recipe) -> None:
        """Write recipe.toml."""
        with self.new_result(self.path / "recipe.toml", overwrite=self.overwrite) as temporary:
            save_recipe(recipe, temporary)

    def save_model(
        self, model: nn.Module, name: str = "model", scales: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        """Write a model's state to `name`.safetensors, with the scales it was fine-tuned on: by chip, by population."""
        # Copies, since tied weights share memory, which safetensors does not hold.
        tensors = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in model.state_dict().items()}
        notes = {f"scales of {chip}": json.dumps(dict(by_population)) for chip, by_population in (scales or {}).items()}
        with self.new_result(self.path / f"{name}.safetensors", overwrite=self.overwrite) as temporary:
            # Python writes, and says why if it cannot.
            temporary.write_bytes(require("safetensors.torch", "train").save(tensors, notes))

    def scales(self, chip: str, name: str = "model") -> dict[str, float] | None:
        """The scales on which `name`.safetensors was fine-tuned for a chip, by population; None if it was not.

        Raises:
            InvalidFile: the file is broken.
        """
        path = self.path / f"{name}.safetensors"
        try:
            with require("safetensors", "train").safe_open(str(path), "pt") as file:
                text = (file.metadata() or {}).get(f"scales of {chip}")
            return None if text is None else {str(key): float(value) for key, value in json.loads(text).items()}
        except Exception as error:  # safetensors raises its own type
            raise InvalidFile(f"{path} does not hold scales as they are written: {error}") from error

    def load_model(self, name: str = "model") -> nn.Module:
        """Build the recipe's model and load `name`.safetensors into it.

        Raises:
            InvalidFile: the file is broken or belongs to another model.
        """
        model = self.recipe.model()
        path = self.path / f"{name}.safetensors"
        try:
            model.load_state_dict(require("safetensors.torch", "train").load_file(str(path)))
        except Exception as error:  # safetensors raises its own type for a broken file, torch a RuntimeError
            raise InvalidFile(f"{path} does not hold the weights of {self.recipe.factory}: {error}") from error
        return model.eval()

    @contextmanager
    def metrics(self) -> Iterator[Any]:
        """`record(run)` gives a function that appends one JSON line per optimizer step to metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        with self.new_result(path, overwrite=self.overwrite) as temporary, Metrics(temporary) as metrics:
            yield metrics.recorder

    def summary(self) -> dict[str, Any]:
        """summary.json, or {} before there is one.

        Raises:
            InvalidFile: it is not valid JSON, or no JSON object.
        """
        path = self.path / "summary.json"
        if not path.exists():
            return {}
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")).items())
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise InvalidFile(f"{path} is not valid JSON ({error}); run the command that made it again") from error

    def add_to_summary(self, values: dict[str, Any]) -> None:
        """Merge values into summary.json."""
        self.change_summary(lambda summary: {**summary, **values})

    def change_summary(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Put what `change` makes of summary.json in its place; no other command changes it meanwhile."""

        def content() -> bytes:
            return (json.dumps(change(self.summary()), indent=2) + "\n").encode()

        hashes.change_result(self.path, self.path / "summary.json", content, self.sources)


def _what_is_missing(path: Path) -> str:
    """Why a path is no run folder; where a run on its way there was interrupted, how to go on with it."""
    try:
        missing = next(name for name in hashes.SOURCES if not (path / name).is_file())
        real = Path(os.path.realpath(path))  # "." has no name, and what is beside it does
        if real.name and unfinished_path(real).is_dir():
            return f"the run that becomes it was interrupted (go on with `neuroprune train --resume --out {path}`)"
        return f"it lacks {missing}"
    except (OSError, ValueError, StopIteration) as error:
        return f"it cannot be looked at ({error})"

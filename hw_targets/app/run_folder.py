"""A run folder: everything one training run left behind.

recipe.toml, model.safetensors (and dense.safetensors of the dense twin, if it was trained), metrics.jsonl,
summary.json, model.net, model.nir, placement.npz, report.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hw_targets.errors import InvalidFile
from hw_targets.files.atomic import new_file
from neuroprune._require import require
from neuroprune.training.loop import Record
from neuroprune.training.recipe import Recipe, load_recipe, save_recipe

#: What the commands after training make of a model.
RESULTS = ("dense.safetensors", "summary.json", "model.net", "model.nir", "placement.npz", "report.html")


@dataclass(frozen=True)
class RunFolder:
    """Paths and formats of a run; `overwrite` says whether its files may be replaced."""

    path: Path
    overwrite: bool = False

    @classmethod
    def create(cls, path: Path, recipe: Recipe, *, overwrite: bool = False) -> RunFolder:
        """A new folder with its recipe.

        Raises:
            InvalidFile: as `prepare`.
        """
        folder = cls.prepare(path, overwrite=overwrite)
        folder.save_recipe(recipe)
        return folder

    @classmethod
    def prepare(cls, path: Path, *, overwrite: bool = False) -> RunFolder:
        """A folder that a run may be written to; nothing in it is touched yet.

        Raises:
            InvalidFile: `path` exists and `overwrite` is False, or is a file.
        """
        if path.exists() and (not path.is_dir() or (not overwrite and any(path.iterdir()))):
            raise InvalidFile(f"{path} exists already; choose another folder with --out, or pass --overwrite")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidFile(
                f"{path} cannot be created: {error.strerror}; choose another folder with --out"
            ) from error
        return cls(path, overwrite)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.

        Raises:
            InvalidFile: `path` is no run folder.
        """
        for name in ("recipe.toml", "model.safetensors"):
            if not (path / name).is_file():
                raise InvalidFile(f"{path} is no run folder: it lacks {name}; make one with `neuroprune train`")
        return cls(path, overwrite=True)

    def drop_results(self) -> None:
        """Remove what was made from an earlier model in the same folder, so that nobody takes it for this one's."""
        for name in RESULTS:
            (self.path / name).unlink(missing_ok=True)

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return load_recipe(self.path / "recipe.toml")

    def save_recipe(self, recipe: Recipe) -> None:
        """Write recipe.toml."""
        with new_file(self.path / "recipe.toml", overwrite=self.overwrite) as temporary:
            save_recipe(recipe, temporary)

    def save_model(
        self, model: nn.Module, name: str = "model", scales: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        """Write a model's state to `name`.safetensors, with the scales it was fine-tuned on: by chip, by population."""
        tensors = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
        notes = {f"scales of {chip}": json.dumps(dict(by_population)) for chip, by_population in (scales or {}).items()}
        with new_file(self.path / f"{name}.safetensors", overwrite=self.overwrite) as temporary:
            require("safetensors.torch", "train").save_file(tensors, str(temporary), notes)

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
        with new_file(self.path / "metrics.jsonl", overwrite=self.overwrite) as temporary, temporary.open("w") as file:

            def recorder(run: str) -> Record:
                return lambda row: print(json.dumps({"run": run, **row}), file=file)

            yield recorder

    def summary(self) -> dict[str, Any]:
        """summary.json, or {} before there is one.

        Raises:
            InvalidFile: it is not valid JSON.
        """
        path = self.path / "summary.json"
        if not path.exists():
            return {}
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidFile(f"{path} is not valid JSON ({error}); run the command that made it again") from error
        return content

    def add_to_summary(self, values: dict[str, Any]) -> None:
        """Merge values into summary.json."""
        merged = {**self.summary(), **values}
        with new_file(self.path / "summary.json", overwrite=True) as temporary:
            temporary.write_text(json.dumps(merged, indent=2) + "\n")

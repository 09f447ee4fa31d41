"""A training run as a file: which model, which data, which budget, how to prune (TOML)."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroprune.pruner import SoftThresholdPruner
from neuroprune.schedules import LATS, SCHEDULES, Schedule
from neuroprune.training import Hyperparameters

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class InvalidRecipe(ValueError):
    """A recipe with a missing, unknown or ill-typed key; the message names it."""


@dataclass(frozen=True)
class Recipe:
    """What `neuroprune train` runs.

    `factory` is "package.module:callable" that builds the model from `arguments`; `time_steps` is T for spiking models.
    `train_limit` and `test_limit` bound the images used (None: all). `schedule` is a schedule's class name and
    `schedule_arguments` its fields; LATS with `final_threshold` alone gets its learning-rate sum from a dry run,
    and a schedule that is planned for a number of `steps` gets the run's.
    """

    name: str
    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    time_steps: int = 4
    train_limit: int | None = None
    test_limit: int | None = None
    training: Hyperparameters = field(default_factory=Hyperparameters)
    schedule: str = "LATS"
    schedule_arguments: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> nn.Module:
        """Build the model, its weights drawn from the recipe's seed.

        Raises:
            InvalidRecipe: the factory does not exist or refuses its arguments.
        """
        torch.manual_seed(self.training.seed)
        module, _, name = self.factory.partition(":")
        try:
            model = getattr(importlib.import_module(module), name)(**self.arguments)
        except Exception as error:  # whatever the user's own factory raises is about the recipe
            raise InvalidRecipe(f"{self.name}: model.factory {self.factory!r} cannot be built: {error}") from error
        if not isinstance(model, nn.Module):
            raise InvalidRecipe(f"{self.name}: model.factory {self.factory!r} gives no torch module")
        return model

    def check(self, images: int) -> None:
        """Build everything once, so that a mistake is found before any file is written.

        Args:
            images: number of training images.

        Raises:
            InvalidRecipe: the model, the budget or the schedule cannot be built.
        """
        model, steps = self.model(), self.training.steps(images)
        if steps < 1:
            raise InvalidRecipe(
                f"{self.name}: training.batch_size {self.training.batch_size} exceeds the {images} training images;"
                " lower it or raise data.train_limit"
            )
        optimizer = self.training.optimizer(model)
        self.pruner(optimizer, self.training.scheduler(optimizer, steps), steps)

    def pruner(
        self, optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int
    ) -> SoftThresholdPruner:
        """Attach the recipe's schedule to an optimizer.

        Raises:
            InvalidRecipe: unknown schedule or arguments.
        """
        return SoftThresholdPruner(optimizer, self._schedule(scheduler, steps))

    def _schedule(self, scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> Schedule:
        kind: Any = SCHEDULES.get(self.schedule)
        if kind is None:
            raise InvalidRecipe(
                f"{self.name}: unknown pruning.schedule {self.schedule!r}; known are {sorted(SCHEDULES)}"
            )
        known = [f.name for f in dataclasses.fields(kind)]
        arguments = dict(self.schedule_arguments)
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise InvalidRecipe(f"{self.name}: {self.schedule} has no key pruning.{unknown[0]}; its keys are {known}")
        try:
            if self.schedule == "LATS" and set(arguments) == {"final_threshold"}:
                return LATS.from_dry_run(arguments["final_threshold"], scheduler, steps)
            if "steps" in known:
                arguments.setdefault("steps", steps)
            schedule: Schedule = kind(**arguments)
        except (TypeError, ValueError) as error:
            raise InvalidRecipe(f"{self.name}: pruning.{error}; the keys of {self.schedule} are {known}") from error
        return schedule


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe with the tables [model], [data], [training] and [pruning].

    Raises:
        InvalidRecipe: no such file, no TOML, or a key that is missing, unknown or of the wrong type.
    """
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise InvalidRecipe(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRecipe(f"{path} is not valid TOML: {error}") from error
    tables = {"name": str, "model": dict, "data": dict, "training": dict, "pruning": dict}
    _check_keys(path, "", content, tables, required={"name", "model"})
    model, data = content["model"], content.get("data", {})
    _check_keys(path, "model.", model, {"factory": str, "arguments": dict, "time_steps": int}, required={"factory"})
    _check_keys(path, "data.", data, {"train_limit": int, "test_limit": int})
    training, pruning = content.get("training", {}), dict(content.get("pruning", {}))
    known = {f.name: (int, float) if f.type == "float" else int for f in dataclasses.fields(Hyperparameters)}
    _check_keys(path, "training.", training, known)
    schedule = pruning.pop("schedule", "LATS")
    _check_keys(path, "pruning.", pruning, dict.fromkeys(pruning, (int, float)))
    for where, values in (("model.", model), ("data.", data)):
        for key, value in values.items():
            if isinstance(value, int) and value < 1:
                raise InvalidRecipe(f"{path}: {where}{key} must be at least 1, got {value}")
    try:
        hyper = Hyperparameters(**training)
    except ValueError as error:
        raise InvalidRecipe(f"{path}: training.{error}") from error
    return Recipe(
        name=content["name"],
        training=hyper,
        schedule=schedule,
        schedule_arguments=pruning,
        **model,
        **data,
    )


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as TOML that `load_recipe` reads back."""
    model = {"factory": recipe.factory, "time_steps": recipe.time_steps}
    data = {"train_limit": recipe.train_limit, "test_limit": recipe.test_limit}
    lines = [f"name = {_toml(recipe.name)}"]
    for table, values in (
        ("model", model),
        ("model.arguments", recipe.arguments),
        ("data", {k: v for k, v in data.items() if v is not None}),
        ("training", dataclasses.asdict(recipe.training)),
        ("pruning", {"schedule": recipe.schedule, **recipe.schedule_arguments}),
    ):
        lines += ["", f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _check_keys(
    path: str | Path,
    prefix: str,
    table: Mapping[str, Any],
    known: Mapping[str, Any],
    required: frozenset[str] | set[str] = frozenset(),
) -> None:
    for key in sorted(required - set(table)):
        raise InvalidRecipe(f"{path}: the key {prefix}{key} is missing")
    for key, value in table.items():
        if key not in known:
            raise InvalidRecipe(f"{path}: unknown key {prefix}{key}; known are {sorted(known)}")
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise InvalidRecipe(f"{path}: {prefix}{key} has the wrong type: {value!r}")

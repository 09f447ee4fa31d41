"""A training run as a file: which model, which data, which budget, how to prune (TOML)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroprune.pruning.pruner import SoftThresholdPruner
from neuroprune.training.data.base import DataSet
from neuroprune.training.data.image_folder import FolderOptions
from neuroprune.training.data.own import with_absolute_paths
from neuroprune.training.factories import built
from neuroprune.training.hyperparameters import FineTuning
from neuroprune.training.loop import Hyperparameters, predictor
from neuroprune.training.pruners import PruningTable
from neuroprune.training.toml import InvalidRecipe, check_keys, document, field_types, read_toml

__all__ = ["InvalidRecipe", "Recipe", "load_recipe", "recipe_text", "save_recipe"]

#: Keys of the table [pruning] beside the schedule and its fields, with their types.
PRUNING_OPTIONS: Mapping[str, Any] = {
    "fan_in": int,
    "fan_out": int,
    "proximal": str,
    "damping": (int, float),
    "costs": str,
}


@dataclass(frozen=True)
class Recipe:
    """What `neuroprune train` runs.

    `factory` is "package.module:callable" that builds the model from `arguments`; `time_steps` is T for spiking models.
    `folder` says which image folder to train on, `data_factory` which callable, "package.module:callable" again or one
    of `neuroprune.training.data.own.NAMED`, gives the data set for `data_arguments`; without both it is Fashion-MNIST.
    `train_limit` and `test_limit` bound the samples used (None: all). `schedule`, `schedule_arguments`, `proximal`,
    `damping`, `fan_in`, `fan_out` and `costs` are the table [pruning]: see `PruningTable`. `quantization` says how to
    fine-tune afterwards on a chip's integers (None: not at all).

    Building the model or the data executes what the factories name: a recipe, or a run folder, is code.
    """

    name: str
    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    time_steps: int = 4
    folder: FolderOptions | None = None
    data_factory: str | None = None
    data_arguments: Mapping[str, Any] = field(default_factory=dict)
    train_limit: int | None = None
    test_limit: int | None = None
    training: Hyperparameters = field(default_factory=Hyperparameters)
    schedule: str = "LATS"
    schedule_arguments: Mapping[str, Any] = field(default_factory=dict)
    fan_in: int | None = None
    fan_out: int | None = None
    proximal: str | None = None
    damping: float | None = None
    costs: str | None = None
    quantization: FineTuning | None = None

    def model(self) -> nn.Module:
        """Build the model, its weights drawn from the recipe's seed.

        Raises:
            InvalidRecipe: the factory does not exist or refuses its arguments.
        """
        torch.manual_seed(self.training.seed)
        model = built(self.name, "model.factory", self.factory, self.arguments, nn.Module)
        if not isinstance(model, nn.Module):
            raise InvalidRecipe(f"{self.name}: model.factory {self.factory!r} gives no torch module")
        return model

    def check(self, images: int) -> None:
        """Build everything once, so that a mistake is found before any file is written.

        Args:
            images: number of training images.

        Raises:
            InvalidRecipe: the model, the budget or the schedule cannot be built, or the recipe cannot be saved.
        """
        recipe_text(self)
        model, steps = self.model(), self.training.steps(images)
        if steps < 1:
            accumulate = self.training.accumulate
            times, one = (f" times training.accumulate {accumulate}", "one") if accumulate > 1 else ("", "it")
            raise InvalidRecipe(
                f"{self.name}: training.batch_size {self.training.batch_size}{times} exceeds the {images} training"
                f" images; lower {one} or raise data.train_limit"
            )
        optimizer = self.training.optimizer(model)
        schedule = self.pruner(optimizer, self.training.scheduler(optimizer, steps), steps, model).schedule
        if schedule.planned_steps is not None and schedule.planned_steps < steps:
            try:
                schedule.check_plan(steps - 1, {})
            except ValueError as error:
                raise InvalidRecipe(
                    f"{self.name}: pruning.steps is too small, leave it out for the run's: {error}"
                ) from error

    @torch.no_grad()
    def check_data(self, data: DataSet) -> None:
        """Classify one sample, so that a model that does not fit the data is found before any file is written.

        Raises:
            InvalidRecipe: the model does not take the samples, or has fewer outputs than there are classes.
        """
        model = self.model().eval()
        shape = tuple(data.sample_shape)
        try:
            image = data.as_input(data.pixels(1))
            scores = predictor(model, self.time_steps, data)(model, image)
        except Exception as error:  # whatever the user's own model raises is about the recipe
            raise InvalidRecipe(
                f"{self.name}: {self.factory} does not take samples of shape {shape}: {error}"
            ) from error
        if scores.dim() != 2 or scores.shape[1] < data.classes:
            raise InvalidRecipe(
                f"{self.name}: {self.factory} gives scores of shape {tuple(scores.shape)} for one sample, but the data"
                f" has {data.classes} classes; set the model's number of classes in model.arguments"
            )

    def pruner(
        self,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        steps: int,
        model: nn.Module,
    ) -> SoftThresholdPruner:
        """Attach what the table [pruning] says to an optimizer of a model.

        Raises:
            InvalidRecipe: as `PruningTable.pruner`.
        """
        options = {key: getattr(self, key) for key in PRUNING_OPTIONS}
        table = PruningTable(self.name, self.schedule, self.schedule_arguments, **options)
        return table.pruner(optimizer, scheduler, steps, model)


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe with the tables [model], [data], [training], [pruning] and [quantization].

    Args:
        path: the file.
        changes: "table.key=value" to take instead of what the file says; values as in TOML, text also without quotes.

    Raises:
        InvalidRecipe: no such file, no TOML, or a key that is missing, unknown or of the wrong type.
    """
    content = read_toml(path, changes)
    tables = dict.fromkeys(("model", "data", "training", "pruning", "quantization"), dict)
    check_keys(path, "", content, {"name": str, **tables}, required={"name", "model"})
    model, data = content["model"], dict(content.get("data", {}))
    check_keys(path, "model.", model, {"factory": str, "arguments": dict, "time_steps": int}, required={"factory"})
    own = {"factory": str, "arguments": dict}
    check_keys(path, "data.", data, {"train_limit": int, "test_limit": int, **own, **field_types(FolderOptions)})
    factory, arguments = data.pop("factory", None), data.pop("arguments", {})
    if factory is None and arguments:
        raise InvalidRecipe(f"{path}: data.arguments are for a factory; set data.factory, too")
    training, pruning = content.get("training", {}), dict(content.get("pruning", {}))
    check_keys(path, "training.", training, field_types(Hyperparameters))
    keys = PRUNING_OPTIONS
    check_keys(path, "pruning.", pruning, {**dict.fromkeys(pruning, (int, float)), "schedule": str, **keys})
    schedule = pruning.pop("schedule", "LATS")
    options = {key: pruning.pop(key) for key in keys if key in pruning}
    limits = {key: data.pop(key) for key in ("train_limit", "test_limit") if key in data}
    for where, values in (("model.", model), ("data.", limits)):
        for key, value in values.items():
            if isinstance(value, int) and value < 1:
                raise InvalidRecipe(f"{path}: {where}{key} must be at least 1, got {value}")
    return Recipe(
        name=content["name"],
        training=_build(path, "training.", Hyperparameters, training),
        folder=_folder(path, data, factory),
        data_factory=factory,
        data_arguments=with_absolute_paths(factory or "", arguments),
        schedule=schedule,
        schedule_arguments=pruning,
        **options,
        quantization=_fine_tuning(path, content.get("quantization")),
        **model,
        **limits,
    )


def recipe_text(recipe: Recipe) -> str:
    """A recipe as TOML that `load_recipe` reads back the same.

    Raises:
        InvalidRecipe: it holds a value that TOML does not have.
    """
    model = {"factory": recipe.factory, "time_steps": recipe.time_steps}
    data: dict[str, Any] = {"train_limit": recipe.train_limit, "test_limit": recipe.test_limit}
    data |= {"factory": recipe.data_factory}
    if recipe.folder is not None:
        data |= dataclasses.asdict(recipe.folder)
    options = {key: getattr(recipe, key) for key in PRUNING_OPTIONS}
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("", {"name": recipe.name}),
        ("model", model),
        ("model.arguments", recipe.arguments),
        ("data", data),
        *([("data.arguments", recipe.data_arguments)] if recipe.data_arguments else []),
        ("training", dataclasses.asdict(recipe.training)),
        ("pruning", {"schedule": recipe.schedule, **options, **recipe.schedule_arguments}),
    ]
    if recipe.quantization is not None:
        tables.append(("quantization", dataclasses.asdict(recipe.quantization)))
    own = ("model.arguments", "data.arguments")
    given = [(t, v if t in own else {k: x for k, x in v.items() if x is not None}) for t, v in tables]
    try:
        return document(given)
    except InvalidRecipe as error:
        raise InvalidRecipe(f"{recipe.name}: {error}") from error


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as TOML that `load_recipe` reads back.

    Raises:
        InvalidRecipe: as `recipe_text`.
    """
    path.write_text(recipe_text(recipe), encoding="utf-8")


def _folder(path: str | Path, values: Mapping[str, Any], factory: str | None) -> FolderOptions | None:
    """The image folder of [data], made absolute: a run folder's copy of the recipe is read from anywhere."""
    if not values:
        return None
    if factory is not None:
        raise InvalidRecipe(
            f"{path}: data.{next(iter(values))} is for image folders, and data.factory gives another data"
            " set; leave one of them out"
        )
    if "folder" not in values:
        raise InvalidRecipe(f"{path}: data.{next(iter(values))} is for image folders; set data.folder, too")
    folder = str(Path(values["folder"]).expanduser().absolute())
    options: FolderOptions = _build(path, "data.", FolderOptions, {**values, "folder": folder})
    return options


def _fine_tuning(path: str | Path, values: Mapping[str, Any] | None) -> FineTuning | None:
    """The table [quantization], a chip file's path made absolute; None without it."""
    if values is None:
        return None
    check_keys(path, "quantization.", values, field_types(FineTuning), required={"chip"})
    chip = values["chip"]
    chip = str(Path(chip).expanduser().absolute()) if chip.endswith(".toml") else chip
    found: FineTuning = _build(path, "quantization.", FineTuning, {**values, "chip": chip})
    return found


def _build(path: str | Path, prefix: str, kind: Any, values: Mapping[str, Any]) -> Any:
    try:
        return kind(**values)
    except ValueError as error:
        raise InvalidRecipe(f"{path}: {prefix}{error}") from error

"""The stage of a run between training and the chip: quantization-aware fine-tuning, as its recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from hw_targets.app.stages import Trained, calibration_images, check_unit_range, example_input, steps_of
from hw_targets.quantization.qat import prepare_qat
from hw_targets.targets.registry import load_chip
from neuroprune.pruning.pruner import SoftThresholdPruner
from neuroprune.pruning.rounding import frozen_batch_norm
from neuroprune.schedules import ConstantThreshold
from neuroprune.training.data.base import DataSet, Split
from neuroprune.training.loop import Record, predictor, train
from neuroprune.training.recipe import InvalidRecipe, Recipe
from neuroprune.training.resuming import Progress


class FineTuned(NamedTuple):
    """A fine-tuned model, and the scales by population on which its weights are whole numbers."""

    trained: Trained
    scales: Mapping[str, float]


def check_fine_tuning(recipe: Recipe, data: Split[DataSet]) -> None:
    """Find grids for the untrained model, so that what a chip cannot hold is known before the training.

    Raises:
        HardwareTargetError: a chip that does not exist, or a model that it cannot run.
        InvalidRecipe: the images are normalised, which a chip does not take.
    """
    if recipe.quantization is not None:
        check_unit_range(recipe, data.train)
        model = recipe.model().eval()
        example = example_input(model, data.train, recipe.time_steps)
        prepare_qat(
            model,
            example,
            load_chip(recipe.quantization.chip),
            time_steps=steps_of(data.train, recipe.time_steps),
            for_format=recipe.quantization.format or None,
        )


def fine_tune(
    trained: Trained,
    recipe: Recipe,
    data: Split[DataSet],
    *,
    record: Record | None = None,
    progress: Progress | None = None,
) -> FineTuned:
    """Fine-tune a trained model in place on the recipe's chip; zeros stay zero, batch-norm holds still.

    Raises:
        HardwareTargetError: as `prepare_qat`.
        InvalidRecipe: the recipe has no table [quantization].
    """
    if recipe.quantization is None:
        raise InvalidRecipe(f"{recipe.name}: no table [quantization] says for which chip to fine-tune")
    model, seen = trained.model, calibration_images(data)
    device = next(model.parameters()).device
    model.cpu()  # the chip's integers are found there
    example = example_input(model, data.train, recipe.time_steps)
    grids = prepare_qat(
        model,
        example,
        load_chip(recipe.quantization.chip),
        seen,
        time_steps=steps_of(data.train, recipe.time_steps),
        for_format=recipe.quantization.format or None,
    )
    model.to(device)
    hyper = recipe.quantization.budget(recipe.training)
    optimizer = hyper.optimizer(nn.ParameterList(grids.rounding))
    scheduler = hyper.scheduler(optimizer, hyper.steps(len(data.train)))
    pruner = SoftThresholdPruner(optimizer, ConstantThreshold(0.0), rounding=grids.rounding)
    pruner.freeze()
    with frozen_batch_norm(model):
        train(
            model,
            data.train,
            optimizer,
            scheduler,
            hyper,
            predictor(model, recipe.time_steps, data.train),
            pruner=pruner,
            record=record,
            title="fine-tuning",
            progress=progress,
        )
    sparsity = pruner.sparsity()
    pruner.finalize()
    return FineTuned(Trained(model.eval(), sparsity), grids.scales)

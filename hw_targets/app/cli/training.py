"""`neuroprune train` and `synops`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from hw_targets.app.cli.tables import percent, quantity, table
from hw_targets.app.fine_tuning import check_fine_tuning, fine_tune
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import (
    available_device,
    load_data,
    measure_synops,
    train_recipe,
    weight_rows,
)
from hw_targets.targets.registry import load_chip
from neuroprune.training.loop import accuracy, predictor
from neuroprune.training.recipe import load_recipe


def train(options: argparse.Namespace) -> None:
    device = available_device(options.device)
    recipe = load_recipe(options.recipe, options.set)
    data = load_data(recipe)
    recipe.check(len(data.train))
    recipe.check_data(data.train)
    check_fine_tuning(recipe, data)
    folder = RunFolder.prepare(options.out, overwrite=options.overwrite)
    scales: dict[str, Mapping[str, float]] = {}
    with folder.metrics() as record:
        result = train_recipe(
            recipe,
            data.train,
            pruned=not options.dense,
            record=record("dense" if options.dense else "pruned"),
            device=device,
        )
        if recipe.quantization is not None:
            result, found = fine_tune(result, recipe, data, record=record("fine-tuned"))
            scales[load_chip(recipe.quantization.chip).name] = found
    folder.drop_results()
    folder.save_recipe(recipe)
    folder.save_model(result.model, scales=scales)
    predict = predictor(result.model, recipe.time_steps, data.validation)
    validation = accuracy(result.model, data.validation, predict, title="validation")
    folder.add_to_summary(
        {
            "name": recipe.name,
            "validation_accuracy": validation,
            "sparsity": result.sparsity,
            "layers": weight_rows(result.model),
        }
    )
    print(f"validation accuracy {percent(validation)}, sparsity {percent(result.sparsity)}, in {options.out}")


def synops(options: argparse.Namespace) -> None:
    folder = RunFolder.open(options.folder)
    recipe = folder.recipe
    images = load_data(recipe).test.subset(0, options.images)
    counted = measure_synops(folder.load_model(), images, recipe.time_steps)
    n = len(images)
    rows = [
        [name, quantity(c.synops / n), quantity(c.dense / n), quantity(c.macs / n)]
        for name, c in counted.layers.items()
    ]
    rows.append(["total", quantity(counted.total / n), quantity(counted.dense / n), quantity(counted.macs / n)])
    print(table(rows, ["per image", "SynOps", "SynOps, zeros billed", "MACs"]))

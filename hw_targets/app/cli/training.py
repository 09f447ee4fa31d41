"""`neuroprune train` and `synops`."""

from __future__ import annotations

import argparse

from hw_targets.app.cli.opening import open_run
from hw_targets.app.cli.tables import percent, quantity, table
from hw_targets.app.run.stopping import stopping
from hw_targets.app.run.training import Request, run_training
from hw_targets.app.stages import load_data, measure_synops


def train(options: argparse.Namespace) -> None:
    request = Request(
        out=options.out,
        recipe=options.recipe,
        changes=tuple(options.set),
        dense=options.dense,
        device=options.device,
        every=options.checkpoint_every,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    with stopping() as stop:
        result = run_training(request, stop)
    validation, sparsity = result["validation_accuracy"], result["sparsity"]
    print(f"validation accuracy {percent(validation)}, sparsity {percent(sparsity)}, in {options.out}")


def synops(options: argparse.Namespace) -> None:
    folder = open_run(options.folder)
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

"""`neuroprune train` and `synops`."""

from __future__ import annotations

from pathlib import Path

from hw_targets.app.cli.console import Console
from hw_targets.app.cli.opening import open_run
from hw_targets.app.cli.tables import percent, quantity, table
from hw_targets.app.run.stopping import stopping
from hw_targets.app.run.training import Request, run_training
from hw_targets.app.stages import load_data, measure_synops


def train(request: Request, console: Console) -> None:
    """A run folder from a recipe."""
    with stopping() as stop, console.progress():
        result = run_training(request, stop, console.note)
    if not result:
        return  # of several processes, one that is not the first
    validation, sparsity = result["validation_accuracy"], result["sparsity"]
    console.result(
        {"out": request.out, **result},
        f"validation accuracy {percent(validation)}, sparsity {percent(sparsity)}, in {request.out}",
    )


def synops(path: Path, count: int, console: Console) -> None:
    """Operations per layer, on average over the first test images."""
    folder = open_run(path, console)
    recipe = folder.recipe
    images = load_data(recipe).test.subset(0, count)
    counted = measure_synops(folder.load_model(), images, recipe.time_steps)
    n = len(images)
    layers = {name: (c.synops / n, c.dense / n, c.macs / n) for name, c in counted.layers.items()}
    total = (counted.total / n, counted.dense / n, counted.macs / n)
    rows = [[name, *map(quantity, values)] for name, values in {**layers, "total": total}.items()]
    keys = ("synops", "synops_dense", "macs")
    console.result(
        {
            "images": n,
            "total": dict(zip(keys, total, strict=True)),
            "layers": {name: dict(zip(keys, values, strict=True)) for name, values in layers.items()},
        },
        table(rows, ["per image", "SynOps", "SynOps, zeros billed", "MACs"]),
    )

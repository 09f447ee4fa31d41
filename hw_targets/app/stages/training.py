"""Training a recipe's model, alone or beside its dense twin."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuroprune.pruning.costs import SynapticCosts
from neuroprune.training.data.base import DataSet
from neuroprune.training.loop import ALONE, Record, predictor, train
from neuroprune.training.processes import Processes
from neuroprune.training.progress import silent
from neuroprune.training.recipe import InvalidRecipe, Recipe
from neuroprune.training.resuming import Progress


def available_device(name: str) -> str:
    """`name`, if torch can compute there.

    Raises:
        InvalidRecipe: it cannot.
    """
    try:
        torch.zeros(1, device=name).add_(1.0).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # by the kind of device that is missing
        reason = str(error).splitlines()[0]
        raise InvalidRecipe(f"--device {name} cannot be used ({reason}); choose cpu, or a device torch sees") from error
    return name


@dataclass(frozen=True)
class Trained:
    """A trained model, with the sparsity of its prunable weights (0 for a dense run)."""

    model: nn.Module
    sparsity: float


def train_recipe(
    recipe: Recipe,
    data: DataSet,
    *,
    pruned: bool,
    record: Record | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Trained:
    """Train the recipe's model, with or without its pruner, on one and the same budget. It stays on the device."""
    model, hyper = recipe.model().to(device), recipe.training
    optimizer, steps = hyper.optimizer(model), hyper.steps(len(data))
    scheduler = hyper.scheduler(optimizer, steps)
    pruner = recipe.pruner(optimizer, scheduler, steps, model) if pruned else None
    predict = predictor(model, recipe.time_steps, data)
    title = "pruned training" if pruned else "dense training"
    train(
        model,
        data,
        optimizer,
        scheduler,
        hyper,
        predict,
        pruner=pruner,
        record=record,
        title=title,
        progress=progress,
        processes=processes,
    )
    sparsity = 0.0
    if pruner is not None:
        sparsity = pruner.sparsity()
        pruner.finalize()
        if isinstance(pruner.costs, SynapticCosts):
            pruner.costs.close()
    return Trained(model.eval(), sparsity)


def train_dense_and_pruned(
    recipe: Recipe, data: DataSet, record_dense: Record, record_pruned: Record
) -> tuple[Trained, Trained]:
    """Both runs side by side, each in a process of its own on half of the cores.

    Two processes of one thread do not wait for each other; two threads in one process do, after every small kernel, and
    slow each other down many times over when anything else runs on the machine.
    """
    cores = os.cpu_count() or 1
    before = torch.get_num_threads()
    threads = max(1, cores // 2)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        dense = pool.submit(_train_dense, recipe, data, threads)
        torch.set_num_threads(threads)
        try:
            pruned = train_recipe(recipe, data, pruned=True, record=record_pruned)
        finally:
            torch.set_num_threads(before)
        state, rows = dense.result()
    for row in rows:
        record_dense(row)
    model = recipe.model()
    model.load_state_dict(state)
    return Trained(model.eval(), 0.0), pruned


def _train_dense(recipe: Recipe, data: DataSet, threads: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The dense run, in a child process: weights and records, which unlike a spiking model can be sent back."""
    torch.set_num_threads(threads)
    rows: list[dict[str, float]] = []
    with silent():  # the pruned run beside it, in another process, shows how far both are
        trained = train_recipe(recipe, data, pruned=False, record=rows.append)
    return trained.model.state_dict(), rows

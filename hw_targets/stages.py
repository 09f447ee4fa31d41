"""The stages of a run, as the command line and the demo use them: each takes values and returns what it measured."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hw_targets._emulate import emulate
from hw_targets._from_torch import from_torch
from hw_targets.activity import Activity
from hw_targets.chip import Chip
from hw_targets.estimate import Estimate, estimate
from hw_targets.mapping import Placement, place
from hw_targets.network import ChipNetwork, Network
from hw_targets.relays import insert_relays
from neuroprune.backends import backend_of
from neuroprune.data import ImageSet, Split, as_input, fashion_mnist
from neuroprune.recipe import Recipe
from neuroprune.synops import SynOps, count_synops
from neuroprune.training import Record, predictor, progress_bar, train


def load_data(recipe: Recipe) -> Split:
    """The recipe's images, bounded by its limits."""
    data = fashion_mnist()
    train_set = data.train.subset(0, recipe.train_limit or len(data.train))
    return Split(train_set, data.validation, data.test.subset(0, recipe.test_limit or len(data.test)))


@dataclass(frozen=True)
class Trained:
    """A trained model, with the sparsity of its prunable weights (0 for a dense run)."""

    model: nn.Module
    sparsity: float


def train_recipe(
    recipe: Recipe, data: ImageSet, *, pruned: bool, record: Record | None = None, bar_position: int = 0
) -> Trained:
    """Train the recipe's model, with or without its pruner, on one and the same budget."""
    model, hyper = recipe.model(), recipe.training
    optimizer, steps = hyper.optimizer(model), hyper.steps(len(data))
    scheduler = hyper.scheduler(optimizer, steps)
    pruner = recipe.pruner(optimizer, scheduler, steps) if pruned else None
    predict = predictor(model, recipe.time_steps)
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
        bar_position=bar_position,
    )
    sparsity = 0.0
    if pruner is not None:
        sparsity = pruner.sparsity()
        pruner.finalize()
    return Trained(model.eval(), sparsity)


def train_dense_and_pruned(
    recipe: Recipe, data: ImageSet, record_dense: Record, record_pruned: Record
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


def _train_dense(recipe: Recipe, data: ImageSet, threads: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The dense run, in a child process: weights and records, which unlike a spiking model can be sent back."""
    torch.set_num_threads(threads)
    rows: list[dict[str, float]] = []
    trained = train_recipe(recipe, data, pruned=False, record=rows.append, bar_position=1)
    return trained.model.state_dict(), rows


def to_network(model: nn.Module, images: Tensor, time_steps: int) -> Network:
    """`from_torch` with the example in the time layout the model's backend wants."""
    example, backend = as_input(images[:2]), backend_of(model)
    if backend is not None and backend.time_axis(model) == 0:
        example = example.expand(time_steps, *example.shape)
    return from_torch(model, example, time_steps=time_steps)


def measure_synops(model: nn.Module, images: Tensor, time_steps: int) -> SynOps:
    """Synaptic operations of a model on uint8 images, all steps."""
    predict = predictor(model, time_steps)
    return count_synops(model, as_input(images), forward=predict)


def emulated_accuracy(network: ChipNetwork | Network, data: ImageSet, *, title: str, batch: int = 250) -> float:
    """Fraction of images that a network classifies correctly when emulated."""
    correct = 0
    with progress_bar(len(data), title) as bar:
        for start in range(0, len(data), batch):
            part = data.subset(start, min(start + batch, len(data)))
            output = emulate(network, part.images, dtype=torch.float32).output
            correct += int((output.argmax(1) == part.labels.numpy()).sum())
            bar.update(len(part))
    return correct / len(data)


@dataclass(frozen=True)
class Mapped:
    """A chip network as it is exported (with relays), its activity on some images, and its placement by chip."""

    network: ChipNetwork
    activity: Activity
    placements: Mapping[str, Placement]
    estimates: Mapping[str, Estimate]


def map_network(network: ChipNetwork, chips: tuple[Chip, ...], images: Tensor) -> Mapped:
    """Place a network, relays included, on each chip and estimate what the images cost there."""
    sequential = insert_relays(network)
    activity = emulate(sequential, images)
    placements = {chip.name: place(sequential, chip, activity) for chip in chips}
    estimates = {chip.name: estimate(placements[chip.name], activity, chip) for chip in chips}
    return Mapped(sequential, activity, placements, estimates)


def layer_table(model: nn.Module, dense: SynOps, pruned: SynOps, samples: int) -> list[dict[str, Any]]:
    """Per layer: weights, zeros, and per-sample synaptic operations of the dense and of the pruned model."""
    rows = []
    modules = dict(model.named_modules())
    for name, layer in pruned.layers.items():
        weight = modules[name].weight
        assert isinstance(weight, Tensor)
        rows.append(
            {
                "name": name,
                "weights": weight.numel(),
                "zeros": weight.numel() - int(torch.count_nonzero(weight)),
                "synops_dense": dense.layers[name].synops / samples,
                "synops_pruned": layer.synops / samples,
                "macs_dense": dense.layers[name].macs / samples,
                "macs_pruned": layer.macs / samples,
            }
        )
    return rows


def core_usage(placement: Placement) -> list[dict[str, Any]]:
    """What each core holds, as plain values."""
    return [
        {
            "population": core.population,
            "neurons": core.neurons,
            "input_axons": core.input_axons,
            "output_axons": core.output_axons,
            "synaptic_bits": core.synaptic_bits,
        }
        for core in placement.usage
    ]


def lava_images(data: ImageSet, samples: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The first `samples` images as integers."""
    images: np.ndarray[Any, np.dtype[np.uint8]] = data.images[:samples].numpy()
    return images

"""The stages of a run, as the command line and the demo use them: each takes values and returns what it measured."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hw_targets.chips.chip import Chip
from hw_targets.emulation.emulate import emulate
from hw_targets.errors import InvalidChip
from hw_targets.estimation import Estimate, estimate
from hw_targets.frontends.torch.from_torch import from_torch
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.passes.dead_neurons import remove_dead_neurons
from hw_targets.placement import Placement, place
from hw_targets.quantization.quantize import quantize
from neuroprune.frameworks import framework_of
from neuroprune.synops.counter import SynOps, SynOpsCounter
from neuroprune.training.data.base import DataSet, Split, has_steps
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.image_folder import image_folder
from neuroprune.training.data.images import as_input
from neuroprune.training.data.own import own_data
from neuroprune.training.loop import Record, evaluation_batch, predictor, progress_bar, train
from neuroprune.training.recipe import InvalidRecipe, Recipe

#: Training images that `quantize` calibrates on.
CALIBRATION_IMAGES = 100


def load_data(recipe: Recipe) -> Split[DataSet]:
    """The recipe's samples, bounded by its limits (`test_limit` of a folder or factory is its validation's, too).

    Raises:
        DatasetNotFound: there are none, or their folder is not laid out as it must be.
        InvalidRecipe: the recipe's own data set is none; the message says what it lacks.
    """
    if recipe.data_factory is not None:
        own = own_data(recipe.name, recipe.data_factory, recipe.data_arguments)
        limit = recipe.test_limit
        validation, test = (part.subset(0, limit or len(part)) for part in (own.validation, own.test))
        return Split[DataSet](own.train.subset(0, recipe.train_limit or len(own.train)), validation, test)
    if recipe.folder is None:
        data = fashion_mnist()
        train_set = data.train.subset(0, recipe.train_limit or len(data.train))
        return Split[DataSet](train_set, data.validation, data.test.subset(0, recipe.test_limit or len(data.test)))
    found = image_folder(recipe.folder)
    test = found.test.subset(0, recipe.test_limit or len(found.test))
    return Split[DataSet](found.train.subset(0, recipe.train_limit or len(found.train)), test, test)


def chip_images(recipe: Recipe) -> DataSet:
    """The recipe's test images, for a chip.

    Raises:
        InvalidRecipe: the model was trained on normalised images, which a chip does not take.
    """
    test = load_data(recipe).test
    check_unit_range(recipe, test)
    return test


def check_unit_range(recipe: Recipe, images: DataSet) -> None:
    """Refuse images that a chip does not take.

    Raises:
        InvalidRecipe: they are normalised.
    """
    if not images.in_unit_range:
        raise InvalidRecipe(
            f"{recipe.name}: a chip takes inputs of 0 … 1, but this model was trained on normalised ones; train it with"
            " data.normalize = false"
        )


def calibration_images(data: Split[DataSet]) -> Tensor:
    """Some training images, always the same and of mixed classes, as `quantize` takes them."""
    count = min(CALIBRATION_IMAGES, len(data.train))
    images, _ = next(data.train.training_batches(count, 1, 0))
    return network_input(data.train, images)


def network_input(data: DataSet, samples: Tensor) -> Tensor:
    """Samples of a set as `emulate` and `quantize` take them: (N, *shape), or (T, N, *shape) where they have steps.

    It is what the model takes, too; inputs of 0 … 1 are rounded to the chip's integers there.
    """
    return data.as_input(samples)


def first_samples(data: DataSet, count: int) -> Tensor:
    """The first `count` samples of a set, as `network_input`."""
    return network_input(data, data.pixels(count))


def available_device(name: str) -> str:
    """`name`, if torch can compute there.

    Raises:
        InvalidRecipe: it cannot.
    """
    try:
        torch.zeros(1, device=name).add_(1.0)
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
    bar_position: int = 0,
    device: str = "cpu",
) -> Trained:
    """Train the recipe's model, with or without its pruner, on one and the same budget. It stays on the device."""
    model, hyper = recipe.model().to(device), recipe.training
    optimizer, steps = hyper.optimizer(model), hyper.steps(len(data))
    scheduler = hyper.scheduler(optimizer, steps)
    pruner = recipe.pruner(optimizer, scheduler, steps) if pruned else None
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
        bar_position=bar_position,
    )
    sparsity = 0.0
    if pruner is not None:
        sparsity = pruner.sparsity()
        pruner.finalize()
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
    trained = train_recipe(recipe, data, pruned=False, record=rows.append, bar_position=1)
    return trained.model.state_dict(), rows


def to_network(model: nn.Module, images: Tensor, time_steps: int) -> Network:
    """`from_torch` with the example in the time layout the model's framework wants."""
    return from_torch(model, model_input(model, images, time_steps), time_steps=time_steps)


def read_network(model: nn.Module, data: DataSet, time_steps: int) -> Network:
    """`from_torch` on two samples of a set; `time_steps` plays no part where these have steps of their own."""
    return from_torch(model, example_input(model, data, time_steps), time_steps=steps_of(data, time_steps))


def steps_of(data: DataSet, time_steps: int) -> int:
    """Steps that a sample lasts: its own, or else `time_steps`."""
    return int(data.as_input(data.pixels(1)).shape[0]) if has_steps(data) else time_steps


def example_input(model: nn.Module, data: DataSet, time_steps: int) -> Tensor:
    """Two samples as a model takes them: all steps, or, where it takes one per call, the steps one after the other."""
    inputs = first_samples(data, 2)
    if not has_steps(data):
        return model_input(model, inputs, time_steps)
    framework = framework_of(model)
    axis = None if framework is None else framework.time_axis(model)
    if axis == -1:
        return inputs.movedim(0, -1)
    return inputs if axis == 0 else inputs.flatten(0, 1)


def model_input(model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
    """Two images as a model takes them, in the time layout its framework wants."""
    example = images[:2] if images.is_floating_point() else as_input(images[:2])
    framework = framework_of(model)
    axis = None if framework is None else framework.time_axis(model)
    if axis == 0:
        return example.expand(time_steps, *example.shape)
    if axis == -1:
        return example.unsqueeze(-1).expand(*example.shape, time_steps)
    return example


def to_chip(
    network: Network,
    chip: Chip,
    calibration: Tensor,
    scales: Mapping[str, float] | None = None,
    *,
    for_format: str | None = None,
) -> ChipNetwork:
    """The chip's integers, fitted to some images, without the neurons that no output depends on.

    `scales`: the integers that the network was fine-tuned on instead, which need no fitting. `for_format`: as for
    `quantize`, where a file will be written.
    """
    seen = calibration if scales is None else None
    return remove_dead_neurons(quantize(network, chip, seen, scales=scales, for_format=for_format))


@torch.no_grad()
def measure_synops(model: nn.Module, data: DataSet, time_steps: int) -> SynOps:
    """Synaptic operations of a model on all images of a set, all steps."""
    predict = predictor(model, time_steps, data)
    with SynOpsCounter(model) as counter:
        for images, _ in data.batches(evaluation_batch(data)):
            predict(model, data.as_input(images))
    return counter.result()


def emulated_accuracy(network: ChipNetwork | Network, data: DataSet, *, title: str, batch: int = 250) -> float:
    """Fraction of images that a network classifies correctly when emulated."""
    correct = 0
    with progress_bar(len(data), title) as bar:
        for images, labels in data.batches(batch):
            output = emulate(network, network_input(data, images), dtype=torch.float32).output
            correct += int((output.argmax(1) == labels.numpy()).sum())
            bar.update(len(labels))
    return correct / len(data)


@dataclass(frozen=True)
class Mapped:
    """A chip network, its activity on some images, and its placement and cost by chip."""

    network: ChipNetwork
    activity: Activity
    placements: Mapping[str, Placement]
    estimates: Mapping[str, Estimate]


def map_network(network: ChipNetwork, chips: tuple[Chip, ...], images: Tensor) -> Mapped:
    """Place a network on each chip and estimate what the images cost there.

    Raises:
        InvalidChip: chips whose integers have other ranges, so that the network cannot be meant for all of them.
    """
    if len({chip.supported("map").formats(chip) for chip in chips}) > 1:
        names = ", ".join(chip.name for chip in chips)
        raise InvalidChip(f"{names} hold integers of different widths; quantize the network for each, and map it there")
    activity = emulate(network, images)
    placements = {chip.name: place(replace(network, chip=chip.name), chip, activity) for chip in chips}
    estimates = {chip.name: estimate(placements[chip.name], activity, chip) for chip in chips}
    return Mapped(network, activity, placements, estimates)


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


def lava_images(data: DataSet, samples: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The first `samples` samples, as `compare_with_lava` takes them."""
    images: np.ndarray[Any, np.dtype[np.float32]] = first_samples(data, samples).numpy()
    return images

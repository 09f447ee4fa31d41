"""From a trained model to a chip: the network it computes, the chip's integers, cores and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hw_targets.app.stages.data import first_samples, network_input
from hw_targets.chips.chip import Chip
from hw_targets.emulation.emulate import emulate
from hw_targets.errors import InvalidChip, UnsupportedModel
from hw_targets.estimation import Estimate, estimate
from hw_targets.frontends.torch.from_torch import from_torch
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.placement import Placement, place
from hw_targets.quantization.to_chip import to_chip as integers_of
from neuroprune.frameworks import framework_of
from neuroprune.training.data.base import DataSet, has_steps
from neuroprune.training.data.images import as_input
from neuroprune.training.progress import progress_bar


def to_network(model: nn.Module, images: Tensor, time_steps: int) -> Network:
    """`from_torch` with the example in the time layout the model's framework wants."""
    return _read(model, model_input(model, images, time_steps), time_steps)


def read_network(model: nn.Module, data: DataSet, time_steps: int) -> Network:
    """`from_torch` on two samples of a set; `time_steps` plays no part where these have steps of their own."""
    return _read(model, example_input(model, data, time_steps), steps_of(data, time_steps))


def _read(model: nn.Module, example: Tensor, time_steps: int) -> Network:
    """`from_torch`, of a model that takes what data sets give.

    Raises:
        UnsupportedModel: it takes (N, T, …), so that batches (T, N, …) would be taken for as many steps as samples.
    """
    network = from_torch(model, example, time_steps=time_steps)
    if network.inputs[0].neuron.time_second:
        raise UnsupportedModel(
            "the model takes time second, (N, T, …), but data sets give (T, N, …); leave out its transposition, or wrap"
            " it in a module whose forward calls it with x.transpose(0, 1)"
        )
    return network


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
    if axis == 0 and framework is not None and framework.shows_image(model, example[:1], time_steps):
        return example
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
    """`hw_targets.to_chip` of a run: fitted to some images, or on the scales that its model was fine-tuned on.

    `scales`: the integers that the network was fine-tuned on instead, which need no fitting. `for_format`: as for
    `quantize`, where a file will be written.
    """
    seen = calibration if scales is None else None
    return integers_of(network, chip, seen, scales=scales, for_format=for_format)


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

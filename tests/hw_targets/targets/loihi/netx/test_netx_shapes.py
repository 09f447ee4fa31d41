"""Neurons whose shape is not that of what feeds them: behind a flatten, or on the grid of a transposed convolution."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import neuron
from torch import nn

from hw_targets import emulate, export_netx, from_torch, insert_relays, quantize, read_netx
from hw_targets.errors import HardwareTargetError, UnsupportedModel
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import Accumulator, ChipNetwork, Conv2d, Dense, Population, SpikeInput, Synapses
from hw_targets.targets.loihi.lava.check import compare_with_lava
from hw_targets.targets.loihi.netx import matrices
from hw_targets.targets.loihi.netx.writer import netx_layers
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.registry import load_chip
from tests.builders.lava import LavaProcess
from tests.builders.random_shapes import Sum, random_model

LOIHI = load_chip("loihi1")


def spiking(layer: nn.Module, *between: nn.Module) -> list[nn.Module]:
    """A layer whose neurons do fire, and what stands before these."""
    with torch.no_grad():
        next(layer.parameters()).mul_(2).add_(0.2)
    return [layer, *between, neuron.LIFNode(decay_input=False)]


def transposed() -> list[nn.Module]:
    return spiking(nn.ConvTranspose2d(4, 2, 2, stride=2))


#: Each begins with an image (2, 6, 6), and has the kinds of its file's layers.
MODELS: dict[str, tuple[Any, list[str]]] = {
    "neurons behind a flatten": (
        lambda: [*spiking(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten()), *spiking(nn.Linear(108, 5))],
        ["input", "conv", "flatten", "dense"],
    ),
    "neurons behind a flatten, read out": (
        lambda: [*spiking(nn.Conv2d(2, 3, 3, stride=2)), *spiking(nn.Conv2d(3, 4, 2), nn.Flatten())],
        ["input", "conv", "conv"],
    ),
    "a flattened pool": (
        lambda: [
            *spiking(nn.Conv2d(2, 3, 3, padding=1)),
            *spiking(nn.Conv2d(3, 3, 1, groups=3), nn.AvgPool2d(2), nn.Flatten()),
            *spiking(nn.Linear(27, 5)),
        ],
        ["input", "conv", "conv", "flatten", "dense"],
    ),
    "a transposed convolution with biases": (
        lambda: [
            *spiking(nn.Conv2d(2, 4, 3, stride=2, padding=1)),
            *(*spiking(nn.ConvTranspose2d(4, 3, 2, stride=2)), nn.Flatten()),
            *spiking(nn.Linear(108, 5)),
        ],
        ["input", "conv", "flatten", "dense", "dense"],
    ),
    "convolutions of a transposed one": (
        lambda: [
            *spiking(nn.Conv2d(2, 4, 3, stride=2, padding=1)),
            *spiking(nn.ConvTranspose2d(4, 3, 2, stride=2)),
            *spiking(nn.Conv2d(3, 2, 3, stride=2, padding=1)),
            *spiking(nn.Conv2d(2, 4, 2, groups=2)),
        ],
        ["input", "conv", "flatten", "dense", "dense", "dense"],
    ),
    "a skip beside a linear layer": (
        lambda: [
            *spiking(nn.Conv2d(2, 4, 3, stride=2, padding=1)),
            Sum(nn.Sequential(*transposed(), *spiking(nn.Conv2d(2, 4, 2, stride=2)))),
            *(nn.Flatten(), *spiking(nn.Linear(36, 3))),
        ],
        ["input", "conv", "flatten", "dense", "dense", "dense"],
    ),
}


def chip_network(name: str) -> ChipNetwork:
    torch.manual_seed(3)
    model = nn.Sequential(*MODELS[name][0]())
    return quantize(from_torch(model, torch.rand(2, 2, 6, 6), time_steps=5), LOIHI, for_format="netx")


def images(samples: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (samples, 2, 6, 6)).astype(np.uint8)


def same_after_reading(network: ChipNetwork, path: Path, inputs: NDArray[Any]) -> Activity:
    """What the network does, every spike of which the file's does, too."""
    sequential = insert_relays(network)
    here, there = emulate(sequential, inputs), emulate(read_netx(path), inputs)
    flat = {name: spikes.reshape(*spikes.shape[:2], -1) for name, spikes in here.spikes.items()}
    for layer, spikes in zip(netx_layers(sequential), list(there.spikes.values())[1:], strict=False):
        stacked = np.concatenate([flat[p.name] for p in layer.populations], axis=2)
        np.testing.assert_array_equal(stacked, spikes.reshape(stacked.shape))
    np.testing.assert_array_equal(here.output, there.output)
    return here


@pytest.mark.parametrize("name", MODELS)
def test_the_file_has_the_networks_layers_and_computes_the_same(name: str, tmp_path: Path) -> None:
    network = chip_network(name)
    export_netx(network, tmp_path / "n.net")
    with h5py.File(tmp_path / "n.net") as file:
        kinds = [bytes(file[f"layer/{i}/type"][0]).decode() for i in range(len(file["layer"]))]
    assert kinds == MODELS[name][1]
    assert all(spikes.any() for spikes in same_after_reading(network, tmp_path / "n.net", images(4)).spikes.values())


@pytest.mark.lava
@pytest.mark.parametrize("name", MODELS)
def test_lava_spikes_as_we_do(name: str, tmp_path: Path, lava: LavaProcess) -> None:
    network = chip_network(name)
    export_netx(network, tmp_path / "n.net")
    with lava.running():
        verdict = compare_with_lava(network, tmp_path / "n.net", images(2), timing="netx")
    assert verdict.compared > 20
    assert (verdict.differences, verdict.readout_differences) == (0, 0)


def of_a_vector(bias: NDArray[np.int32] | None = None) -> ChipNetwork:
    """A matrix into a grid of 2×2, of which a convolution takes what it reads."""
    populations = (
        Population("in", (3,), SpikeInput()),
        Population("grid", (2, 2, 2), CubaLIF(30), bias),
        Population("out", (1, 1, 1), Accumulator()),
    )
    numbers = np.random.default_rng(1)
    matrix, kernel = (numbers.integers(-40, 90, shape).astype(np.int32) for shape in ((8, 3), (1, 2, 2, 2)))
    synapses = (Synapses("in", "grid", Dense(matrix)), Synapses("grid", "out", Conv2d(kernel)))
    return ChipNetwork(populations, synapses, time_steps=4)


def test_neurons_that_nothing_feeds_are_refused_by_name(tmp_path: Path) -> None:
    network = of_a_vector()
    alone = Population("alone", (2, 2, 2), CubaLIF(30), np.full(2, 9, np.int32))
    synapses = (*network.synapses, Synapses("alone", "out", network.synapses[1].op))
    with pytest.raises(UnsupportedModel, match="no synapses lead to alone"):
        export_netx(ChipNetwork((*network.populations, alone), synapses), tmp_path / "n.net")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("size", [2, 8])
def test_biases_of_a_channel_or_a_neuron_of_a_grid_become_those_of_a_vector(size: int, tmp_path: Path) -> None:
    bias = np.arange(5, 5 + size, dtype=np.int32)
    export_netx(of_a_vector(bias), tmp_path / "n.net")
    with h5py.File(tmp_path / "n.net") as file:
        np.testing.assert_array_equal(file["layer/1/bias"][()], np.repeat(bias, 8 // size))


def test_a_convolution_too_large_as_a_matrix_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrices, "LARGEST_MATRIX", 7)
    with pytest.raises(UnsupportedModel, match=r"out: in netx a convolution.*out of grid has 8 numbers, more than 7"):
        export_netx(of_a_vector(), tmp_path / "n.net")
    assert not any(tmp_path.iterdir())


# --- models made up at random -----------------------------------------------------------------------------------------

#: What is refused for a reason that has nothing to do with shapes.
TRUE_REASONS = (
    *("merge the two into one layer", "where neither is a threshold", "broadcasting is not supported"),
    *(
        "above the largest weight 127",
        "8 bits hold",
        "so nothing reaches the output",
        "graded values cannot be relayed",
    ),
    *("average-pool spikes", "windows do not tile", "on every integer scale that fits", "within ±127"),
)


def check_random(seed: int, folder: Path) -> str:
    """Every spike is the same after reading, or the refusal says why before anything is written."""
    model, shape = random_model(seed)
    inputs = np.random.default_rng(seed).integers(0, 256, (3, 2, *shape)).astype(np.uint8)
    path = folder / f"{seed}.net"
    try:
        network = from_torch(model, torch.rand(2, *shape), time_steps=3)
        chip_network = quantize(network, LOIHI, for_format="netx" if seed % 3 else None)
        export_netx(chip_network, path)
    except HardwareTargetError as error:
        known = any(reason in str(error) for reason in TRUE_REASONS) and not path.exists()
        return "refused" if known else f"{seed}: {error}"
    frames = inputs.reshape(3, 2, *chip_network.inputs[0].shape)
    spikes = same_after_reading(chip_network, path, frames).spikes
    return "fires" if all(s.any() for s in spikes.values()) else "silent"


def test_random_models_are_read_back_as_they_were_or_refused(tmp_path: Path) -> None:
    results = Counter(check_random(seed, tmp_path) for seed in range(60))
    assert set(results) == {"fires", "silent", "refused"}
    assert results["fires"] >= 20, results
    assert results["refused"] <= 15, results


@pytest.mark.slow
def test_many_random_models_are_read_back_as_they_were_or_refused(tmp_path: Path) -> None:
    results = Counter(check_random(seed, tmp_path) for seed in range(60, 1060))
    assert set(results) == {"fires", "silent", "refused"}
    assert results["fires"] >= 400, results

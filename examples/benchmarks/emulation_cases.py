"""The networks that `emulation` runs, with samples for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from examples.benchmarks.common import Goal
from hw_targets import ChipNetwork, from_torch, load_chip, quantize
from hw_targets.emulation.products import has_byte_products
from hw_targets.ir.network import Accumulator, Conv2d, Dense, GradedInput, Op, Population, Synapses
from hw_targets.targets.loihi.neuron import CubaLIF
from neuroprune.models.sew_resnet import SmallSEWResNet, functional

Images: TypeAlias = npt.NDArray[np.uint8]
TIME_STEPS = 4

#: (channels, stride, padding) of the 3×3 convolutions of lava-dl's PilotNet LIF, which reads images of 3×66×200 (the
#: table in its tutorials/lava/lib/dl/netx/pilotnet_snn/run.ipynb), and neurons of its dense layers.
PILOTNET_CONVOLUTIONS = ((24, 2, 2, 0), (36, 2, 2, 0), (48, 2, 2, 0), (64, 2, 1, 1), (64, 1, 1, 0))
PILOTNET_DENSE = (100, 50, 10)
#: With these about a tenth of the neurons spikes in a step, layer by layer.
PILOTNET_THRESHOLDS = (10_700, 214, 356, 260, 420, 904, 108, 78)
#: 4096ths: a tenth of the potential leaks away in a step.
PILOTNET_LEAK = 410


@dataclass(frozen=True)
class Case:
    """A chip network, samples for it, and how much one turn of a round takes: Lava's steps, calls of emulate.

    `batched` and `single` are goals for the ratio with all samples in one call, and with one.
    """

    title: str
    network: ChipNetwork
    images: Images
    lava_steps: tuple[int, int]
    batched: Goal
    single: Goal | None = None
    calls: int = 1


def cases(*, quick: bool) -> tuple[Case, ...]:
    """A dense, a residual and a plain convolutional network."""
    return _mlp(quick), _sew(quick), _pilotnet(quick)


def _at_least(with_bytes: float, without: float) -> Goal:
    """The goal on this processor: products of bytes are exact only where it has VNNI or the like."""
    return Goal(with_bytes if has_byte_products() else without, at_least=True)


def _images(batch: int, *shape: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, (batch, *shape)).astype(np.uint8)


def _sew(quick: bool) -> Case:
    """The demo's network, untrained, with batch-norm statistics that make it fire."""
    images = _images(8 if quick else 64, 1, 28, 28)
    model = SmallSEWResNet()
    example = torch.from_numpy(images).float().div(255).expand(TIME_STEPS, *images.shape)
    with torch.no_grad():
        for _ in range(20):
            functional.reset_net(model)
            model(example)
    network = quantize(from_torch(model.eval(), example[:, :2]), load_chip("loihi1"), for_format="netx")
    steps = (1, 3) if quick else (2, 10)
    return Case("small SEW ResNet (28×28)", network, images, steps, Goal(50, at_least=True), calls=2)


def _mlp(quick: bool) -> Case:
    """784-128-10 leaky neurons, weights even integers as Loihi has them."""
    random = np.random.default_rng(0)
    hidden, out = (2 * random.integers(-2, 3, size).astype(np.int32) for size in ((128, 784), (10, 128)))
    populations = (
        Population("input", (784,), GradedInput()),
        Population("hidden", (128,), CubaLIF(15_000, v_decay=512)),
        Population("output", (10,), Accumulator()),
    )
    synapses = (Synapses("input", "hidden", Dense(hidden)), Synapses("hidden", "output", Dense(out)))
    network = ChipNetwork(populations, synapses, chip="loihi1", time_steps=TIME_STEPS)
    images, steps = _images(64 if quick else 4096, 784), (10, 50) if quick else (50, 450)
    return Case("MLP 784-128-10", network, images, steps, _at_least(3000, 1500), calls=4)


def _pilotnet(quick: bool) -> Case:
    """lava-dl's PilotNet LIF in size: leaky neurons, three of four weights zero, the others even integers."""
    random = np.random.default_rng(0)

    def weight(largest: int, *shape: int) -> npt.NDArray[np.int32]:
        values = 2 * random.integers(-largest // 2, largest // 2 + 1, shape) * (random.random(shape) < 0.25)
        return np.asarray(values, np.int32)

    populations = [Population("input", (3, 66, 200), GradedInput())]
    synapses: list[Synapses] = []

    def add(op: Op, neuron: CubaLIF | Accumulator) -> None:
        source, name = populations[-1], f"layer{len(populations)}"
        populations.append(Population(name, op.output_shape(source.shape), neuron))
        synapses.append(Synapses(source.name, name, op))

    thresholds = iter(PILOTNET_THRESHOLDS)
    for channels, down, right, edge in PILOTNET_CONVOLUTIONS:
        source = populations[-1].shape[0]
        # Pixels are 0 … 255, spikes 0 or 1.
        kernels = weight(16 if source == 3 else 128, channels, source, 3, 3)
        convolution = Conv2d(kernels, stride=(down, right), padding=(edge, 0))
        add(convolution, CubaLIF(next(thresholds), v_decay=PILOTNET_LEAK))
    for neurons in PILOTNET_DENSE:
        add(Dense(weight(128, neurons, populations[-1].size)), CubaLIF(next(thresholds), v_decay=PILOTNET_LEAK))
    add(Dense(weight(128, 1, PILOTNET_DENSE[-1])), Accumulator())
    network = ChipNetwork(tuple(populations), tuple(synapses), chip="loihi1", time_steps=TIME_STEPS)
    images, steps = _images(2 if quick else 32, 3, 66, 200), (1, 3) if quick else (2, 10)
    goals = _at_least(600, 350), _at_least(250, 150)
    return Case("PilotNet LIF (66×200)", network, images, steps, *goals)


def spike_rates(spikes: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Spikes per neuron and step of each layer; of an image, the share of pixels that are not black."""
    return {name: float((sent > 0).mean()) for name, sent in spikes.items()}

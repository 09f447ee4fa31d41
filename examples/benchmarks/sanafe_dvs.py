"""SANA-FE's DVS gesture network in this package's terms: read from its weights, placed as its tutorial places it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from examples.benchmarks.sanafe_run import DVS_CORES
from hw_targets.chips.chip import Chip
from hw_targets.ir.activity import Activity
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork, Conv2d, Dense, Population, SpikeInput, Synapses
from hw_targets.placement import Placement
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.target import LOIHI
from hw_targets.targets.saved_placements import load_placement

SOURCE = "SANA-FE 2.2.9 loihi.yaml"
UPDATE_PJ = 21.6
"""What SANA-FE adds to a neuron's access if it has a potential, a bias or an event to take in: a third kind of update,
between an idle one (51.2) and one that fires (51.2 + 21.6 + 69.3), of which this package's chips know the outer two."""
CHIP = Chip(
    "sanafe-loihi",
    target=LOIHI,
    cores_per_chip=128,
    neurons_per_core=1024,
    mesh_columns=8,
    mesh_rows=4,
    cores_per_router=4,
    synop_pj=35.5,
    inactive_update_pj=51.2,
    active_update_pj=51.2 + UPDATE_PJ + 69.3,
    spike_in_tile_pj=111.0,
    hop_east_west_pj=3.0,
    hop_north_south_pj=4.2,
    sources=dict.fromkeys(("synop_pj", "inactive_update_pj", "active_update_pj", "spike_in_tile_pj"), SOURCE),
)
LAYERS = ("pixels", "conv1", "conv2", "conv3", "conv4", "dense1")


def dvs_network(path: Path, steps: int) -> ChipNetwork:
    """The network: pixels that fire by their bias, four convolutions, a dense layer.

    The first population is an input without synapses, since nothing is sent from outside.
    """
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    thresholds = [int(t) for t in arrays["thresholds"]]
    biases = _whole(arrays["inputs"])
    populations = [Population("nothing", (1,), SpikeInput())]
    populations.append(Population("pixels", (1, 32, 32), CubaLIF(thresholds[0]), biases))
    synapses = [Synapses("nothing", "pixels", Dense(np.zeros((biases.size, 1), np.int32)))]
    for name, threshold in zip(LAYERS[1:], thresholds[1:], strict=True):
        source, weight = populations[-1], _whole(arrays[name])
        if weight.ndim == 4:  # SANA-FE's kernels are (H, W, in, out)
            stride = (2, 2) if name == "conv1" else (1, 1)
            op: Conv2d | Dense = Conv2d(np.ascontiguousarray(weight.transpose(3, 2, 0, 1)), stride)
        else:
            op = Dense(np.ascontiguousarray(weight.T))
        populations.append(Population(name, op.output_shape(source.shape), CubaLIF(threshold)))
        synapses.append(Synapses(source.name, name, op))
    return ChipNetwork(tuple(populations), tuple(synapses), chip=CHIP.name, time_steps=steps)


def _whole(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int32]:
    whole = values.astype(np.int32)
    if not np.array_equal(whole, values):
        raise ValueError("the DVS network's numbers are not integers")
    return whole


def dvs_placement(network: ChipNetwork) -> Placement:
    """Each layer in equal shares on its number of cores, in flattened order; cores fill tiles column by column."""
    cores: dict[str, npt.NDArray[np.int32]] = {}
    first = 0
    for name, count in zip(LAYERS, DVS_CORES, strict=True):
        size = network[name].size
        cores[name] = (first + np.minimum(np.arange(size) // (size // count), count - 1)).astype(np.int32)
        first += count
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "placement.npz")
        np.savez(path, **cores)
        return replace(load_placement(path, network, CHIP), positions=None)


def neurons_updated(network: ChipNetwork, activity: Activity, steps: int) -> int:
    """Neuron steps, of the chip's first `steps`, that SANA-FE calls updated.

    Those are steps with a potential or a bias that is not zero, or with an event received, if only by a zero weight.
    `activity` is time aligned and of one sample; layer d (from 0) lags d steps behind on the chip.
    """
    total = 0
    for lag, population in enumerate(network.populations[1:]):
        synapses = network.incoming(population.name)[0]
        fired = activity.spikes[population.name][:, 0].reshape(activity.time_steps, -1) != 0
        bias = np.zeros(population.size, np.int64) if population.bias is None else population.bias.astype(np.int64)
        v: Ints = np.zeros(population.size, np.int64)
        for start in range(0, steps - lag, 100):
            sent = activity.spikes[synapses.source][start : min(steps - lag, start + 100), 0]
            current, events = (_through(synapses, sent, counted=counted) for counted in (False, True))
            if population.name == "pixels":
                events[:] = 0  # the input without synapses
            for step in range(len(sent)):
                total += int(((v != 0) | (bias != 0) | (events[step] != 0)).sum())
                v = np.where(fired[start + step], 0, v + current[step] + bias)
    return total


def _through(synapses: Synapses, sent: npt.NDArray[np.integer[Any]], *, counted: bool) -> Ints:
    """Currents (steps, neurons) of spikes (steps, *shape), or with every weight 1 (`counted`)."""
    op = synapses.op
    weight = torch.from_numpy(np.ones_like(op.weight) if counted else op.weight).double()
    x = torch.from_numpy(np.ascontiguousarray(sent)).double()
    y = F.conv2d(x, weight, stride=op.stride) if isinstance(op, Conv2d) else F.linear(x.flatten(1), weight)
    flat: Ints = y.flatten(1).round().long().numpy()
    return flat

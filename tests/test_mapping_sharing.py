"""Cores shared by populations: room filled with tiles of the first layer, light cores dissolved into others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_placement import breaks_a_limit, recount

from hw_targets.chip import Chip
from hw_targets.mapping import Placement, place
from hw_targets.mapping.dissolving import dissolve
from hw_targets.mapping.filling import can_fill
from hw_targets.mapping.placement import placed_populations
from hw_targets.mapping.tiling import sequential
from hw_targets.network import ChipNetwork, Conv2d, CubaLIF, Dense, Population, SpikeInput, Synapses


def checked(placement: Placement, network: ChipNetwork, chip: Chip) -> Placement:
    """The placement, after the slow twin found the same usage, and no limit broken."""
    slow = recount(network, chip, {name: cores.tolist() for name, cores in placement.cores.items()})
    assert [tuple(vars(core).values()) for core in placement.usage] == [tuple(core) for core in slow]
    assert not any(breaks_a_limit(core, chip) for core in slow)
    return placement


def image_and_memory(rng: np.random.Generator, hidden: int) -> ChipNetwork:
    """in → a (a convolution of 2 × 6 × 6 neurons, little memory) → h (dense, much memory, few neurons)."""
    kernel = Conv2d(rng.integers(1, 99, (2, 1, 3, 3)).astype(np.int32), padding=(1, 1))
    populations = (
        Population("in", (1, 6, 6), SpikeInput()),
        Population("a", (2, 6, 6), CubaLIF(4)),
        Population("h", (hidden,), CubaLIF(4)),
    )
    weight = rng.integers(1, 99, (hidden, 72)).astype(np.int32)
    return ChipNetwork(populations, (Synapses("in", "a", kernel), Synapses("a", "h", Dense(weight))))


def test_the_first_layer_fills_cores_that_memory_fills() -> None:
    """Two of eight dense neurons fill a core's memory but for a kernel: four cores, with room for 4 × 18 others."""
    network = image_and_memory(np.random.default_rng(0), 8)
    chip = Chip("room", cores_per_chip=16, neurons_per_core=20, synaptic_bits_per_core=2 * 72 * 8 + 560, weight_bits=8)
    assert can_fill(network, "a")
    assert not can_fill(network, "h")
    placement = checked(place(network, chip), network, chip)
    assert placement.core_count < 72 / 20 + 8 / 2
    assert {"a", "h"} in [{name for name, _ in core.neurons_of} for core in placement.usage]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(4, 24), st.integers(60, 200), st.integers(4, 20))
def test_filled_cores_hold_every_limit(seed: int, hidden: int, neurons: int, axons: int, words: int) -> None:
    network = image_and_memory(np.random.default_rng(seed), hidden)
    chip = Chip(
        "room",
        cores_per_chip=16,
        neurons_per_core=neurons,
        input_axons_per_core=72 + axons // 4,
        output_axons_per_core=axons,
        synaptic_bits_per_core=72 * 8 + 64 * words,
        weight_bits=8,
    )
    placement = checked(place(network, chip), network, chip)
    assert sorted(np.bincount(placement.cores["a"]).tolist())[-1] <= neurons


def layers(sizes: tuple[int, ...]) -> ChipNetwork:
    """Dense layers of different weights."""
    rng = np.random.default_rng(0)
    populations = tuple(Population(f"p{k}", (n,), CubaLIF(4) if k else SpikeInput()) for k, n in enumerate(sizes))
    groups = tuple(
        Synapses(f"p{k}", f"p{k + 1}", Dense(rng.integers(1, 99, (sizes[k + 1], n)).astype(np.int32)))
        for k, n in enumerate(sizes[:-1])
    )
    return ChipNetwork(populations, groups)


def test_a_light_core_goes_in_pieces() -> None:
    """Three cores of ten neurons, eight, eight and four of them used: the four fit as two and two."""
    network = layers((3, 8, 8, 4))
    chip = Chip("ten", cores_per_chip=9, neurons_per_core=10, weight_bits=8)
    sends = {p.name: np.zeros(p.size, np.int64) for p in network.populations}
    parts = [
        sequential(network, p.name, np.arange(p.size), sends[p.name], chip)[0] for p in placed_populations(network)
    ]
    found = dissolve(network, [[part] for part in parts], chip)
    assert [{part.population: part.neurons.tolist() for part in core} for core in found] == [
        {"p1": list(range(8)), "p3": [0, 1]},
        {"p2": list(range(8)), "p3": [2, 3]},
    ]
    assert checked(place(network, chip), network, chip).core_count == 2


TEN = Chip("ten", cores_per_chip=9, neurons_per_core=10, weight_bits=8)


@pytest.mark.parametrize(
    "chip",
    [
        replace(TEN, output_axons_per_core=8),  # two cores for the last layer make each neuron before it send twice
        replace(TEN, populations_per_core=1),
        replace(TEN, input_axons_per_core=8),
    ],
)
def test_no_core_goes_where_a_limit_forbids_it(chip: Chip) -> None:
    network = layers((3, 8, 8, 4))
    assert checked(place(network, chip), network, chip).core_count == 3

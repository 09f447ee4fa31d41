"""Cores shared by populations: room filled with tiles of the first layer, light cores dissolved into others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hw_targets.chips.chip import Chip
from hw_targets.ir.network import ChipNetwork, Conv2d, Dense, Population, SpikeInput, Synapses
from hw_targets.placement import Placement, place
from hw_targets.placement.cores.cost import Part
from hw_targets.placement.packing.dissolving import dissolve
from hw_targets.placement.packing.filling import can_fill, fillers_of
from hw_targets.placement.packing.packing import count_destinations, pack, spread
from hw_targets.placement.placement import placed_populations
from hw_targets.placement.tiles.tiling import sequential
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.target import LOIHI
from tests.twins.placement import breaks_a_limit, recount


def checked(placement: Placement, network: ChipNetwork, chip: Chip) -> Placement:
    """The placement, after the slow twin found the same usage, and no limit broken."""
    slow = recount(network, chip, {name: cores.tolist() for name, cores in placement.cores.items()})
    assert [tuple(vars(core).values()) for core in placement.usage] == [tuple(core) for core in slow]
    assert not any(breaks_a_limit(core, chip) for core in slow)
    return placement


def image_and_memory(rng: np.random.Generator, hidden: int, *, pool: bool = False) -> ChipNetwork:
    """in → a (a convolution of 2 × 6 × 6 neurons, little memory) → h (dense, much memory, few neurons).

    With `pool`, a 3 × 3 pool of two channels sits in between.
    """
    kernel = Conv2d(rng.integers(1, 99, (2, 1, 3, 3)).astype(np.int32), padding=(1, 1))
    populations = [Population("in", (1, 6, 6), SpikeInput()), Population("a", (2, 6, 6), CubaLIF(4))]
    synapses = [Synapses("in", "a", kernel)]
    if pool:
        populations.append(Population("p", (2, 3, 3), CubaLIF(4)))
        ones = Conv2d(np.ones((2, 1, 3, 3), np.int32), stride=(2, 2), padding=(1, 1), groups=2)
        synapses.append(Synapses("a", "p", ones))
    weight = rng.integers(1, 99, (hidden, populations[-1].size)).astype(np.int32)
    synapses.append(Synapses(populations[-1].name, "h", Dense(weight)))
    return ChipNetwork((*populations, Population("h", (hidden,), CubaLIF(4))), tuple(synapses))


def test_the_first_layer_fills_cores_that_memory_fills() -> None:
    """Two of eight dense neurons fill a core's memory but for a kernel: four cores, with room for 4 × 18 others."""
    network = image_and_memory(np.random.default_rng(0), 8)
    chip = Chip(
        "room",
        target=LOIHI,
        cores_per_chip=16,
        neurons_per_core=20,
        synaptic_bits_per_core=2 * 72 * 8 + 560,
        weight_bits=8,
    )
    assert can_fill(network, "a")
    assert not can_fill(network, "h")
    placement = checked(place(network, chip), network, chip)
    assert placement.core_count < 72 / 20 + 8 / 2
    assert {"a", "h"} in [{name for name, _ in core.neurons_of} for core in placement.usage]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(4, 24),
    st.integers(12, 200),
    st.integers(4, 20),
    st.booleans(),
)
@example(425, 4, 15, 12, 15, True)  # where the pool must be placed before what it reads
def test_filled_cores_hold_every_limit(
    seed: int, hidden: int, neurons: int, axons: int, words: int, pool: bool
) -> None:
    network = image_and_memory(np.random.default_rng(seed), hidden, pool=pool)
    chip = Chip(
        "room",
        target=LOIHI,
        cores_per_chip=16,
        neurons_per_core=neurons,
        input_axons_per_core=72 + axons // 4,
        output_axons_per_core=axons,
        synaptic_bits_per_core=72 * 8 + 64 * words,
        weight_bits=8,
    )
    placement = checked(place(network, chip), network, chip)
    assert sorted(np.bincount(placement.cores["a"]).tolist())[-1] <= neurons


def test_a_pool_fills_room_too() -> None:
    """Two dense neurons fill a core's memory: their cores have room for the pool, then for what it reads."""
    network = image_and_memory(np.random.default_rng(0), 8, pool=True)
    chip = Chip(
        "room",
        target=LOIHI,
        cores_per_chip=16,
        neurons_per_core=20,
        synaptic_bits_per_core=2 * 18 * 8 + 800,
        weight_bits=8,
    )
    assert fillers_of(network, {"a", "p", "h"}) == ["a", "p"]
    assert fillers_of(network, {"p"}) == []  # what it reads stays, and must not send to more cores
    chip = replace(chip, neurons_per_core=12, output_axons_per_core=40)
    placement = checked(place(network, chip), network, chip)
    assert any({"p", "h"} <= {name for name, _ in core.neurons_of} for core in placement.usage)


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
    chip = Chip("ten", target=LOIHI, cores_per_chip=9, neurons_per_core=10, weight_bits=8)
    parts = whole_populations(network, chip)
    found = dissolve(network, [[part] for part in parts], chip)
    assert [{part.population: part.neurons.tolist() for part in core} for core in found] == [
        {"p1": list(range(8)), "p3": [0, 1]},
        {"p2": list(range(8)), "p3": [2, 3]},
    ]
    assert checked(place(network, chip), network, chip).core_count == 2


def whole_populations(network: ChipNetwork, chip: Chip) -> list[Part]:
    """Each population as one part."""
    none = {p.name: np.zeros(p.size, np.int64) for p in network.populations}
    return [sequential(network, p.name, np.arange(p.size), none[p.name], chip)[0] for p in placed_populations(network)]


def test_parts_spread_evenly() -> None:
    """Five, five, four and four neurons on cores of ten: first fit fills one core, evenly nine are on each."""
    network, chip = (
        layers((3, 5, 5, 4, 4)),
        Chip("ten", target=LOIHI, cores_per_chip=9, neurons_per_core=10, weight_bits=8),
    )
    parts = whole_populations(network, chip)
    sends = count_destinations([[part] for part in parts], {p.name: p.size for p in network.populations})
    first = pack(parts, sends, chip)
    assert [[part.population for part in core] for core in first] == [["p1", "p2"], ["p3", "p4"]]
    even = spread(parts, 2, sends, chip)
    assert even is not None
    assert [sum(part.neurons.size for part in core) for core in even] == [9, 9]
    assert spread(parts, 1, sends, chip) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(1, 5), st.integers(6, 12), st.integers(8, 60))
def test_spread_cores_hold_every_limit(sizes: list[int], cores: int, neurons: int, axons: int) -> None:
    network = layers((3, *sizes))
    chip = Chip(
        "spread",
        target=LOIHI,
        cores_per_chip=9,
        neurons_per_core=neurons,
        input_axons_per_core=max(6, axons // 3),
        output_axons_per_core=axons,
        synaptic_bits_per_core=8 * 6 * axons,
        weight_bits=8,
    )
    parts = whole_populations(network, chip)
    assume(len(parts) == len(sizes) and all(part.neurons.size == n for part, n in zip(parts, sizes, strict=True)))
    sends = count_destinations([[part] for part in parts], {p.name: p.size for p in network.populations})
    found = spread(parts, cores, sends, chip)
    assume(found is not None)
    held = {p.name: [-1] * p.size for p in placed_populations(network)}
    for index, core in enumerate(found or []):
        for part in core:
            for neuron in part.neurons.tolist():
                assert held[part.population][neuron] == -1
                held[part.population][neuron] = index
    assert not any(-1 in assigned for assigned in held.values())
    assert not any(breaks_a_limit(core, chip) for core in recount(network, chip, held))


TEN = Chip("ten", target=LOIHI, cores_per_chip=9, neurons_per_core=10, weight_bits=8)


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

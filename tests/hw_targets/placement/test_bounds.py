"""The lower bound on cores against every placement of tiny networks, and against placements drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hw_targets import load_chip
from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork, Conv2d, Dense, Population, SpikeInput, Synapses
from hw_targets.placement import place
from hw_targets.placement.bounds.bounds import cores_by_resource, lower_bound, stored_bits, totals
from hw_targets.placement.bounds.copies import least_copies
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.target import LOIHI
from tests.twins.placement import breaks_a_limit, count_core, recount


def distinct(
    rng: np.random.Generator, shape: tuple[int, ...], density: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Weights that differ from each other (up to 2^20 of them), some of them zero: lists are never equal by chance."""
    size = int(np.prod(shape))
    values = rng.permutation(np.arange(1, size + 1)).astype(np.int32)
    return np.where(rng.random(size) < density, values, 0).astype(np.int32).reshape(shape)


def partitions(size: int) -> Iterator[list[int]]:
    """Every way to spread neurons over cores: core of each, numbered by first use."""

    def grow(assigned: list[int], used: int) -> Iterator[list[int]]:
        if len(assigned) == size:
            yield assigned
            return
        for core in range(used + 1):
            yield from grow([*assigned, core], max(used, core + 1))

    yield from grow([], 0)


def fewest_cores(network: ChipNetwork, chip: Chip) -> int | None:
    """Cores of the best of all placements; None if there is none."""
    names = [name for name in network.order if not network[name].is_input]
    ends = np.cumsum([network[name].size for name in names])[:-1]
    best: int | None = None
    for assigned in partitions(sum(network[name].size for name in names)):
        cores = 1 + max(assigned)
        if best is None or cores < best:
            split = dict(zip(names, (part.tolist() for part in np.split(np.array(assigned), ends)), strict=True))
            if not any(breaks_a_limit(usage, chip) for usage in recount(network, chip, split)):
                best = cores
    return best


def delays() -> st.SearchStrategy[Ints | None]:
    """None, or one delay for all synapses of a group, as those have that pass over layers."""
    return st.none() | st.integers(0, 2).map(lambda steps: np.full((1, 1), steps, np.int64))


@st.composite
def tiny(draw: st.DrawFn) -> ChipNetwork:
    """in → hidden → out with six or seven neurons on the chip: dense layers, or a convolution before one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.4, 0.8, 1.0]))
    if draw(st.booleans()):
        kernel = Conv2d(distinct(rng, (1, 1, 2, 3), density), padding=(draw(st.integers(0, 1)), 1))
        source = (1, 2, draw(st.integers(2, 4)))
        shape = kernel.output_shape(source)
        assume(0 < np.prod(shape) <= 6)
        entry, hidden = Population("in", source, SpikeInput()), Population("hidden", shape, CubaLIF(4))
        first = Synapses("in", "hidden", kernel)
    else:
        entry, hidden = Population("in", (4,), SpikeInput()), Population("hidden", (4,), CubaLIF(4))
        first = Synapses("in", "hidden", Dense(distinct(rng, (4, 4), density)))
    out = Population("out", (2,), CubaLIF(4))
    last = Synapses("hidden", "out", Dense(distinct(rng, (2, hidden.size), 1.0) + 100), delay=draw(delays()))
    return ChipNetwork((entry, hidden, out), (first, last))


@settings(max_examples=20, deadline=None)
@given(tiny(), st.data())
def test_no_placement_of_a_tiny_network_is_below_the_bound(network: ChipNetwork, data: st.DataObject) -> None:
    def maybe(low: int, high: int) -> int | None:
        return data.draw(st.none() | st.integers(low, high))

    chip = Chip(
        "tiny",
        target=LOIHI,
        cores_per_chip=9,
        neurons_per_core=data.draw(st.integers(1, 5)),
        input_axons_per_core=maybe(4, 9),
        output_axons_per_core=maybe(2, 8),
        synaptic_bits_per_core=maybe(32, 160),
        weight_bits=8,
        delay_bits=maybe(2, 8),
    )
    fewest = fewest_cores(network, chip)
    assume(fewest is not None)
    assert lower_bound(network, chip) <= (fewest or 0)


def test_the_bound_is_the_optimum_where_one_resource_binds() -> None:
    """Four neurons, two to a core; sixteen weights, four to a core: 2 and 4 cores, which placements reach."""
    weight = np.arange(1, 17, dtype=np.int32).reshape(4, 4)
    populations = (Population("in", (4,), SpikeInput()), Population("h", (4,), CubaLIF(4)))
    network = ChipNetwork(populations, (Synapses("in", "h", Dense(weight)),))
    for chip in (
        Chip("pairs", target=LOIHI, cores_per_chip=9, neurons_per_core=2, weight_bits=8),
        Chip("bits", target=LOIHI, cores_per_chip=9, neurons_per_core=4, synaptic_bits_per_core=32, weight_bits=8),
    ):
        assert lower_bound(network, chip) == fewest_cores(network, chip) == place(network, chip).core_count
    assert cores_by_resource(totals(network, chip), chip) == {"neurons_per_core": 1, "synaptic_bits_per_core": 4}


@st.composite
def spread(draw: st.DrawFn) -> tuple[ChipNetwork, list[int]]:
    """A convolution with kernels whose weights are all different, and any placement of its neurons."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    groups = draw(st.sampled_from([1, 1, 2]))
    shape = (groups * draw(st.integers(1, 2)), 2 // groups, *pair(1, 3))
    density = draw(st.sampled_from([0.5, 1.0, 1.0]))
    op = Conv2d(distinct(rng, shape, density), pair(1, 2), pair(0, 1), pair(1, 2), groups)
    source = (2, *pair(1, 5))
    target = op.output_shape(source)
    assume(min(target) > 0)
    populations = (Population("in", source, SpikeInput()), Population("a", target, CubaLIF(4)))
    cores = draw(st.integers(1, 4))
    size = int(np.prod(target))
    by_position = rng.integers(0, cores, size // target[0])
    assigned = np.tile(by_position, target[0]) if draw(st.booleans()) else rng.integers(0, cores, size)
    network = ChipNetwork(populations, (Synapses("in", "a", op, delay=draw(delays())),))
    return network, np.unique(assigned, return_inverse=True)[1].tolist()


@settings(max_examples=80, deadline=None)
@given(spread())
def test_no_placement_stores_fewer_weights(case: tuple[ChipNetwork, list[int]]) -> None:
    network, assigned = case
    chip = Chip("weights", target=LOIHI, cores_per_chip=9, neurons_per_core=99, weight_bits=1, delay_bits=3)
    stored = sum(core.synaptic_bits or 0 for core in recount(network, chip, {"a": assigned}))
    assert stored >= stored_bits(network, "a", chip)


@pytest.mark.parametrize(
    ("size", "kernel", "copies"),
    [
        ((2, 2), (3, 3), 16),  # each of four pixels reaches all four: nothing is shared
        ((1, 1), (3, 3), 1),  # the centre alone
        ((1, 2), (1, 3), 4),
        ((1, 9), (1, 1), 1),
        ((1, 4), (1, 3), 7),  # a core that holds all: 2 weights for the first source, 3 amid, 2 for the last
        ((4, 4), (3, 3), 49),  # the same along both axes
    ],
)
def test_copies_by_hand(size: tuple[int, int], kernel: tuple[int, int], copies: int) -> None:
    op = Conv2d(
        np.arange(1, kernel[0] * kernel[1] + 1, dtype=np.int32).reshape(1, 1, *kernel),
        padding=(kernel[0] // 2, 1 if kernel[1] > 1 else 0),
    )
    found = least_copies(op, (1, *size))
    assert found.shape == (1, 1)
    assert int(found[0, 0] + 1e-9) == copies
    populations = (Population("in", (1, *size), SpikeInput()), Population("a", (1, *size), CubaLIF(4)))
    network = ChipNetwork(populations, (Synapses("in", "a", op),))
    whole = recount(
        network,
        Chip("w", target=LOIHI, cores_per_chip=1, neurons_per_core=99, weight_bits=1),
        {"a": [0] * int(np.prod(size))},
    )
    assert copies <= (whole[0].synaptic_bits or 0)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_copies_against_all_ways_to_spread_the_targets(data: st.DataObject) -> None:
    """One kernel of distinct weights, up to seven targets: the fewest weights over all partitions, by the slow twin."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weight = distinct(rng, (1, 1, *pair(1, 3)), data.draw(st.sampled_from([0.6, 1.0])))
    op, source = Conv2d(weight, pair(1, 2), pair(0, 1), pair(1, 2)), (1, *pair(1, 6))
    shape = op.output_shape(source)
    assume(0 < np.prod(shape) <= 7)
    network = ChipNetwork(
        (Population("in", source, SpikeInput()), Population("a", shape, CubaLIF(4))), (Synapses("in", "a", op),)
    )
    chip = Chip("w", target=LOIHI, cores_per_chip=9, neurons_per_core=99, weight_bits=1)
    size = int(np.prod(shape))
    blocks = [tuple(n for n in range(size) if number >> n & 1) for number in range(1 << size)]
    stored = {block: count_core(network, [("a", block)], chip, 0).synaptic_bits or 0 for block in blocks}
    fewest = min(
        sum(stored[tuple(n for n in range(size) if cores[n] == core)] for core in set(cores))
        for cores in partitions(size)
    )
    assert float(least_copies(op, source).sum()) <= fewest + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_copies_in_large_images_against_cores_drawn_at_random(data: st.DataObject) -> None:
    """Where only some sources are looked at: tiles, stripes and targets spread anyhow store no less."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weight = distinct(rng, (1, 1, 3, 3), data.draw(st.sampled_from([0.7, 1.0])))
    size = data.draw(st.integers(4, 9))
    op = Conv2d(weight, (data.draw(st.integers(1, 2)),) * 2, (1, 1))
    row, column = np.indices(op.output_shape((1, size, size))[1:]).reshape(2, -1)
    a, b = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    way = data.draw(st.sampled_from(["tiles", "stripes", "any"]))
    cores = {"tiles": row // a * 9 + column // b, "stripes": row % a * 9 + column % b}.get(
        way, rng.integers(0, 3, row.size)
    )
    populations = (
        Population("in", (1, size, size), SpikeInput()),
        Population("a", (1, *map(int, (row.max() + 1, column.max() + 1))), CubaLIF(4)),
    )
    network = ChipNetwork(populations, (Synapses("in", "a", op),))
    chip = Chip("w", target=LOIHI, cores_per_chip=9, neurons_per_core=99, weight_bits=1)
    held = np.unique(cores, return_inverse=True)[1].tolist()
    stored = sum(core.synaptic_bits or 0 for core in recount(network, chip, {"a": held}))
    assert float(least_copies(op, (1, size, size)).sum()) <= stored + 1e-6


def test_equal_kernels_and_columns_count_once() -> None:
    """A sum of two populations, read with the same weights, is stored once."""
    kernel = Conv2d(np.arange(1, 10, dtype=np.int32).reshape(1, 1, 3, 3), padding=(1, 1))
    entries = tuple(Population(name, (1, 2, 2), SpikeInput()) for name in ("left", "right"))
    target = Population("a", (1, 2, 2), CubaLIF(4))
    network = ChipNetwork((*entries, target), tuple(Synapses(entry.name, "a", kernel) for entry in entries))
    chip = Chip("w", target=LOIHI, cores_per_chip=1, neurons_per_core=99, synaptic_bits_per_core=10, weight_bits=1)
    assert stored_bits(network, "a", chip) == recount(network, chip, {"a": [0] * 4})[0].synaptic_bits == 16
    assert cores_by_resource(totals(network, chip), chip)["synaptic_bits_per_core"] == ceil(16 / 10)


@pytest.mark.parametrize("cores", [[0] * 16, list(range(16)), [n % 2 for n in range(16)]])
def test_pools_store_what_their_lists_need(cores: list[int]) -> None:
    """All weights are equal, so that lists through different taps are: sixteen cores store one weight each."""
    pool = Conv2d(np.full((2, 1, 3, 3), 5, np.int32), padding=(1, 1), groups=2)
    populations = (Population("in", (2, 4, 4), SpikeInput()), Population("a", (2, 4, 4), CubaLIF(4)))
    network = ChipNetwork(populations, (Synapses("in", "a", pool),))
    chip = Chip("w", target=LOIHI, cores_per_chip=32, neurons_per_core=99, weight_bits=1)
    stored = sum(core.synaptic_bits or 0 for core in recount(network, chip, {"a": cores * 2}))
    assert stored_bits(network, "a", chip) <= stored


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_relays_are_stored_once(density: float) -> None:
    """Channels that repeat a source, beside others that convolve it: each core stores one list of one weight."""
    rng = np.random.default_rng(0)
    kernel = np.zeros((6, 3, 3, 3), np.int32)
    kernel[:3] = distinct(rng, (3, 3, 3, 3), density)
    kernel[3:, :, 1, 1] = 100 * np.eye(3, dtype=np.int32)
    populations = (Population("in", (3, 2, 2), SpikeInput()), Population("a", (6, 2, 2), CubaLIF(4)))
    network = ChipNetwork(populations, (Synapses("in", "a", Conv2d(kernel, padding=(1, 1))),))
    chip = Chip("w", target=LOIHI, cores_per_chip=9, neurons_per_core=99, weight_bits=1)
    stored = sum(core.synaptic_bits or 0 for core in recount(network, chip, {"a": [0] * 12 + [1] * 12}))
    assert stored_bits(network, "a", chip) <= stored
    columns = Dense(9 * np.eye(5, dtype=np.int32))
    populations = (Population("in", (5,), SpikeInput()), Population("h", (5,), CubaLIF(4)))
    assert stored_bits(ChipNetwork(populations, (Synapses("in", "h", columns),)), "h", chip) <= 1


def test_a_delay_of_one_synapse_is_not_charged_to_its_whole_list() -> None:
    """Of 24 synapses one is delayed: the core that holds it needs more, and nobody else does."""
    weight = np.arange(1, 25, dtype=np.int32).reshape(24, 1)
    delay = np.zeros((24, 1), np.int64)
    delay[7] = 3
    network = ChipNetwork(
        (Population("in", (1,), SpikeInput()), Population("out", (24,), CubaLIF(4))),
        (Synapses("in", "out", Dense(weight), delay=delay),),
        time_steps=8,
    )
    chip = replace(load_chip("loihi1"), synaptic_bits_per_core=100)
    plain = ChipNetwork(network.populations, (Synapses("in", "out", Dense(weight)),), time_steps=8)
    assert place(network, chip).lower_bound == lower_bound(network, chip) == lower_bound(plain, chip) == 3


def test_a_delay_of_all_synapses_is_charged_to_each() -> None:
    """24 weights of 8 bits, and 6 bits of delay beside each: where memory binds, the bound grows by that."""
    weight = np.arange(1, 25, dtype=np.int32).reshape(24, 1)
    populations = (Population("in", (1,), SpikeInput()), Population("out", (24,), CubaLIF(4)))
    chip = Chip(
        "bits", target=LOIHI, cores_per_chip=99, neurons_per_core=24, synaptic_bits_per_core=56,
        weight_bits=8, delay_bits=6, max_delay=9,
    )  # fmt: skip
    for delay, cores in ((None, ceil(24 * 8 / 56)), (0, ceil(24 * 8 / 56)), (2, ceil(24 * 14 / 56))):
        held = None if delay is None else np.full((1, 1), delay, np.int64)
        network = ChipNetwork(populations, (Synapses("in", "out", Dense(weight), delay=held),), time_steps=8)
        assert lower_bound(network, chip) == cores
        assert cores <= place(network, chip).core_count <= cores + 1

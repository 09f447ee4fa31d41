"""Each synapse format against entry-by-entry loops, and tiles of convolutions against their neurons one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_targets.chips.chip import Chip
from hw_targets.ir.network import ChipNetwork, Conv2d, Population, SpikeInput, Synapses
from hw_targets.placement.cores.cost import Window
from hw_targets.placement.cores.formats import (
    chip_formats,
    distinct_lists,
    least_bits_per_synapse,
    list_bits,
    total_bits,
)
from hw_targets.placement.tiles.convolution import Convolution, Tile
from hw_targets.placement.tiles.grid import _axons_from
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.target import LOIHI
from hw_targets.targets.registry import load_chip
from tests.twins.placement import bits_of_list, cheapest, count_core, pixel_order


@st.composite
def chips(draw: st.DrawFn) -> Chip:
    index, skip = draw(st.integers(4, 8)), draw(st.none() | st.integers(1, 4))
    return Chip(
        "tiny",
        target=LOIHI,
        cores_per_chip=1,
        neurons_per_core=256,
        synapse_formats_per_core=draw(st.none() | st.integers(1, 7)),
        word_bits=draw(st.sampled_from([None, 8, 64])),
        weight_bits=draw(st.sampled_from([3, 8])),
        index_bits=index,
        index_bits_min=draw(st.none() | st.integers(2, index)),
        skip_bits=skip,
        skip_bits_min=None if skip is None else draw(st.none() | st.integers(1, skip)),
        delay_bits=6,
        entry_synapses=draw(st.integers(1, 9)),
        entry_header_bits=draw(st.integers(1, 12)),
        list_tail_bits=draw(st.none() | st.integers(1, 6)),
    )


positions = st.sets(st.integers(0, 15) | st.integers(0, 200), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(chips(), st.lists(st.tuples(positions, st.booleans()), min_size=1, max_size=4))
def test_every_format_against_loops(chip: Chip, drawn: list[tuple[set[int], bool]]) -> None:
    # The first synapse of each list has a weight of its own, so that all lists differ.
    lists = [
        [(p - min(chosen), 1 + n * (p == min(chosen)), int(late)) for p in sorted(chosen)]
        for n, (chosen, late) in enumerate(drawn)
    ]
    length = np.array([len(entries) for entries in lists], dtype=np.int64)
    start = np.cumsum(length) - length
    offset = np.array([offset for entries in lists for offset, _, _ in entries], dtype=np.int64)
    content = np.array([weight + (delay << 32) for entries in lists for _, weight, delay in entries], dtype=np.int64)
    delayed = np.array([late for _, late in drawn])
    bits = list_bits(offset, start, length, delayed, chip)
    for entries, row in zip(lists, bits.tolist(), strict=True):
        for form, found in zip(chip_formats(chip), row, strict=True):
            expected = bits_of_list(entries, form.encoding, form.width, chip)
            assert found >= len(entries) * least_bits_per_synapse(chip)
            assert found == expected if expected is not None else found > 1 << 30, form
    distinct = distinct_lists(offset, content, start, chip)
    slow = cheapest(lists, chip)
    fast = total_bits(distinct.bits, chip)
    assert fast == slow if slow is not None else fast is None or fast > 1 << 30


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tiles_cost_what_their_neurons_cost(data: st.DataObject) -> None:
    """Representatives of classes, against all synapses of all neurons of the tile."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    draw = data.draw

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    groups = draw(st.sampled_from([1, 2]))
    kernel = rng.integers(-2, 3, (2 * draw(st.integers(1, 2)), 2 // groups, *pair(1, 3))).astype(np.int32)
    kernel *= rng.random(kernel.shape) < draw(st.sampled_from([0.3, 1.0]))
    op = Conv2d(kernel, pair(1, 2), pair(0, 2), pair(1, 2), groups)
    source = (2, *pair(6, 8))
    target = op.output_shape(source)
    if min(target) < 1:
        return
    populations = (
        Population("x", source, SpikeInput()),
        Population("y", source, SpikeInput()),
        Population("a", target, CubaLIF(1)),
    )
    other = op if draw(st.booleans()) else replace(op, weight=op.weight[::-1])
    delays = [draw(st.sampled_from([None, 0, 1, 3])) for _ in "xy"]
    first, second = (None if delay is None else np.full((1, 1), delay) for delay in delays)
    network = ChipNetwork(populations, (Synapses("x", "a", op, first), Synapses("y", "a", other, second)))
    bounds = [sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))) for n in target]
    tile = Tile(*((low, high + 1) for low, high in bounds))
    chip = draw(st.just(load_chip("loihi1")) | chips())
    is_sorted = groups == 1 and draw(st.booleans())
    order = rng.permutation(target[0]) if is_sorted else np.arange(target[0])
    convolution = Convolution(network, "a", chip, order if is_sorted else None)
    part = convolution.part(tile)
    flat = np.arange(int(np.prod(target))).reshape(target)[order][tuple(slice(*b) for b in tile)].reshape(-1)
    neurons = [n for n in pixel_order(target) if n in set(flat.tolist())]
    assert part.neurons.tolist() == neurons
    slow = count_core(network, [("a", neurons)], chip, 0)
    assert tuple(vars(part.usage(0)).values()) == tuple(slow)
    assert convolution.bits_at_most(tile) >= (slow.synaptic_bits or 0)
    one_by_one = Window(network, "a", part.neurons, np.zeros(flat.max() + 1, np.int64), chip).part(flat.size)
    assert part.lists.signature.tolist() == one_by_one.lists.signature.tolist()
    axons = _axons_from(convolution, tile.channels[0], (tile.rows, tile.columns), load_chip("loihi1"))
    assert sum(int(count[tile.channels[1]]) for count in axons) == slow.input_axons
    counts = {name: np.zeros(network[name].size, np.int64) for name in ("x", "y")}
    for reach in part.reach:
        reach.add_to(counts[reach.source])
        np.testing.assert_array_equal(np.flatnonzero(counts[reach.source]), reach.neurons())
    assert sum(int(c.sum()) for c in counts.values()) == slow.input_axons

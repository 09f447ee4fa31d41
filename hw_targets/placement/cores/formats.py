"""How many bits a list of synapses takes on a core: dense, sparse and run-length entries, and the cheapest of them.

A list is what one source neuron (input axon) sends to the neurons of a core: n weights at increasing positions, counted
from the first. It is stored as entries of at most k synapses, each behind a header of h bits. With w weight (and
delay) bits, i index bits (i_max the widest) and s skip bits,

    SPARSE      n·(w + i) + entries·h              one entry holds any k synapses; i bits must reach the last position
    RUNLENGTH   n·(w + s) + entries·(h + i_max)    a new entry at every distance of 2^s positions or more
    DENSE       m·w + entries·(h + i_max)          m positions, the zeros between included; a new entry wherever one
                                                   is cheaper than the zeros

plus t bits at the end of the list, rounded up to whole words of memory.
Sources: the entry layouts, k = 60, the new entry at gaps and the tail of 6 bits: NxTF `data_structures.py`
(intel-nrc-ecosystem/models 3dc53bf; its `dense1` opens an entry at any gap, `dense2` at none). The header of 4 + 6 bits
and whole words of 64 bits: nengo-loihi e564f66 `SynapseConfig.bits_per_axon`. Lists with equal weights at equal
offsets are stored once, which is how positions share a convolution kernel: nengo-loihi, same function.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints

Hashes = npt.NDArray[np.uint64]
IMPOSSIBLE = 1 << 40
"""Bits of a list that a format cannot store."""
DELAY_SHIFT = 32
"""The content of a synapse is its weight plus its delay shifted by so much."""
DELAYED = 1 << 31
"""Least content of a synapse with a delay: weights are far smaller."""


class Format(NamedTuple):
    """One synapse format: its encoding and the width of its index (SPARSE) or skip (RUNLENGTH) field."""

    encoding: str
    width: int


class Lists(NamedTuple):
    """The distinct lists of a core: `signature` is a hash of each one's content, `bits` (lists, formats) its cost."""

    signature: Hashes
    bits: Ints

    @property
    def cheapest(self) -> Ints:
        """Bits of each list in its cheapest format."""
        found: Ints = self.bits.min(axis=1)
        return found


def chip_formats(chip: Chip) -> tuple[Format, ...]:
    """Formats the mapper writes: DENSE; SPARSE and RUNLENGTH with their narrowest, middle and widest field.

    Seven on Loihi 1, as many as NxTF keeps per core. Empty where the format of an entry is unpublished.
    """
    if not chip.knows_entry_format:
        return ()
    assert chip.index_bits is not None
    formats = [Format("dense", 0)]
    formats += [Format("sparse", width) for width in _widths(chip.index_bits_min, chip.index_bits)]
    if chip.skip_bits is not None:
        formats += [Format("runlength", width) for width in _widths(chip.skip_bits_min, chip.skip_bits)]
    return tuple(formats)


def _widths(narrowest: int | None, widest: int) -> list[int]:
    low = widest if narrowest is None else narrowest
    return sorted({low, (low + widest) // 2, widest})


def distinct_lists(position: Ints, content: Ints, start: Ints, chip: Chip) -> Lists:
    """Hash and cost of the distinct lists among those that begin at `start` in `position` (ascending in each list).

    `content` is what each synapse stores: its weight, plus its delay shifted by `DELAY_SHIFT`.
    """
    if start.size == 0:
        return Lists(np.zeros(0, np.uint64), np.zeros((0, max(1, len(chip_formats(chip)))), np.int64))
    length = np.diff(np.append(start, position.size))
    offset = position - np.repeat(position[start], length)
    signature: Hashes = np.add.reduceat(mix(offset, content), start)
    signature, first = np.unique(signature, return_index=True)
    begin, length = start[first], length[first]
    starts = np.cumsum(length) - length
    kept = np.repeat(begin - starts, length) + np.arange(int(length.sum()))
    delayed = np.maximum.reduceat(content[kept] >= DELAYED, starts)
    return Lists(signature, list_bits(offset[kept], starts, length, delayed, chip))


def list_bits(offset: Ints, start: Ints, length: Ints, delayed: npt.NDArray[np.bool_], chip: Chip) -> Ints:
    """(lists, formats): bits of each list in each of `chip_formats`, whole words.

    Each synapse of a `delayed` list stores its delay beside its weight (nengo-loihi `bits_per_axon`).

    Where the entry format is unpublished there is one column, the weights alone (a lower bound); zeros where not even
    the weight width is known.
    """
    formats = chip_formats(chip)
    if not formats:
        return (length * ((chip.weight_bits or 0) + delayed * (chip.delay_bits or 0)))[:, None]
    assert chip.weight_bits is not None
    assert chip.index_bits is not None
    assert chip.entry_synapses is not None
    assert chip.entry_header_bits is not None
    i, k, h = chip.index_bits, chip.entry_synapses, chip.entry_header_bits
    w = chip.weight_bits + delayed * (chip.delay_bits or 0)
    distance = np.diff(offset, prepend=0)
    distance[start] = 0
    span = offset[start + length - 1] + 1
    runs = lru_cache(maxsize=None)(lambda reach: _runs(offset, distance, start, reach))
    columns = []
    for encoding, width in formats:
        if encoding == "sparse":
            bits = length * (w + width) + -(-length // k) * h
            bits = np.where((span <= 1 << width) | (width == i), bits, IMPOSSIBLE)
        elif encoding == "runlength":
            held, _, of_list = runs((1 << width) - 1)
            bits = length * (w + width) + np.add.reduceat(-(-held // k), of_list) * (h + i)
        else:
            _, spans, of_list = runs((h + i) // chip.weight_bits + 1)
            bits = np.add.reduceat(spans, of_list) * w + np.add.reduceat(-(-spans // k), of_list) * (h + i)
        columns.append(bits)
    word = chip.word_bits or 1
    # Formats lie one after the other in memory, so that the cheapest of each list is found in long runs.
    whole: Ints = -(-(np.stack(columns) + (chip.list_tail_bits or 0)) // word) * word
    return whole.T


def _runs(offset: Ints, distance: Ints, start: Ints, reach: int) -> tuple[Ints, Ints, Ints]:
    """Synapses of each run, positions it spans, and each list's first run; a distance above `reach` begins one."""
    begins = distance > reach
    begins[start] = True
    first = np.flatnonzero(begins)
    stop = np.append(first[1:], offset.size)
    return stop - first, offset[stop - 1] - offset[first] + 1, np.searchsorted(first, start)


def least_bits_per_synapse(chip: Chip) -> float:
    """Bits per synapse of any list at least: w + (h + i)/k DENSE, w + i + h/k SPARSE, w + s + (h + i)/k RUNLENGTH.

    n synapses fill n/k entries at least; tails, whole words and the zeros of a DENSE entry come on top. Without a known
    entry format w, without a known width 0.
    """
    weight, index = chip.weight_bits or 0, chip.index_bits or 0
    header, held = chip.entry_header_bits or 0, chip.entry_synapses or 1
    costs = [
        weight + width + (header + (0 if encoding == "sparse" else index)) / held
        for encoding, width in chip_formats(chip)
    ]
    return min(costs, default=float(weight))


def fits_slots(bits: Ints, chip: Chip) -> bool:
    """Whether a core has slots for all formats, so that each list is in its cheapest whatever the others."""
    return bits.shape[1] <= (chip.synapse_formats_per_core or bits.shape[1])


def total_bits(bits: Ints, chip: Chip) -> int | None:
    """Bits of distinct lists, each in the cheapest format among the best choice that fills the core's format slots."""
    if chip.weight_bits is None:
        return None
    if fits_slots(bits, chip):
        return int(bits.min(axis=1).sum())
    slots = chip.synapse_formats_per_core or 0
    return min(int(bits[:, list(chosen)].min(axis=1).sum()) for chosen in combinations(range(bits.shape[1]), slots))


def mix(offset: Ints, content: Ints) -> Hashes:
    """64-bit hash of (offset, content); a list's hash is the sum over its synapses, modulo 2^64.

    The finaliser of splitmix64 (Steele et al., OOPSLA 2014): chance of one collision among n lists ≈ n²/2^65.
    """
    z = offset.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z ^= content.astype(np.uint64) * np.uint64(0xD1342543DE82EF95)
    z += np.uint64(0x632BE59BD9B4E019)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))

"""Tiles for convolutions: rows, columns and channels per core, searched layer by layer under exact costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints
from hw_targets.placement.tiles.axis import Axis
from hw_targets.placement.tiles.convolution import Convolution, Tile
from hw_targets.placement.tiles.kernels import Group

ELONGATED = 4
"""Tiles longer than wide by more than this are tried only where they span the image: their sources overlap more."""
EXACT_SHAPES = 3
"""Shapes, of those that look best, whose exact tiles are computed."""
MANY_TILES, FAR = 64, 1.2
"""Cores of a layer from which on shapes are passed over that look so many times worse than the best exact tiles."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pressure:
    """What a tile's input axons cost its source populations, whose cores hold so many output axons.

    `room[name]` is the number of output axons that the cores have which a source's neurons need in any case.
    """

    room: Mapping[str, float]
    per_core: int | None

    def cores(self, axons: Mapping[str, float]) -> float:
        """Cores that the sources need beyond those their neurons fill, if this many axons lead from each."""
        if self.per_core is None:
            return 0.0
        return sum(max(0.0, count - self.room[name]) for name, count in axons.items() if name in self.room) / (
            self.per_core
        )


def best_tiles(
    conv: Convolution, sends: Ints, chip: Chip, pressure: Pressure
) -> tuple[list[Tile], dict[str, float]] | None:
    """Tiles of the fewest cores found, those included that the sources need for their output axons; None if none fit.

    Beside them the input axons that they take from each source, which are counted where axons are limited. `sends[n]`
    is the number of cores neuron n sends to. Shapes are ranked by an estimate (exact in neurons and input axons,
    approximate in memory), and the exact tiles of the best are compared.
    """
    best: tuple[float, tuple[list[Tile], dict[str, float]]] | None = None
    tried = 0
    for estimate, rows, columns in sorted(_estimates(conv, sends, chip, pressure)):
        if tried == EXACT_SHAPES or (best is not None and best[0] > MANY_TILES and estimate > FAR * best[0]):
            break
        found = _exact(conv, rows, columns, sends, chip)
        if found is not None:
            tried, objective = tried + 1, len(found[0]) + pressure.cores(found[1])
            if best is None or objective < best[0]:
                best = objective, found
    return None if best is None else best[1]


def bounds(size: int, pieces: int) -> list[tuple[int, int]]:
    """`size` cut into pieces whose lengths differ by at most one."""
    edges = [size * k // pieces for k in range(pieces + 1)]
    return list(pairwise(edges))


def _pieces(size: int) -> list[int]:
    """Fewest pieces for each possible longest piece."""
    return sorted({-(-size // length) for length in range(1, size + 1)})


def _longest(size: int, pieces: int) -> tuple[int, int]:
    """The longest piece nearest to the middle."""
    found = bounds(size, pieces)
    return max(found, key=lambda b: (b[1] - b[0], -abs(b[0] + b[1] - size)))


def _estimates(conv: Convolution, sends: Ints, chip: Chip, pressure: Pressure) -> Iterator[tuple[float, int, int]]:
    """(cores, pieces of rows, pieces of columns) for every shape worth a look."""
    channels, height, width = conv.shape
    assert chip.neurons_per_core is not None
    first = [conv.next_used(k, 0) for k in range(len(conv.groups))]
    weights = {k: conv.groups[k].taps_up_to() for k in conv.kernels}
    mean_sends = float(sends.mean()) if sends.size else 0.0
    for rows in _pieces(height):
        low, high = _longest(height, rows)
        for columns in _pieces(width):
            left, right = _longest(width, columns)
            tall, wide = high - low, right - left
            area = tall * wide
            slim = max(tall, wide) > ELONGATED * min(tall, wide) and rows > 1 and columns > 1
            if area > chip.neurons_per_core or slim:
                continue
            most = min(channels, chip.neurons_per_core // area)
            if chip.output_axons_per_core is not None and mean_sends > 0:
                most = min(most, int(chip.output_axons_per_core / (mean_sends * area)))
            axes = list(zip(conv.axis(0, low, high), conv.axis(1, left, right), strict=True))
            counts = {k: _axon_counts(first[k], *axes[k], channels) for k in set(conv.undelayed)}
            axons = [counts[k] for k in conv.undelayed]
            if chip.input_axons_per_core is not None:
                together = np.sum(axons, axis=0)[1:]
                most = min(most, int(np.searchsorted(together, chip.input_axons_per_core, side="right")))
            if chip.synaptic_bits_per_core is not None and chip.weight_bits is not None:
                bits = sum(_bits(conv.groups[k], weights[k], first[k], *axes[k], chip) for k in conv.kernels)
                most = min(most, int(np.searchsorted(np.asarray(bits)[1:], chip.synaptic_bits_per_core, side="right")))
            if most < 1:
                if area == 1:
                    yield float(np.prod(conv.shape)), rows, columns
                continue
            tiles = rows * columns * -(-channels // most)
            sent = {
                g.source: float(a[most]) * rows * columns * channels / most
                for g, a in zip(conv.groups, axons, strict=True)
            }
            yield tiles + pressure.cores(sent), rows, columns


def _first_in_class(first: Ints, row: Axis, column: Axis) -> Ints:
    """(row classes, column classes, source channels): least target channel with a weight, from `next_used`."""
    by_row = first[:, row.taps_of_class].min(2)
    found: Ints = by_row[:, :, column.taps_of_class].min(3)
    return np.moveaxis(found, 0, 2)


def _axon_counts(first: Ints, row: Axis, column: Axis, channels: int) -> Ints:
    """(channels + 1,): input axons of a tile that holds the first c target channels from where `first` counts."""
    if not row.classes or not column.classes:
        return np.zeros(channels + 1, np.int64)
    begins = _first_in_class(first, row, column)
    each = np.broadcast_to((row.row_counts[:, None] * column.row_counts)[:, :, None], begins.shape)
    found = np.bincount(begins.reshape(-1), weights=each.reshape(-1), minlength=channels + 1)[:channels]
    return np.concatenate(([0], np.cumsum(found).astype(np.int64)))


def _bits(group: Group, weights: Ints, first: Ints, row: Axis, column: Axis, chip: Chip) -> Floats:
    """(channels + 1,): about how many bits the lists of the first c target channels take; 0 if kernels may be equal."""
    channels = weights.shape[0] - 1
    if group.is_grouped or not row.classes or not column.classes:
        return np.zeros(channels + 1)
    assert chip.weight_bits is not None
    times_row, times_column = row.by_tap(weights.shape[1])[0], column.by_tap(weights.shape[2])[0]
    stored = (weights * (times_row[:, None] * times_column)).sum((1, 2))
    if not chip.knows_entry_format:
        return np.asarray(stored * float(chip.weight_bits))
    density = group.weight.size / max(1, group.shape[0] * channels * weights.shape[1] * weights.shape[2])
    per_synapse = min(chip.weight_bits / max(density, 1e-9), chip.weight_bits + (chip.index_bits_min or 10))
    begins = _first_in_class(first, row, column).reshape(-1)
    lists = np.concatenate(([0], np.cumsum(np.bincount(begins, minlength=channels + 1)[:channels])))
    return np.asarray(stored * per_synapse + lists * ((chip.entry_header_bits or 0) + (chip.word_bits or 0) / 2))


def _exact(
    conv: Convolution, rows: int, columns: int, sends: Ints, chip: Chip
) -> tuple[list[Tile], dict[str, float]] | None:
    """Tiles of a shape, and the input axons they take from each source; None if a single channel does not fit.

    For each kind of position, channels are cut into the longest runs that fit.
    """
    channels, height, width = conv.shape
    kinds: dict[tuple[int, int, int], list[tuple[tuple[int, int], tuple[int, int]]]] = {}
    planes = conv.planes(sends)
    for row in bounds(height, rows):
        for column in bounds(width, columns):
            sent = _bucket(int(planes[:, slice(*row), slice(*column)].sum()), chip)
            kinds.setdefault((sent, conv.kind(0, *row), conv.kind(1, *column)), []).append((row, column))
    tiles: list[Tile] = []
    axons = dict.fromkeys((group.source for group in conv.groups), 0.0)
    guess = 0
    for places in kinds.values():
        sent = np.max([planes[:, slice(*row), slice(*column)].sum((1, 2)) for row, column in places], axis=0)
        begin = 0
        while begin < channels:
            counts = _axons_from(conv, begin, places[0], chip)
            count = _channels_that_fit(conv, begin, places[0], counts, np.cumsum(sent[begin:]), guess, chip)
            if count == 0:
                return None
            tiles += [Tile((begin, begin + count), row, column) for row, column in places]
            for group, taken in zip(conv.groups, counts, strict=False):
                axons[group.source] += float(taken[begin + count]) * len(places)
            begin, guess = begin + count, count
    return tiles, axons


def _bucket(sent: int, chip: Chip) -> int:
    """Places that send about as much are cut alike, where output axons bind at all: to within one part in twelve."""
    limit = chip.output_axons_per_core
    return 0 if limit is None or sent <= limit else round(8 * float(np.log2(sent)))


def _axons_from(
    conv: Convolution, begin: int, place: tuple[tuple[int, int], tuple[int, int]], chip: Chip
) -> list[Ints]:
    """For each group, (channels + 1,): input axons of the channels from `begin` to before each; none if unlimited."""
    if chip.input_axons_per_core is None and chip.output_axons_per_core is None:
        return []
    rows, columns = conv.axis(0, *place[0]), conv.axis(1, *place[1])
    once = set(conv.undelayed)
    counts = {k: _axon_counts(conv.next_used(k, begin), rows[k], columns[k], conv.shape[0]) for k in once}
    return [counts[k] for k in conv.undelayed]


def _channels_that_fit(
    conv: Convolution,
    begin: int,
    place: tuple[tuple[int, int], tuple[int, int]],
    axons: list[Ints],
    sent: Ints,
    guess: int,
    chip: Chip,
) -> int:
    """Channels from `begin` that a tile at a place can hold: as many as its limits allow, to within one in 48."""
    row, column = place
    area = (row[1] - row[0]) * (column[1] - column[0])
    assert chip.neurons_per_core is not None
    most = min(conv.shape[0] - begin, chip.neurons_per_core // area)
    if chip.output_axons_per_core is not None:
        most = min(most, int(np.searchsorted(sent, chip.output_axons_per_core, side="right")))
    if chip.input_axons_per_core is not None and axons:
        allowed = int(np.searchsorted(np.sum(axons, axis=0), chip.input_axons_per_core, side="right")) - 1
        most = min(most, max(0, allowed - begin))
    limit = chip.synaptic_bits_per_core
    if limit is None or chip.weight_bits is None:
        return most
    if conv.bits_at_most(Tile((begin, begin + most), row, column)) <= limit:
        return most

    def used(count: int) -> int:
        return conv.cost(Tile((begin, begin + count), row, column)).synaptic_bits or 0

    return _largest(used, limit, most, min(most, guess) if guess else most)


def _largest(used: Callable[[int], int], limit: int, most: int, guess: int) -> int:
    """The largest count up to `most` that uses no more than `limit`, to within one in 48; 0 if none does.

    `used` grows about evenly with the count, so that each use says about where the limit is.
    """
    fits, fails, probe = 0, most + 1, guess
    while fails - fits > 1 + fits // 48:
        taken = used(probe)
        reached = probe * limit // max(1, taken)
        if taken <= limit:
            # The next one ends the search where it fails.
            fits, reached = probe, min(most, max(reached, probe + 1 + probe // 48))
        else:
            fails = probe
        probe = reached if fits < reached < fails else (fits + fails) // 2
    return fits

"""Linear maps along one axis of a sample: channels, rows or columns chosen, padded, joined, or mixed by a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hw_targets.frontends import signals
from hw_targets.frontends.maps import Floats, Grid, Ints
from hw_targets.frontends.signals import Signal
from hw_targets.frontends.torch.axes import letters
from hw_targets.ir.network import Conv2d


def size(signal: Signal, letter: str) -> int:
    """How long an axis of a sample is."""
    return signal.shape[letters(signal.shape).index(letter)]


def chosen(signal: Signal, letter: str, places: Ints) -> Signal:
    """Places of one axis, in the order given, −1 for one that stays zero."""
    if letter in "CF":
        return signals.chosen(signal, places)
    return mixed(signal, letter, np.where(places[:, None] >= 0, np.eye(size(signal, letter))[places], 0.0))


def mixed(signal: Signal, letter: str, matrix: Floats) -> Signal:
    """One axis multiplied by a matrix (new, old): of channels a 1×1 convolution."""
    if letter == "F":
        return signals.dense(signal, matrix, None)
    if letter == "C":
        return signals.conv(signal, Conv2d(matrix[:, :, None, None]), None, (len(matrix), *signal.shape[1:]))
    return signals.regridded(signal, Grid(rows=matrix) if letter == "H" else Grid(columns=matrix))


def joined(parts: Sequence[Signal | None], sizes: Sequence[int], letter: str) -> Signal:
    """Signals one after the other along an axis; None for one that is zero.

    Raises:
        UnsupportedModel: shapes that differ in more than that.
    """
    starts = np.cumsum([0, *sizes])
    placed = []
    for part, start, length in zip(parts, starts, sizes, strict=False):
        places = np.full(starts[-1], -1, np.int64)
        places[start : start + length] = np.arange(length)
        if part is not None:
            placed.append(chosen(part, letter, places))
    total = placed[0]
    for part in placed[1:]:
        total = signals.add(total, part)
    return total


def padded(signal: Signal, letter: str, before: int, after: int) -> Signal:
    """Zeros on both sides of an axis, or, with negative numbers, less of it."""
    places = np.arange(-before, size(signal, letter) + after)
    return chosen(signal, letter, np.where(places < size(signal, letter), places, -1).clip(-1))

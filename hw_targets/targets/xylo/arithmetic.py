"""Xylo's integers: their widths, and what saturates."""

from __future__ import annotations

from typing import Any

#: Currents, potentials and their sums have 16 bits, and stay at their ends instead of wrapping around.
STATE_BITS = 16
LOW, HIGH = -(1 << (STATE_BITS - 1)), (1 << (STATE_BITS - 1)) - 1
#: Weights have 8 bits, before a shift to the left.
WEIGHT_LOW, WEIGHT_HIGH = -128, 127
#: Spikes that an input channel, a hidden and an output neuron may send in one step.
MOST_INPUT, MOST_HIDDEN, MOST_OUTPUT = 15, 31, 1
#: A threshold of 32768 or more is no 16-bit number: xylosim 0.1.3 refuses it.
LARGEST_THRESHOLD = HIGH
#: The widest shift of a decay that changes anything: beyond, all of a 16-bit number is shifted out.
LARGEST_DASH = STATE_BITS - 1
#: The widest shift of a weight after which it still fits a state.
LARGEST_SHIFT = STATE_BITS - 8

#: An integer array or tensor.
Whole = Any


def saturated(x: Whole) -> Whole:
    """The nearest 16-bit integer."""
    return x.clip(LOW, HIGH)


def decrement(x: Whole, dash: Whole) -> Whole:
    """What a step takes off a state: x >> dash, rounding down; where that is 0, ±1 towards zero.

    A factor of 1 − 2^−dash, but that no state stays away from zero for good. `dash` 0 takes all of it.
    """
    shifted = x >> dash
    return shifted + (shifted == 0) * ((x > 0) * 1 - (x < 0) * 1)

"""Xylo's steps in compiled loops; importing this compiles them, or loads them from numba's cache.

`step.step` is the definition. States have the 16 bits that the chip's have, so that a machine takes 16 or 32 samples at
once. Where a neuron's currents stay within them whatever the order of its terms, as their last values and the largest
terms tell, terms are added four at a time, and the sum is exact. Elsewhere they are added one by one in the chip's
order. numba widens every sum to 64 bits, so that each is narrowed again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from hw_targets.targets.xylo.arithmetic import HIGH, LOW

Array: TypeAlias = npt.NDArray[Any]
#: A whole number of some width.
Whole: TypeAlias = Any
P = ParamSpec("P")
R = TypeVar("R")
i16, i32, i64, u8 = np.int16, np.int32, np.int64, np.uint8
_LONG, _SHORT, _ROWS = numba.int64[::1], numba.int16[::1], numba.int16[:, ::1]
_BYTES, _SENT, _HELD = numba.uint8[::1], numba.uint8[:, :, ::1], numba.int64[:, ::1]
_SYNAPSES = (_LONG, _LONG, _SHORT, _LONG)
_NEURONS = (_SHORT, _SHORT, _SHORT, _SHORT, _LONG, _LONG)
_STATES = (_ROWS, _ROWS, _LONG, _LONG, _BYTES, _BYTES)
SIGNATURE = numba.void(
    *_SYNAPSES, *_SYNAPSES, *_NEURONS, *_STATES, _SENT, _SENT, _SENT, _HELD, numba.int64, numba.int64, numba.int64
)


def _compiled(loop: Callable[P, R], signature: Any = None) -> Callable[P, R]:
    """A loop kept in `__pycache__` or, where that cannot be written, in the user's cache; a quotient raises nothing."""
    try:
        kept: Callable[P, R] = numba.njit(signature, nogil=True, error_model="numpy", cache=True)(loop)
    except (RuntimeError, OSError):  # neither can be written
        kept = numba.njit(signature, nogil=True, error_model="numpy")(loop)
    return kept


@_compiled
def _most(sent: Array, most: Array) -> Whole:
    """The largest of each row of `sent`, written to `most`, and of all."""
    peak: Whole = 0
    for source in range(sent.shape[0]):
        largest = u8(0)
        for n in range(sent.shape[1]):
            largest = max(largest, sent[source, n])
        most[source] = largest
        peak = max(peak, i64(largest))
    return peak


@_compiled
def _within(
    most: Array, sources: Array, weights: Array, k: Whole, end: Whole, low: Whole, high: Whole
) -> tuple[Whole, Whole]:
    """The least and the largest that sums of `low` … `high` may come to on the way through synapses k … end − 1."""
    for m in range(k, end):
        term = i64(weights[m]) * i64(most[sources[m]])
        low, high = low + min(term, 0), high + max(term, 0)
    return low, high


@_compiled
def _add(
    isyn: Array, row: Whole, sent: Array, most: Array, sources: Array, weights: Array, k: Whole, end: Whole
) -> None:
    """isyn[row] += Σ weight·sent over synapses k … end − 1, of which no part leaves 16 bits."""
    while k + 4 <= end:
        a, b, c, d = sources[k], sources[k + 1], sources[k + 2], sources[k + 3]
        if most[a] | most[b] | most[c] | most[d]:
            w, x, y, z = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            for n in range(isyn.shape[1]):
                first = i16(i16(w * i16(sent[a, n])) + i16(x * i16(sent[b, n])))
                second = i16(i16(y * i16(sent[c, n])) + i16(z * i16(sent[d, n])))
                isyn[row, n] = i16(isyn[row, n] + i16(first + second))
        k += 4
    for m in range(k, end):
        source, w = sources[m], weights[m]
        if most[source]:
            for n in range(isyn.shape[1]):
                isyn[row, n] = i16(isyn[row, n] + i16(w * i16(sent[source, n])))


@_compiled
def _add_in_order(
    isyn: Array, row: Whole, sent: Array, most: Array, sources: Array, weights: Array, k: Whole, end: Whole
) -> Whole:
    """isyn[row] ← sat(isyn[row] + weight·sent), synapse by synapse; how often a sum was held in its 16 bits."""
    low, high = i32(LOW), i32(HIGH)
    held: Whole = 0
    while k + 2 <= end:
        a, b, w, x = sources[k], sources[k + 1], weights[k], weights[k + 1]
        if max(abs(i64(w)) * i64(most[a]), abs(i64(x)) * i64(most[b])) > HIGH:
            break
        both = i16(0)
        for n in range(isyn.shape[1]):
            term, other, current = i16(w * i16(sent[a, n])), i16(x * i16(sent[b, n])), isyn[row, n]
            once = i16(min(max(i32(i32(current) + i32(term)), low), high))
            twice = i16(min(max(i32(i32(once) + i32(other)), low), high))
            both = i16(both + i16(once != i16(current + term)) + i16(twice != i16(once + other)))
            isyn[row, n] = twice
        held += i64(both)
        k += 2
    for m in range(k, end):
        source, weight = sources[m], weights[m]
        if abs(i64(weight)) * i64(most[source]) <= HIGH:
            few = i16(0)
            for n in range(isyn.shape[1]):
                term, current = i16(weight * i16(sent[source, n])), isyn[row, n]
                inside = i16(min(max(i32(i32(current) + i32(term)), low), high))
                few = i16(few + i16(inside != i16(current + term)))
                isyn[row, n] = inside
            held += i64(few)
        else:
            many = i32(0)
            for n in range(isyn.shape[1]):
                total = i32(i32(isyn[row, n]) + i32(i32(weight) * i32(sent[source, n])))
                whole = min(max(total, low), high)
                many = i32(many + i32(whole != total))
                isyn[row, n] = i16(whole)
            held += i64(many)
    return held


@_compiled
def _add_checked(
    isyn: Array,
    row: Whole,
    sent: Array,
    most: Array,
    sources: Array,
    weights: Array,
    k: Whole,
    end: Whole,
    low: Whole,
    high: Whole,
) -> tuple[Whole, Whole, Whole]:
    """What comes through synapses k … end − 1 to currents of `low` … `high`: sums held, and how far they may reach."""
    lowest, highest = _within(most, sources, weights, k, end, low, high)
    if lowest >= LOW and highest <= HIGH:
        _add(isyn, row, sent, most, sources, weights, k, end)
        return 0, lowest, highest
    held = _add_in_order(isyn, row, sent, most, sources, weights, k, end)
    return held, max(lowest, LOW), min(highest, HIGH)


@_compiled
def _decay(isyn: Array, neuron: Whole, shift: Whole) -> tuple[Whole, Whole]:
    """isyn[neuron] ← isyn − decrement(isyn); the least and the largest of them."""
    low, high = i16(HIGH), i16(LOW)
    for n in range(isyn.shape[1]):
        x = isyn[neuron, n]
        taken = i16(x >> shift)
        unit = i16(i16(x > 0) - i16(x < 0))
        x = i16(x - (unit if taken == 0 else taken))
        low, high = min(low, x), max(high, x)
        isyn[neuron, n] = x
    return i64(low), i64(high)


@_compiled
def _charge(vmem: Array, isyn: Array, neuron: Whole, shift: Whole, bias: Whole) -> tuple[Whole, Whole]:
    """v ← sat(v + sat(sat(current − decrement(v)) + bias)): sums held, and the largest v.

    For one current, and a shift above 0.
    """
    low, high, held, top = i32(LOW), i32(HIGH), i16(0), i16(LOW)
    for n in range(vmem.shape[1]):
        x, current = vmem[neuron, n], isyn[neuron, n]
        taken = i16(x >> shift)
        unit = i16(i16(x > 0) - i16(x < 0))
        taken = unit if taken == 0 else taken
        one = i16(min(max(i32(i32(current) - i32(taken)), low), high))
        two = i16(min(max(i32(i32(one) + i32(bias)), low), high))
        y = i16(min(max(i32(i32(x) + i32(two)), low), high))
        lost = (one != i16(current - taken)) | (two != i16(one + bias)) | (y != i16(x + two))
        held, top = i16(held + i16(lost)), max(top, y)
        vmem[neuron, n] = y
    return i64(held), i64(top)


@_compiled
def _charge_wide(vmem: Array, isyn: Array, neuron: Whole, shift: Whole, bias: Whole) -> tuple[Whole, Whole]:
    """As `_charge`, with any number of currents, (states·neurons, N), and any shift."""
    low, high = i32(LOW), i32(HIGH)
    held: Whole = 0
    top: Whole = LOW
    for n in range(vmem.shape[1]):
        x, current = i32(vmem[neuron, n]), i32(0)
        for row in range(neuron, isyn.shape[0], vmem.shape[0]):
            current = i32(current + i32(isyn[row, n]))
        taken = i32(x >> shift)
        unit = i32(i32(x > 0) - i32(x < 0))
        taken = unit if taken == 0 else taken
        # All of −32768 taken: it has no negative in 16 bits.
        taken = i32(-taken) if taken == low else taken
        one = i32(current - taken)
        two = i32(min(max(one, low), high) + bias)
        three = i32(x + min(max(two, low), high))
        y = min(max(three, low), high)
        held += i64((one < low) | (one > high) | (two < low) | (two > high) | (y != three))
        top = max(top, i64(y))
        vmem[neuron, n] = i16(y)
    return held, top


@_compiled
def _fire(vmem: Array, spikes: Array, neuron: Whole, level: Whole, top: Whole, most: Whole) -> None:
    """Subtract the threshold from potentials of at most `top`, as often as it is reached, and count in `spikes`."""
    if top < 2 * i64(level) or most == 1:
        for n in range(vmem.shape[1]):
            once = i16(i16(vmem[neuron, n] >= level) & i16(spikes[neuron, n] < most))
            vmem[neuron, n] = i16(vmem[neuron, n] - i16(level * once))
            spikes[neuron, n] = u8(spikes[neuron, n] + u8(once))
        return
    for n in range(vmem.shape[1]):
        # A quotient of 16-bit integers is never rounded up to the next whole number in single precision.
        count = i32(np.float32(max(i32(vmem[neuron, n]), i32(0))) / np.float32(level))
        count = min(count, i32(most - spikes[neuron, n]))
        vmem[neuron, n] = i16(vmem[neuron, n] - i32(i32(level) * count))
        spikes[neuron, n] = u8(spikes[neuron, n] + count)


@partial(_compiled, signature=SIGNATURE)
def advance(
    begins: Array,
    sources: Array,
    weights: Array,
    reaches: Array,
    begins_far: Array,
    sources_far: Array,
    weights_far: Array,
    reaches_far: Array,
    dashes: Array,
    shifts: Array,
    thresholds: Array,
    biases: Array,
    ends: Array,
    aliases: Array,
    isyn: Array,
    vmem: Array,
    lows: Array,
    highs: Array,
    most: Array,
    most_before: Array,
    inputs: Array,
    before: Array,
    spikes: Array,
    held: Array,
    limit: Whole,
    first: Whole,
    last: Whole,
) -> None:
    """Steps first … last − 1 of neurons.

    Arguments are arrays alone, as numba counts references to the parts of a tuple, which costs as much as 50 sums.

    Args:
        begins … most_before: the parts of a `rows.Group`, of which the states are changed in place.
        inputs: (T, inputs, N) uint8.
        before: (T, hidden, N) uint8, spikes of hidden neurons, of which a step hears those of the step before.
        spikes: (T, neurons, N) uint8, 0 in the steps to come, where the neurons' own are written to.
        held: (T, neurons) int64, written to: how often a sum was held in its 16 bits.
        limit: spikes that a neuron sends at most.
        first: the first step.
        last: the one behind the last.
    """
    neurons, one = vmem.shape[0], isyn.shape[0] == vmem.shape[0]
    for t in range(first, last):
        peak, peak_before = _most(inputs[t], most), 0
        if t > 0:
            peak_before = _most(before[t - 1], most_before)
        arriving, past, now, held_now = inputs[t], before[max(t - 1, 0)], spikes[t], held[t]
        for neuron in range(neurons):
            count = 0
            for row in range(neuron, isyn.shape[0], neurons):
                k, end, m, last_m = begins[row], begins[row + 1], begins_far[row], begins_far[row + 1]
                low, high, reach = lows[row], highs[row], peak * reaches[row] + peak_before * reaches_far[row]
                if low - reach >= LOW and high + reach <= HIGH:
                    _add(isyn, row, arriving, most, sources, weights, k, end)
                    _add(isyn, row, past, most_before, sources_far, weights_far, m, last_m)
                else:
                    lost, low, high = _add_checked(isyn, row, arriving, most, sources, weights, k, end, low, high)
                    more, low, high = _add_checked(
                        isyn, row, past, most_before, sources_far, weights_far, m, last_m, low, high
                    )
                    count += lost + more
                lows[row], highs[row] = _decay(isyn, row, dashes[row])
            shift, bias = shifts[neuron], biases[neuron]
            if one and shift > 0:
                lost, top = _charge(vmem, isyn, neuron, shift, bias)
            else:
                lost, top = _charge_wide(vmem, isyn, neuron, shift, bias)
            held_now[neuron] = count + lost
            if top >= thresholds[neuron]:
                _fire(vmem, now, neuron, thresholds[neuron], top, limit)
            for k in range(ends[neuron], ends[neuron + 1]):
                other = aliases[k]
                for n in range(now.shape[1]):
                    now[other, n] = min(u8(now[other, n] + now[neuron, n]), u8(limit))

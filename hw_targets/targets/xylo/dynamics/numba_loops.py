"""Parts of Xylo's step in compiled loops; importing this compiles them, or loads them from numba's cache.

The innermost loops go over samples, so that a machine takes 8 or 16 of them at once; the order of synapses, on which a
sum that saturates depends, stays the chip's. `step` is the definition. numba widens every sum of 32 bits to 64, so that
each is narrowed again.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from hw_targets.targets.xylo.arithmetic import HIGH, LOW

Array: TypeAlias = npt.NDArray[Any]

_ROWS, _MANY, _FEW = numba.int32[:, ::1], numba.int32[::1], numba.int64[::1]


@numba.njit(numba.void(_ROWS, _ROWS, _FEW, _MANY, _MANY, _FEW), nogil=True, cache=True)
def receive(isyn: Array, sent: Array, begins: Array, targets: Array, weights: Array, held: Array) -> None:
    """isyn ← sat(isyn + weight·sent) synapse by synapse, in the order of their sources.

    Args:
        isyn: (targets, N), changed in place.
        sent: (sources, N) spikes.
        begins: (sources + 1,), where the synapses of a source begin.
        targets: (synapses,).
        weights: (synapses,), shifted.
        held: (targets,), to which is added how often a sum was held in its 16 bits.
    """
    low, high = np.int32(LOW), np.int32(HIGH)
    for source in range(sent.shape[0]):
        row = sent[source]
        if not row.any():
            continue
        for k in range(begins[source], begins[source + 1]):
            current, weight, outside = isyn[targets[k]], weights[k], np.int32(0)
            for n in range(row.shape[0]):
                total = np.int32(current[n] + np.int32(weight * row[n]))
                inside = min(max(total, low), high)
                outside = np.int32(outside + np.int32(inside != total))
                current[n] = inside
            held[targets[k]] += outside


@numba.njit(numba.void(_ROWS, _MANY), nogil=True, cache=True)
def decay(isyn: Array, dash: Array) -> None:
    """isyn (neurons, N) ← isyn − decrement(isyn), in place; `dash` is (neurons,)."""
    for neuron in range(isyn.shape[0]):
        current, shift = isyn[neuron], dash[neuron]
        for n in range(current.shape[0]):
            x = current[n]
            taken = np.int32(x >> shift)
            unit = np.int32(np.int32(x > 0) - np.int32(x < 0))
            current[n] = np.int32(x - (unit if taken == 0 else taken))


@numba.njit(numba.void(_ROWS, _ROWS, _MANY, _MANY, _FEW), nogil=True, cache=True)
def charge(vmem: Array, current: Array, bias: Array, dash: Array, held: Array) -> None:
    """v ← sat(v + sat(sat(current − decrement(v)) + bias)), in place; arguments as in `receive` and `decay`."""
    low, high = np.int32(LOW), np.int32(HIGH)
    for neuron in range(vmem.shape[0]):
        v, arriving, shift, constant = vmem[neuron], current[neuron], dash[neuron], bias[neuron]
        outside = np.int32(0)
        for n in range(v.shape[0]):
            x = v[n]
            taken = np.int32(x >> shift)
            unit = np.int32(np.int32(x > 0) - np.int32(x < 0))
            taken = unit if taken == 0 else taken
            taken = np.int32(-taken) if taken == low else taken
            one = np.int32(arriving[n] - taken)
            two = np.int32(min(max(one, low), high) + constant)
            three = np.int32(x + min(max(two, low), high))
            y = min(max(three, low), high)
            lost = (one < low) | (one > high) | (two < low) | (two > high) | (y != three)
            outside = np.int32(outside + np.int32(lost))
            v[n] = y
        held[neuron] += outside


@numba.njit(numba.void(_ROWS, _MANY, numba.int32, _FEW, _MANY, _ROWS), nogil=True, cache=True)
def fire(vmem: Array, threshold: Array, most: int, begins: Array, aliases: Array, spikes: Array) -> None:
    """Subtract the threshold from `vmem` as often as it is reached, and count in `spikes`, which are 0 before.

    `begins` and `aliases` say, as of synapses in `receive`, which neurons each one's spikes are added to.
    """
    limit = np.int32(most)
    for neuron in range(vmem.shape[0]):
        v, sent, level = vmem[neuron], spikes[neuron], threshold[neuron]
        for n in range(v.shape[0]):
            # A quotient of 16-bit integers is never rounded up to the next whole number in single precision.
            count = np.int32(np.float32(max(v[n], np.int32(0))) / np.float32(level))
            count = min(count, np.int32(limit - sent[n]))
            v[n] = np.int32(v[n] - np.int32(level * count))
            sent[n] = np.int32(sent[n] + count)
        for k in range(begins[neuron], begins[neuron + 1]):
            other = spikes[aliases[k]]
            for n in range(sent.shape[0]):
                other[n] = min(np.int32(other[n] + sent[n]), limit)

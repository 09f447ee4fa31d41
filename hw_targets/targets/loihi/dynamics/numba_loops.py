"""Loihi's integer neurons in compiled loops; importing this compiles them, or loads them from numba's cache.

u ← wrap(rz(u·k_u) + 64·a);  v ← clip(rz(v·k_v) + u + bias);  s = [v > threshold];  v ← 0 where s.
rz rounds toward zero: a product of 24 bits and a share in whole 4096ths is exact in float64. As in lava-nc 0.10.0
(`proc/lif/models.py`) a u beyond 2^23 has 2^24 subtracted (added at or below −2^23), and v is held at ±(2^23 − 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from hw_targets.targets.loihi.arithmetic import FRACTION_BITS, LIMIT

Array: TypeAlias = npt.NDArray[Any]
Loop: TypeAlias = Callable[..., bool]

#: Neurons stepped together: their states, 16 bytes each, stay in a first-level cache.
BLOCK = 1024
#: Currents from here on make more wrap than u, in units of the weights.
WIDE = 2 * LIMIT >> FRACTION_BITS
SIGNATURE = numba.boolean(
    numba.types.Array(numba.float32, 3, "C", readonly=True),
    numba.int32[::1],
    numba.uint8[::1],
    numba.float64,
    numba.float64,
    numba.int32,
    numba.uint8[:, :, ::1],
    numba.int64[::1],
    numba.uint8[::1],
    numba.uint8[::1],
)


@numba.njit(nogil=True)
def _step(
    a: Array, bias: Array, keep_u: float, keep_v: float, threshold: int, before: Array, after: Array, fired: Array
) -> np.bool_:
    """One step of some neurons, states (u, v) before and after it. True if one left its range; all is wrong then."""
    lost = np.int32(0)
    for i in range(len(a)):
        u = np.int32(np.int32(before[0, i] * keep_u) + (np.int32(a[i]) << FRACTION_BITS))
        v = np.int32(np.int32(before[1, i] * keep_v) + u + bias[i])
        lost |= np.int32(u > LIMIT) | np.int32(u <= -LIMIT) | np.int32(v >= LIMIT) | np.int32(v <= -LIMIT)
        fires = v > threshold
        after[0, i] = u
        after[1, i] = np.int32(0) if fires else v
        fired[i] = fires
    return np.bool_(lost != 0)


@numba.njit(nogil=True)
def _step_beyond(
    a: Array,
    bias: Array,
    keep_u: float,
    keep_v: float,
    threshold: int,
    before: Array,
    after: Array,
    fired: Array,
    neurons: Array,
) -> tuple[np.int32, np.int32, np.int32]:
    """One step wherever states go: (wraps, clips, currents that are too wide); marks the neurons of the first two."""
    wraps, clips, wide = np.int32(0), np.int32(0), np.int32(0)
    for i in range(len(a)):
        wide += np.int32(abs(a[i]) >= WIDE)
        u = np.int32(np.int32(before[0, i] * keep_u) + (np.int32(a[i]) << FRACTION_BITS))
        over, under = np.int32(u > LIMIT), np.int32(u <= -LIMIT)
        u = np.int32(u + 2 * LIMIT * (under - over))
        total = np.int32(np.int32(before[1, i] * keep_v) + u + bias[i])
        v = min(max(total, np.int32(1 - LIMIT)), np.int32(LIMIT - 1))
        clipped = np.int32(total != v)
        wraps += over | under
        clips += clipped
        neurons[i] |= np.uint8(over | under | clipped)
        fires = v > threshold
        after[0, i] = u
        after[1, i] = np.int32(0) if fires else v
        fired[i] = fires
    return wraps, clips, wide


def _kept_if_possible(loop: Loop) -> Loop:
    """A loop compiled for SIGNATURE, kept in `__pycache__` or, where that cannot be written, in the user's cache."""
    try:
        kept: Loop = numba.njit(SIGNATURE, nogil=True, cache=True)(loop)
    except (RuntimeError, OSError):  # neither can be written
        kept = numba.njit(SIGNATURE, nogil=True)(loop)
    return kept


@_kept_if_possible
def run_all_steps(
    current: Array,
    bias: Array,
    resets: Array,
    keep_u: float,
    keep_v: float,
    threshold: int,
    spikes: Array,
    losses: Array,
    neurons: Array,
    steps: Array,
) -> bool:
    """All steps of all samples.

    Args:
        current: (T, N, neurons), or (1, N, neurons) where it is the same in every step; whole numbers below 2^24.
        bias: (neurons,), in the unit of v, below 2^28.
        resets: (T,), 1 where a step begins with cleared states.
        keep_u: k_u, the share that a step leaves of u.
        keep_v: k_v, likewise.
        threshold: in the unit of v.
        spikes: (T, N, neurons), to be filled.
        losses: (2,), to which the numbers of wraps and clips are added.
        neurons: (neurons,), set to 1 where there were any.
        steps: (T,), likewise.

    Returns:
        False where a current makes more wrap than u: what was filled is worthless then.
    """
    states = np.empty((2, 2, BLOCK), np.int32)
    for n in range(spikes.shape[1]):
        for first in range(0, spikes.shape[2], BLOCK):
            end = min(first + BLOCK, spikes.shape[2])
            own = bias[first:end]
            for step in range(spikes.shape[0]):
                before, after = states[step % 2], states[1 - step % 2]
                if step == 0 or resets[step]:
                    before[:, : end - first] = 0
                a = current[min(step, len(current) - 1), n, first:end]
                fired = spikes[step, n, first:end]
                if _step(a, own, keep_u, keep_v, threshold, before, after, fired):
                    wraps, clips, wide = _step_beyond(
                        a, own, keep_u, keep_v, threshold, before, after, fired, neurons[first:end]
                    )
                    if wide:
                        return False
                    losses[0] += wraps
                    losses[1] += clips
                    steps[step] = 1
    return True

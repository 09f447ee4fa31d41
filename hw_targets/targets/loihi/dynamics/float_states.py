"""Loihi's integer neurons on a CPU in floating point: as exact as in integers, and many times faster.

For small runs, and where there is no compiled loop (`compiled`).

Without a leak all states are whole multiples of 64, so that float32 holds v / 64. With one, |v|·(4096 − decay) < 2^36
is exact in float64, and so is its whole part. Where no sum can leave 24 bits, nobody looks whether one did. NumPy
compares and finds extremes several times faster than torch; torch's threshold is as much faster than a mask.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw_targets.ir.dynamics import Losses
from hw_targets.targets.loihi.arithmetic import UNITY, Cuba

Array = npt.NDArray[Any]
#: Neurons stepped together: what is held of them, 24 bytes each, stays in a second-level cache.
BLOCK = 1 << 15


def run_fast(
    neuron: Cuba,
    current: Tensor,
    bias: Tensor,
    resets: Collection[int],
    losses: Losses,
    *,
    kept: tuple[int, int],
    largest: float,
    limit: int,
) -> Tensor | None:
    """Spikes (T, N, *shape) in uint8; None if a current of 2·limit or more makes more wrap than u.

    Args:
        neuron: all of the population's.
        current: (T, N, *shape) whole numbers on a CPU; a stride of 0 over T says that it is the same in every step.
        bias: of one neuron step, broadcast over the samples.
        resets: steps that begin with cleared states.
        losses: takes note of states that left their range.
        kept: 4096ths of u and of v that a step leaves.
        largest: no |current| exceeds it.
        limit: of u and v, 2^23.
    """
    if not current.numel():
        return torch.zeros(current.shape, dtype=torch.uint8)
    a, own, inside = current.numpy(), _most(bias.numpy()), (limit - 1) / 64
    watched = _reach(kept, largest, own, len(a)) > inside
    if watched:
        largest = _most(a if a.strides[0] else a[:1])
        watched = _reach(kept, largest, own, len(a)) > inside
    if largest >= 2 * limit / 64:
        return None
    spikes = _empty(current)
    fired, full = spikes.numpy(), np.empty_like(a[0, :1], np.float64)
    full[...] = bias.numpy()
    samples = max(1, BLOCK // full.size)
    for first in range(0, a.shape[1], samples):
        block = slice(first, first + samples)
        states = _States(neuron.v_threshold, kept, full if own else None, limit if watched else None, losses)
        states.run(a[:, block], resets, fired[:, block])
    return spikes


def _most(values: Array) -> float:
    return max(-float(values.min()), float(values.max()))


def _reach(kept: tuple[int, int], largest: float, bias: float, steps: int) -> float:
    """What |u| and |v| cannot exceed: Σ of all that arrives or, where k/4096 are kept, 4096/(4096 − k) the largest."""
    u, v = (steps if k >= UNITY else min(steps, UNITY / (UNITY - k)) for k in kept)
    return max(largest * u, (largest * u + bias) * v)


def _empty(current: Tensor) -> Tensor:
    """Bytes of the shape (T, N, *shape), channels last where the current has them last."""
    steps, samples, *shape = current.shape
    if len(shape) == 3 and shape[0] > 1 and current[0].is_contiguous(memory_format=torch.channels_last):
        channels, height, width = shape
        return torch.empty(steps, samples, height, width, channels, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    return torch.empty(current.shape, dtype=torch.uint8)


class _States:
    """Neurons of some samples.

    u ← wrap(rz(u·k_u/4096) + a);  w ← clip(rz(w·k_v/4096) − u − bias);  s = [w < −threshold];  w ← 0 where s, rz
    rounding toward zero. w is −v: torch has a fast kernel for "w if above a threshold, else 0", none for the inverse.
    """

    def __init__(
        self, threshold: int, kept: tuple[int, int], bias: Array | None, limit: int | None, losses: Losses
    ) -> None:
        """`bias` has the shape and order in memory of one sample; `limit` is None where no state can reach it."""
        whole = limit is None and all(k in (0, UNITY) for k in kept)
        self.unit = 1.0 if whole else 64.0
        self.dtype: npt.DTypeLike = np.float32 if whole else np.float64
        self.keep_u, self.keep_v = (k / UNITY for k in kept)
        self.threshold, self.limit, self.losses = threshold * self.unit, limit, losses
        self.bias = None if bias is None else (bias * self.unit).astype(self.dtype)
        self.u: Array | None = None
        self.w: Array | None = None

    def run(self, current: Array, resets: Collection[int], spikes: Array) -> None:
        """Fill `spikes`."""
        fired, same = spikes.view(np.bool_), current.strides[0] == 0 and self.keep_u == 0
        charge: Array | None = None
        wrapped: Array | None = None
        for step, a in enumerate(current):
            if step in resets:
                self.u = self.w = None
            if charge is None or not same:
                charge, wrapped = self._charge(a, charge)
            w = self._integrate(charge)
            clipped = None if self.limit is None else _clip(w, self.limit)
            if wrapped is not None or clipped is not None:
                self.losses.note(step, wrapped, clipped)
            np.less(w, -self.threshold, out=fired[step])
            # All are whole numbers, so that half of one lies between.
            torch.threshold_(torch.from_numpy(w), -self.threshold - 0.5, 0.0)

    def _charge(self, a: Array, out: Array | None) -> tuple[Array, Array | None]:
        """(u + bias, where u wrapped) after a step's current; `out` is overwritten if given."""
        if self.unit == 1.0 and a.dtype == self.dtype and self.keep_u == 0:
            return (a if self.bias is None else np.add(a, self.bias, out=out)), None
        charge = np.empty_like(a, self.dtype) if out is None else out
        np.copyto(charge, a, casting="same_kind")
        charge *= self.unit
        if self.keep_u:
            charge += 0.0 if self.u is None else _kept(self.u, self.keep_u)
        wrapped = None if self.limit is None else _wrap(charge, self.limit)
        if self.keep_u:
            self.u = charge.copy("K")
        if self.bias is not None:
            charge += self.bias
        return charge, wrapped

    def _integrate(self, charge: Array) -> Array:
        """w after a step's charge, before it is clipped."""
        if self.w is None or self.keep_v == 0:
            self.w = np.negative(charge, out=self.w)
        else:
            np.subtract(_kept(self.w, self.keep_v), charge, out=self.w)
        return self.w


def _wrap(u: Array, limit: int) -> Array | None:
    """Currents beyond 2^23 less 2^24, and vice versa, in place; where, if anywhere."""
    if u.max() <= limit and u.min() > -limit:
        return None
    over, under = u > limit, u <= -limit
    u -= 2.0 * limit * over
    u += 2.0 * limit * under
    wrapped: Array = over | under
    return wrapped


def _clip(w: Array, limit: int) -> Array | None:
    """−v held at ±(2^23 − 1), in place; where, if anywhere."""
    clipped: Array | None = None
    if w.max() >= limit:
        clipped = w >= limit
        np.minimum(w, limit - 1, out=w)
    if w.min() <= -limit:
        clipped = (w <= -limit) if clipped is None else clipped | (w <= -limit)
        np.maximum(w, 1 - limit, out=w)
    return clipped


def _kept(state: Array, share: float) -> Array:
    """sign(x)·⌊|x|·share⌋ in place, for float64 that hold whole numbers below 2^24 and a share in 4096ths."""
    if share != 1.0:
        state *= share
        np.trunc(state, out=state)
    return state

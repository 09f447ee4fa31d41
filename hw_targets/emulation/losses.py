"""How often states left their range, gathered over blocks of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.ir.activity import Overflow

Array = npt.NDArray[Any]


class Losses:
    """What a population's states lost, over all of its samples."""

    def __init__(self) -> None:
        self._wraps = self._clips = 0
        self._neurons: Array | None = None
        self._steps: set[int] = set()

    def note(self, step: int, wrapped: Array | None, clipped: Array | None) -> None:
        """Where, (N, *shape), currents wrapped and potentials were clipped in a step; None is nowhere."""
        for where in (wrapped, clipped):
            if where is not None and where.any():
                self._steps.add(step)
                neurons = where.any(0)
                self._neurons = neurons if self._neurons is None else self._neurons | neurons
        self._wraps += 0 if wrapped is None else int(np.count_nonzero(wrapped))
        self._clips += 0 if clipped is None else int(np.count_nonzero(clipped))

    def add(self, counts: Array, neurons: Array, steps: Array) -> None:
        """(wraps, clips) counted elsewhere, and where neurons, *shape, and steps, (T,), had any."""
        found = neurons.astype(np.bool_)
        self._wraps, self._clips = self._wraps + int(counts[0]), self._clips + int(counts[1])
        self._neurons = found if self._neurons is None else self._neurons | found
        self._steps.update(np.flatnonzero(steps).tolist())

    def overflow(self) -> Overflow:
        """What was lost so far."""
        neurons = 0 if self._neurons is None else int(np.count_nonzero(self._neurons))
        return Overflow(self._wraps, self._clips, neurons, len(self._steps))

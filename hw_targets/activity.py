"""What an emulated network did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False, repr=False)
class Activity:
    """Spikes of every population for a batch of samples, time aligned (step t of a layer answers step t of the input).

    `spikes[name]` is (T, N, C, H, W) or (T, N, F): what each neuron sent in each step. It holds 0/1 for neurons and the
    graded values for a `GradedInput`; an `Accumulator` sends nothing and is absent.
    `output` is (N, F): the accumulators' final integers, or the output neurons' spike counts.
    `overflows[name]` counts the 24-bit wraps and clips that occurred; 0 everywhere means the integers were exact.
    """

    spikes: Mapping[str, npt.NDArray[np.integer[Any]]]
    output: npt.NDArray[np.int64]
    overflows: Mapping[str, int]

    def __repr__(self) -> str:
        return f"Activity({self.samples} samples, {self.time_steps} steps, {len(self.spikes)} populations)"

    @property
    def time_steps(self) -> int:
        """T, steps per sample."""
        return int(next(iter(self.spikes.values())).shape[0])

    @property
    def samples(self) -> int:
        """N, samples in the batch."""
        return int(next(iter(self.spikes.values())).shape[1])

"""What an emulated network did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Overflow:
    """How often the states of a population left their range; counts over all steps and samples.

    `wraps`: neuron-steps whose current wrapped around 24 bits. `clips`: neuron-steps whose potential was held at
    ±(2^23 − 1). `neurons`: distinct neurons concerned. `steps`: distinct steps concerned, in any sample.
    """

    wraps: int
    clips: int
    neurons: int
    steps: int


@dataclass(frozen=True, eq=False, repr=False)
class Activity:
    """Spikes of every population for a batch of samples, time aligned (step t of a layer answers step t of the input).

    `spikes[name]` is (T, N, C, H, W) or (T, N, F): what each neuron sent in each step. It holds 0/1 for neurons and the
    graded values for a `GradedInput`; an `Accumulator` sends nothing and is absent.
    `output` is (N, F): the accumulators' final integers, or the output neurons' spike counts.
    `overflows[name]` counts the 24-bit wraps and clips that occurred; 0 everywhere means the integers were exact.
    `out_of_range[name]` says more about them, for the populations where there were any.
    `lead_in[name]`, of netx timing only, is (d, *shape): what a population sent in the d chip steps before the first
    input reached it.
    """

    spikes: Mapping[str, npt.NDArray[np.integer[Any]]]
    output: npt.NDArray[np.int64]
    overflows: Mapping[str, int]
    out_of_range: Mapping[str, Overflow] = field(default_factory=dict)
    lead_in: Mapping[str, npt.NDArray[np.integer[Any]]] = field(default_factory=dict)

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

    def chip_steps(self, name: str) -> npt.NDArray[np.integer[Any]]:
        """Spikes of a population step by step, samples one after the other: (d + N·T, *shape), `lead_in` first."""
        sent = self.spikes[name]
        in_a_row = sent.swapaxes(0, 1).reshape(-1, *sent.shape[2:])
        return np.concatenate([self.lead_in[name], in_a_row]) if name in self.lead_in else in_a_row

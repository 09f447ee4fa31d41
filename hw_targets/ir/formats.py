"""How wide a chip's integers are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NumberFormats:
    """Largest integers, in the weights' unit: of a weight (±), bias (±) and threshold; states stay below `state`.

    A decay is a whole number of `decay_step` in 1/`decay_unity`.
    """

    weight: int
    bias: int
    threshold: int
    state: int
    decay_step: int
    decay_unity: int

    def decay(self, value: float) -> int:
        """A decay in 1/`decay_unity`, rounded to what the chip can hold."""
        return round(value * self.decay_unity / self.decay_step) * self.decay_step

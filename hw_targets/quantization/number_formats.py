"""How wide a chip's integers are.

Widths come from the chip. What a chip leaves out, and what it states beyond them, is bounded by the neuron that
`CubaLIF` describes and `emulate` runs: lava-nc 0.10.0 `proc/lif/models.py` (24-bit states, of which 6 lie below the
weights' unit; 17-bit thresholds; 13-bit biases; decays in 1/4096). netx always shifts biases by 6 bits onto the
weights' unit, so the mantissa's bits are all there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_targets.chips.chip import Chip
from hw_targets.errors import QuantizationError

STATE_BITS, FRACTION_BITS, THRESHOLD_BITS, BIAS_BITS, DECAY_BITS = 24, 6, 17, 13, 12
#: `CubaLIF` counts decays in 1/4096.
DECAY_UNITY = 1 << DECAY_BITS


@dataclass(frozen=True)
class NumberFormats:
    """Largest integers, in the weights' unit: of a weight (±), bias (±) and threshold; states stay below `state`.

    `decay_step` is the finest step of a decay, in 1/4096.
    """

    weight: int
    bias: int
    threshold: int
    state: int
    decay_step: int

    def decay(self, value: float) -> int:
        """A decay in 1/4096, rounded to what the chip can hold."""
        return round(value * DECAY_UNITY / self.decay_step) * self.decay_step


def number_formats(chip: Chip) -> NumberFormats:
    """A chip's integer ranges.

    Raises:
        QuantizationError: the chip does not say how wide a weight is, or its widths leave no room for any value.
    """
    if chip.weight_bits is None:
        raise QuantizationError(
            f"quantize: nobody published how many bits a weight of {chip.name} has, so that it is for `fit` alone; add"
            " weight_bits to its file if you know"
        )
    widths = {
        "weight_bits": (chip.weight_bits, chip.weight_bits, 2),
        "bias_mantissa_bits": (chip.bias_mantissa_bits, BIAS_BITS, 2),
        "threshold_mantissa_bits": (chip.threshold_mantissa_bits, THRESHOLD_BITS, 1),
        "state_bits": (chip.state_bits, STATE_BITS, FRACTION_BITS + 2),
        "decay_bits": (chip.decay_bits, DECAY_BITS, 1),
    }
    bits = {key: most if stated is None else min(stated, most) for key, (stated, most, _) in widths.items()}
    for key, (_, _, least) in widths.items():
        if bits[key] < least:
            raise QuantizationError(f"quantize: {chip.name} has {key} {bits[key]}; integers need at least {least}")
    return NumberFormats(
        weight=(1 << (bits["weight_bits"] - 1)) - 1,
        bias=(1 << (bits["bias_mantissa_bits"] - 1)) - 1,
        threshold=(1 << bits["threshold_mantissa_bits"]) - 1,
        state=1 << (bits["state_bits"] - 1 - FRACTION_BITS),
        decay_step=1 << (DECAY_BITS - bits["decay_bits"]),
    )

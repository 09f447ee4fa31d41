"""How wide the integers of a Loihi-like chip are.

All widths come from the chip's file. What it states beyond them is bounded by the neuron that `CubaLIF` describes
and Lava runs: lava-nc 0.10.0 `proc/lif/models.py` (24-bit states, of which 6 lie below the weights' unit; 17-bit
thresholds; 13-bit biases; decays in 1/4096). netx always shifts biases by 6 bits onto the weights' unit, so the
mantissa's bits are all there are.
"""

from __future__ import annotations

from hw_targets.chips.chip import Chip
from hw_targets.chips.widths import stated
from hw_targets.errors import QuantizationError
from hw_targets.ir.formats import NumberFormats
from hw_targets.targets.loihi.arithmetic import DECAY_BITS, FRACTION_BITS, STATE_BITS, UNITY

#: By fact: the most bits that count, and the fewest with which there is any value.
WIDTHS = {
    "weight_bits": (STATE_BITS - FRACTION_BITS - 1, 2),
    "bias_mantissa_bits": (13, 2),
    "threshold_mantissa_bits": (17, 1),
    "state_bits": (STATE_BITS, FRACTION_BITS + 2),
    "decay_bits": (DECAY_BITS, 1),
}


def number_formats(chip: Chip) -> NumberFormats:
    """A chip's integer ranges.

    Raises:
        QuantizationError: the chip does not say how wide its integers are, or its widths leave no room for any value.
    """
    found = stated(chip, WIDTHS)
    bits = {key: min(found[key], most) for key, (most, _) in WIDTHS.items()}
    for key, (_, least) in WIDTHS.items():
        if bits[key] < least:
            raise QuantizationError(f"quantize: {chip.name} has {key} {bits[key]}; integers need at least {least}")
    return NumberFormats(
        weight=(1 << (bits["weight_bits"] - 1)) - 1,
        bias=(1 << (bits["bias_mantissa_bits"] - 1)) - 1,
        threshold=(1 << bits["threshold_mantissa_bits"]) - 1,
        state=1 << (bits["state_bits"] - 1 - FRACTION_BITS),
        decay_step=1 << (DECAY_BITS - bits["decay_bits"]),
        decay_unity=UNITY,
    )

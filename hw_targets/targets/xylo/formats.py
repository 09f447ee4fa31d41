"""How wide the integers of a Xylo chip are."""

from __future__ import annotations

from hw_targets.chips.chip import Chip
from hw_targets.chips.widths import check_widths
from hw_targets.ir.formats import NumberFormats
from hw_targets.targets.xylo.arithmetic import HIGH, LARGEST_DASH, LARGEST_THRESHOLD, STATE_BITS, WEIGHT_HIGH

#: The widths that xylosim's neurons have.
WIDTHS = {"weight_bits": 8, "state_bits": STATE_BITS}


def number_formats(chip: Chip) -> NumberFormats:
    """A chip's integer ranges; decays are powers of two.

    Raises:
        QuantizationError: the chip does not say how wide its integers are, or has others than xylosim.
    """
    check_widths(chip, WIDTHS, "Xylo's")
    return NumberFormats(
        weight=WEIGHT_HIGH,
        bias=HIGH,
        threshold=LARGEST_THRESHOLD,
        state=HIGH + 1,
        decay_step=1,
        decay_unity=1 << LARGEST_DASH,
    )

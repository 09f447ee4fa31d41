"""How wide the integers of DYNAP-CNN are."""

from __future__ import annotations

from hw_targets.chips.chip import Chip
from hw_targets.chips.widths import check_widths
from hw_targets.ir.formats import NumberFormats
from hw_targets.targets.dynapcnn.arithmetic import STATE_BITS, STATE_HIGH, WEIGHT_BITS, WEIGHT_HIGH

#: The widths that sinabs' layers have.
WIDTHS = {"weight_bits": WEIGHT_BITS, "state_bits": STATE_BITS}


def number_formats(chip: Chip) -> NumberFormats:
    """A chip's integer ranges; there are no decays.

    Raises:
        QuantizationError: the chip does not say how wide its integers are, or has others than sinabs.
    """
    check_widths(chip, WIDTHS, "DYNAP-CNN's")
    return NumberFormats(
        weight=WEIGHT_HIGH,
        bias=WEIGHT_HIGH,
        threshold=STATE_HIGH,
        state=STATE_HIGH + 1,
        decay_step=1,
        decay_unity=1,
    )

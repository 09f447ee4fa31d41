"""What Lava makes of a dense layer's weights between the file and the neuron.

lava-dl 0.6.0 `netx/utils.py` (`optimize_weight_bits`) shifts a matrix left until it fills Loihi's 8 bits and records a
negative exponent; lava-nc 0.10.0 (`proc/dense/models.py`, `utils/weightutils.py`) clips it, cuts low bits, and shifts
each step's sum back. For the weights a chip can store all of that cancels out. Convolutions pass through none of it
(`proc/conv/models.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw_targets.errors import QuantizationError

Integers = npt.NDArray[np.int64]

#: Bits of Loihi's weights.
WEIGHT_BITS = 8


@dataclass(frozen=True)
class StoredWeights:
    """A matrix as Lava stores it: each step's sum of `mantissa` times spikes is shifted right by `shift`."""

    mantissa: Integers
    shift: int

    @property
    def effective(self) -> Integers:
        """The weights that give the same currents.

        Raises:
            QuantizationError: half weights, which Lava rounds only after it has summed.
        """
        if (self.mantissa & ((1 << self.shift) - 1)).any():
            raise QuantizationError(
                f"Lava would clip {int(self.mantissa.min())} and then halve sums of weights, which no integer weights"
                " do; avoid a matrix without positive weights whose smallest is −128, −64, −32 …"
            )
        return self.mantissa >> self.shift


def stored_by_netx(*parts: Integers) -> tuple[StoredWeights, ...]:
    """A dense layer's matrix (or its matrix and its recurrent one) as Lava stores it.

    The matrices share one shift and one number of bits, and have each a sign mode of their own. With m the largest and
    −n the smallest weight, the shift is s = ⌊log2 min(127/m, 128/n)⌋ + 1 where there are both signs (n > 0, m ≥ 0),
    ⌊log2 256/n⌋ where all are negative, and ⌊log2 255/m⌋ otherwise.

    Raises:
        QuantizationError: all weights zero, or beyond what the loader can shift.
    """
    whole = np.concatenate([part.ravel() for part in parts])
    if not whole.any():
        raise QuantizationError(f"all {whole.size} weights of the dense layer are zero: the loader divides by them")
    low, high = int(whole.min()), int(whole.max())
    if (high > 254 and low < 0) or (low < -256 and high > 0):
        parts = tuple(np.clip(part, -256, 254) for part in parts)
        whole = np.clip(whole, -256, 254)
        low, high = int(whole.min()), int(whole.max())
    shift = _left_shift(low, high)
    if shift < 0:
        raise QuantizationError(
            f"weights span {low} … {high}, beyond the 8 bits (0 … 255, or -256 … 0) that the loader can shift"
        )
    cut = shift + _trailing_zeros(whole)
    mixed = low < 0 <= high
    return tuple(StoredWeights(_clipped_and_cut(part << shift, cut, mixed_bits=mixed), shift) for part in parts)


def _left_shift(low: int, high: int) -> int:
    """Places a matrix is shifted left: the largest power of two that keeps it in its sign mode's range."""
    if high < 0:
        return _log2_floor(256, -low)
    if low >= 0:
        return _log2_floor(255, high)
    scales = [_log2_floor(128, -low)] + ([_log2_floor(127, high)] if high else [])
    return min(scales) + 1


def _log2_floor(numerator: int, denominator: int) -> int:
    """⌊log2(numerator / denominator)⌋, exactly."""
    power = 0
    while denominator << (power + 1) <= numerator:
        power += 1
    while power <= 0 and denominator > numerator << -power:
        power -= 1
    return power


def _trailing_zeros(weights: Integers) -> int:
    """Low bits that are zero in all weights, at most 8."""
    ones = int(np.bitwise_or.reduce(weights & 0xFF))
    return WEIGHT_BITS if ones == 0 else (ones & -ones).bit_length() - 1


def _clipped_and_cut(weights: Integers, cut: int, *, mixed_bits: bool) -> Integers:
    """Clip to the sign mode's 8 bits and clear the lowest bits, toward −∞ in magnitude for inhibitory weights.

    The number of bits was found for the whole layer; a part of one sign gives up the bit that held the sign, so that
    it loses one bit less.
    """
    excitatory, inhibitory = int(weights.min()) >= 0, int(weights.max()) <= 0
    if excitatory or inhibitory:
        cut -= mixed_bits
    if cut < 0 and weights.any():
        raise QuantizationError(
            "Lava would read every weight as 0: a matrix of one sign with odd weights beyond ±127; halve the weights"
        )
    cut = max(cut, 0)
    if inhibitory and not excitatory:
        kept: Integers = -((np.minimum(-weights, 255) >> cut) << cut)
        return kept
    clipped: Integers = np.clip(weights, 0 if excitatory else -256, 255)
    return (clipped >> cut) << cut

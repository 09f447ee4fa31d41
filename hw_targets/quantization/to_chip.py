"""A network as a chip holds it: its integers, and no neuron that cannot matter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.passes.dead_neurons import remove_dead_neurons
from hw_targets.quantization.quantize import quantize


def to_chip(
    network: Network,
    chip: Chip,
    calibration: npt.ArrayLike | None = None,
    *,
    scales: Mapping[str, float] | None = None,
    for_format: str | None = None,
    approximate: bool = False,
) -> ChipNetwork:
    """A network in the integers of a chip, without the neurons that no output depends on: ready to be placed.

    `quantize`, then `remove_dead_neurons`, as the command line does: its cores, energies and files are those of
    `place(to_chip(network, chip, images), chip)`.

    Args:
        network: as for `quantize`, and so is all else.
        chip: likewise.
        calibration: likewise.
        scales: likewise.
        for_format: likewise.
        approximate: likewise.

    Raises:
        HardwareTargetError: as `quantize`.
    """
    integers = quantize(network, chip, calibration, scales=scales, for_format=for_format, approximate=approximate)
    return remove_dead_neurons(integers)

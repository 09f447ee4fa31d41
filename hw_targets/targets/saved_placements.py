"""Placement files of networks that name their chip."""

from __future__ import annotations

import os

from hw_targets.chips.chip import Chip
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.placement import Placement
from hw_targets.placement.reading import read_placement
from hw_targets.targets.registry import load_chip


def load_placement(path: str | os.PathLike[str], network: ChipNetwork, chip: Chip | None = None) -> Placement:
    """Read a placement of `network` on `chip` (by default the chip the network was quantised for).

    Raises:
        InvalidFile, InvalidNetwork: as `read_placement`.
        InvalidChip: no chip given and the network names none that is known, or one that `place` refuses.
    """
    return read_placement(path, network, load_chip(network.chip) if chip is None else chip)

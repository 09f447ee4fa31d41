"""Placements read back: checked against the network and the chip, and counted anew."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.errors import InvalidFile
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.archive import read_cores
from hw_targets.placement.cores.cost import Part, Window, core_order
from hw_targets.placement.fingerprint import fingerprint
from hw_targets.placement.limits import check_chip, check_neurons
from hw_targets.placement.placement import STAMP, Cores, Placement, assembled, placed_populations
from hw_targets.placement.skips import as_held
from hw_targets.placement.tiles.convolution import Convolution, as_tile, is_convolution


def read_placement(path: str | os.PathLike[str], network: ChipNetwork, chip: Chip) -> Placement:
    """Read a placement of `network` on `chip`.

    Raises:
        InvalidFile: a file that is missing or no placement, one of another network (names, sizes, weights), core
            indices with gaps, or a core that exceeds a limit of the chip.
        InvalidChip: a chip that `place` refuses.
        InvalidNetwork: integers made for another chip.
    """
    chip.supported("load_placement")
    check_chip(network, chip)
    expected = {p.name: p.size for p in placed_populations(network)}
    cores, stamp = read_cores(Path(path), expected)
    if stamp.startswith(STAMP) and stamp != STAMP + fingerprint(network):
        raise InvalidFile(
            f"{path} was made for a network of the same populations but other weights, biases or thresholds; pass that"
            " network, or place this one"
        )
    return _measured({name: cores[name] for name in expected}, network, chip, str(path))


def _measured(cores: dict[str, Cores], network: ChipNetwork, chip: Chip, where: str) -> Placement:
    """Count what every core holds under a given assignment, and refuse one that breaks a rule."""
    held = as_held(network, chip)
    everyone = np.unique(np.concatenate([np.zeros(0, np.int32), *cores.values()]))
    if not np.array_equal(everyone, np.arange(everyone.size)):
        raise InvalidFile(f"{where}: core indices must run from 0 without gaps; place the network again")
    check_neurons(network, chip)
    parts: list[list[Part]] = [[] for _ in range(everyone.size)]
    for name, assigned in cores.items():
        order = core_order(network[name])
        by_core = order[np.argsort(assigned[order], kind="stable")]
        used, begins = np.unique(assigned[by_core], return_index=True)
        tiles = Convolution(held, name, chip) if is_convolution(held, name) else None
        for core, neurons in zip(used.tolist(), np.split(by_core, begins[1:]), strict=True):
            parts[core].append(_part(held, name, neurons, tiles, chip))
    placement = assembled(network, chip, parts, None)
    for core, usage in enumerate(placement.usage):
        if exceeded := usage.exceeded(chip):
            key, used_there, limit = exceeded[0]
            raise InvalidFile(
                f"{where}: core {core} ({usage.population!r}) has {key} {used_there}, {used_there - limit} more than"
                f" the {limit} of {chip.name}; place the network again"
            )
    return placement


def _part(network: ChipNetwork, name: str, neurons: Ints, tiles: Convolution | None, chip: Chip) -> Part:
    """Neurons of one core, in `core_order`; by classes if they fill a rectangle of a convolution."""
    tile = None if tiles is None else as_tile(network[name].shape, neurons)
    if tiles is not None and tile is not None:
        return tiles.part(tile)
    return Window(network, name, neurons, np.zeros(network[name].size, np.int64), chip).part(neurons.size)

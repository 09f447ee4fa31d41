"""How many routers a message passes on a chip's mesh.

Routing goes along x first, then along y, so a message from (x, y) to (x', y') takes |x − x'| east-west and |y − y'|
north-south hops; cores of one tile share a router, and messages between them take none (Davies et al. 2018).
"""

from __future__ import annotations

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.errors import HardwareTargetError
from hw_targets.ir.connectivity import Ints
from hw_targets.placement import Placement

ENTRY = (0, 0, 0)
"""(chip, x, y) where input events are taken to enter; no chip's entry point was published."""
ASSUMED_POSITIONS = "positions of the cores (none were given: routers are filled column by column)"


def core_positions(placement: Placement) -> tuple[Ints | None, bool]:
    """(chip, x, y) of every core, int64 (cores, 3), and whether they are assumed.

    They are the placement's; without, the cores of each chip fill its routers column by column, in their order; None
    where the chip's mesh is not published either.

    Raises:
        HardwareTargetError: positions of another shape, or negative.
    """
    if placement.positions is None:
        return default_positions(placement.core_count, placement.chip), True
    positions = np.asarray(placement.positions)
    if positions.shape != (placement.core_count, 3) or not np.issubdtype(positions.dtype, np.integer):
        raise HardwareTargetError(
            f"placement: positions are {positions.dtype} {positions.shape}, expected integers"
            f" ({placement.core_count}, 3), the chip, x and y of every core; place the network again"
        )
    if positions.size and int(positions.min()) < 0:
        raise HardwareTargetError(
            f"placement: positions hold {int(positions.min())}, expected 0 or more; place the network again"
        )
    return positions.astype(np.int64), False


def default_positions(cores: int, chip: Chip) -> Ints | None:
    """(chip, x, y) of cores in the order of their index, int64 (cores, 3); None if the mesh is not published."""
    if chip.mesh_rows is None or chip.cores_per_router is None:
        return None
    number, local = np.divmod(np.arange(cores, dtype=np.int64), chip.cores_per_chip)
    x, y = np.divmod(local // chip.cores_per_router, chip.mesh_rows)
    positions: Ints = np.stack((number, x, y), axis=1)
    return positions


def hops(start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """East-west hops, north-south hops, and whether the chip is left, of messages from `start` to `end`.

    Both are (…, 3) and broadcast. Hops of a message that leaves its chip are 0: what the way costs is unpublished.
    """
    step = np.abs(start - end)
    leaves = (step[..., 0] > 0).astype(np.int64)
    return step[..., 1] * (1 - leaves), step[..., 2] * (1 - leaves), leaves


def tiles_used(positions: Ints) -> int:
    """Distinct routers that hold a core in use."""
    return len(np.unique(positions, axis=0))

"""How densely each layer of a network is connected where a sparsity is shared out by the layers' shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neuroprune._numbers import number_of

Shapes = Sequence[Sequence[int]]
#: Of the Erdős–Rényi densities, what `prune_to` leaves every layer at least.
FLOOR = 0.2


def erk_densities(shapes: Shapes, sparsity: float) -> list[float]:
    """Density of each layer, ε·Σ(dimensions)/Π(dimensions), no more than 1: the Erdős–Rényi kernel.

    ε makes the densities add up to (1 − sparsity) of all weights; a layer that would exceed 1 is dense, and the others
    share the rest. Evci et al., "Rigging the Lottery", ICML 2020 (arXiv 1911.11134), section 3.

    Args:
        shapes: of the layers' weights; an empty one is as dense as can be.
        sparsity: fraction of zeros among all weights.

    Raises:
        ValueError: sparsity out of [0, 1].
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"erk_densities: sparsity must lie in 0 … 1, got {sparsity}")
    sizes = [math.prod(shape) for shape in shapes]
    raw = [sum(shape) / size if size else math.inf for shape, size in zip(shapes, sizes, strict=True)]
    full = {i for i, size in enumerate(sizes) if not size}
    while True:
        budget = (1.0 - sparsity) * sum(sizes) - sum(sizes[i] for i in full)
        rest = [i for i in range(len(sizes)) if i not in full]
        epsilon = budget / sum(raw[i] * sizes[i] for i in rest) if rest else 0.0
        over = {i for i in rest if epsilon * raw[i] > 1.0}
        if not over:
            return [1.0 if i in full else epsilon * raw[i] for i in range(len(sizes))]
        # One at a time, the fullest first: the others' share changes with each.
        full.add(max(over, key=lambda i: raw[i]))


def least_densities(shapes: Shapes, sparsity: float, floor: float) -> list[float]:
    """`floor` times the Erdős–Rényi densities, or 0 everywhere where the sparsity leaves fewer weights than that takes.

    Args:
        shapes: of the layers' weights.
        sparsity: fraction of zeros among all weights.
        floor: in [0, 1].
    """
    densities = [floor * density for density in erk_densities(shapes, sparsity)]
    sizes = [math.prod(shape) for shape in shapes]
    taken = sum(math.ceil(density * size) for density, size in zip(densities, sizes, strict=True))
    return densities if taken <= (1.0 - sparsity) * sum(sizes) else [0.0] * len(sizes)


def check_floor(floor: float, target: float | None) -> None:
    """Refuse what is no floor, or one of a schedule whose sparsity is not known beforehand.

    Raises:
        ValueError: as said.
    """
    if not 0.0 <= (-1.0 if (found := number_of(floor)) is None else found) <= 1.0:
        raise ValueError(f"SoftThresholdPruner: density_floor must lie in 0 … 1, got {floor!r}")
    if floor and target is None:
        raise ValueError(
            f"SoftThresholdPruner: density_floor={floor!r} is a part of what a sparsity leaves, and the schedule has no"
            " target_sparsity; give it one, or leave density_floor out"
        )

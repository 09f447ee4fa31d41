"""Several populations on one core: parts are put together, the largest first, on the first core or the emptiest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints
from hw_targets.placement.cores.cost import CoreUsage, Part, add_once, by_source, usage_of

LIMITS = ("neurons_per_core", "input_axons_per_core", "output_axons_per_core", "synaptic_bits_per_core")
CLEARED = 128
"""Parts after which the cores that no further part fits on are forgotten."""


def pack(parts: Sequence[Part], destinations: Mapping[str, Ints], chip: Chip) -> list[list[Part]]:
    """Parts by core. A core holds at most one part of a population, so that lists and positions stay as they were.

    The sums of the parts' resources bound what they take together, since equal lists and common sources count once;
    only where the core's format slots are scarce may a sum be too low, so every core is checked exactly.
    """
    share, kinds = _shares(parts, destinations, chip)
    order = _largest_first(share)
    # What each resource of a part takes at least, from this one of the order on.
    least = np.minimum.accumulate(share[order][::-1])[::-1]
    open_cores = _OpenCores(len(parts), max(kinds, default=0) + 1)
    cores: list[list[int]] = []
    for k, index in enumerate(order):
        if k % CLEARED == 0:
            open_cores.close(least[k])
        slot = open_cores.first_with_room(share[index], kinds[index])
        held = [] if slot is None else cores[open_cores.number[slot]]
        if slot is None or not _fits([parts[k] for k in sorted((*held, index))], destinations, chip):
            slot, held = open_cores.open(len(cores)), []
            cores.append(held)
        held.append(index)
        open_cores.take(slot, share[index], kinds[index])
    return [[parts[k] for k in sorted(core)] for core in sorted(cores, key=min)]


class _OpenCores:
    """Cores that may take more: their numbers, the share of every limit that is left, and the populations they hold."""

    def __init__(self, most: int, populations: int) -> None:
        self.number = np.zeros(most, np.int64)
        self._room = np.zeros((len(LIMITS), most))
        self._holds = np.zeros((populations, most), dtype=bool)
        self._count = 0

    def open(self, number: int) -> int:
        """Where a new core stands."""
        slot, self._count = self._count, self._count + 1
        self.number[slot], self._room[:, slot], self._holds[:, slot] = number, 1.0 + 1e-9, False
        return slot

    def take(self, slot: int, share: npt.NDArray[np.float64], population: int) -> None:
        """Put a part on a core."""
        self._room[:, slot] -= share
        self._holds[population, slot] = True

    def first_with_room(self, share: npt.NDArray[np.float64], population: int) -> int | None:
        """Where the first core stands that can take a share of every limit and does not hold the population."""
        fits = ~self._holds[population, : self._count]
        for room, needed in zip(self._room[:, : self._count], share.tolist(), strict=True):
            fits &= room >= needed
        first = int(fits.argmax()) if fits.size else 0
        return first if fits.size and fits[first] else None

    def close(self, least: npt.NDArray[np.float64]) -> None:
        """Forget the cores that have less left than any part still takes."""
        kept = np.flatnonzero((self._room[:, : self._count] >= least[:, None]).all(axis=0))
        for values in (self.number, self._room, self._holds):
            values[..., : kept.size] = values[..., kept]
        self._count = kept.size


def spread(parts: Sequence[Part], cores: int, destinations: Mapping[str, Ints], chip: Chip) -> list[list[Part]] | None:
    """Parts on this many cores, about equally full; None if that was not found.

    Where another population is to fill what is left (see `filling`), some room everywhere is worth more than much of it
    on the last core. The largest parts go first, each to the core that is least full with it.
    """
    share, kinds = _shares(parts, destinations, chip)
    used, holds = np.zeros((cores, len(LIMITS))), np.zeros((cores, max(kinds, default=0) + 1), dtype=bool)
    found: list[list[int]] = [[] for _ in range(cores)]
    for index in _largest_first(share):
        level = np.where(holds[:, kinds[index]], np.inf, (used + share[index]).max(axis=1))
        core = int(np.argmin(level))
        if level[core] > 1 + 1e-9 or not _fits([parts[k] for k in sorted((*found[core], index))], destinations, chip):
            return None
        found[core].append(index)
        used[core] += share[index]
        holds[core, kinds[index]] = True
    return [[parts[k] for k in sorted(core)] for core in sorted((core for core in found if core), key=min)]


def _shares(
    parts: Sequence[Part], destinations: Mapping[str, Ints], chip: Chip
) -> tuple[npt.NDArray[np.float64], list[int]]:
    """(parts, limits) how much of each limit a part takes alone, and the number of its population."""
    share = np.array([_fractions(usage_of([part], destinations, chip), chip) for part in parts])
    names = {name: k for k, name in enumerate(dict.fromkeys(part.population for part in parts))}
    return share.reshape(len(parts), len(LIMITS)), [names[part.population] for part in parts]


def _largest_first(share: npt.NDArray[np.float64]) -> list[int]:
    """Parts by their scarcest resource."""
    order: list[int] = np.argsort(-share.max(axis=1), kind="stable").tolist()
    return order


def _fractions(usage: CoreUsage, chip: Chip) -> list[float]:
    """How much of each known limit a core uses."""
    values = (usage.neurons, usage.input_axons, usage.output_axons, usage.synaptic_bits)
    limits = [getattr(chip, key) for key in LIMITS]
    return [0.0 if limit is None or v is None else v / limit for v, limit in zip(values, limits, strict=True)]


def _fits(parts: Sequence[Part], destinations: Mapping[str, Ints], chip: Chip) -> bool:
    return not usage_of(parts, destinations, chip).exceeded(chip)


def count_destinations(cores: Sequence[Sequence[Part]], sizes: Mapping[str, int]) -> dict[str, Ints]:
    """Distinct cores each neuron sends to."""
    counts = {name: np.zeros(size, dtype=np.int64) for name, size in sizes.items()}
    for parts in cores:
        for name, reaches in by_source(parts).items():
            add_once(reaches, counts[name])
    return counts

"""Several populations on one core: parts are put together, the largest first, on the first core or the emptiest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints
from hw_targets.placement.cores.cost import CoreUsage, Part, by_source, joint_neurons, usage_of

LIMITS = ("neurons_per_core", "input_axons_per_core", "output_axons_per_core", "synaptic_bits_per_core")


def pack(parts: Sequence[Part], destinations: Mapping[str, Ints], chip: Chip) -> list[list[Part]]:
    """Parts by core. A core holds at most one part of a population, so that lists and positions stay as they were.

    The sums of the parts' resources bound what they take together, since equal lists and common sources count once;
    only where the core's format slots are scarce may a sum be too low, so every core is checked exactly.
    """
    share, kinds = _shares(parts, destinations, chip)
    room = np.zeros((len(parts), len(LIMITS)))
    holds = np.zeros((len(parts), max(kinds, default=0) + 1), dtype=bool)
    cores: list[list[int]] = []
    for index in _largest_first(share):
        core = _first_with_room(share[index], room[: len(cores)], ~holds[: len(cores), kinds[index]])
        if core is not None and _fits([parts[k] for k in sorted((*cores[core], index))], destinations, chip):
            cores[core].append(index)
        else:
            core = len(cores)
            room[core] = 1.0 + 1e-9
            cores.append([index])
        room[core] -= share[index]
        holds[core, kinds[index]] = True
    return [[parts[k] for k in sorted(core)] for core in sorted(cores, key=min)]


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


def _first_with_room(
    share: npt.NDArray[np.float64], room: npt.NDArray[np.float64], free: npt.NDArray[np.bool_]
) -> int | None:
    """The first core that can take a share of every resource."""
    found = np.flatnonzero((room >= share).all(axis=1) & free)
    return int(found[0]) if found.size else None


def _fits(parts: Sequence[Part], destinations: Mapping[str, Ints], chip: Chip) -> bool:
    return not usage_of(parts, destinations, chip).exceeded(chip)


def count_destinations(cores: Sequence[Sequence[Part]], sizes: Mapping[str, int]) -> dict[str, Ints]:
    """Distinct cores each neuron sends to."""
    counts = {name: np.zeros(size, dtype=np.int64) for name, size in sizes.items()}
    for parts in cores:
        for name, reaches in by_source(parts).items():
            if len(reaches) == 1:
                reaches[0].add_to(counts[name])
            else:
                counts[name][joint_neurons(reaches)] += 1
    return counts

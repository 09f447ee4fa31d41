"""Several populations on one core: parts that leave room are put together, first fit by decreasing size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw_targets.chip import Chip
from hw_targets.connectivity import Ints
from hw_targets.mapping.cost import CoreUsage, Part, joint_sources, usage_of

LIMITS = ("neurons_per_core", "input_axons_per_core", "output_axons_per_core", "synaptic_bits_per_core")


def pack(parts: Sequence[Part], destinations: Mapping[str, Ints], chip: Chip) -> list[list[Part]]:
    """Parts by core. A core holds at most one part of a population, so that lists and positions stay as they were.

    The sums of the parts' resources bound what they take together, since equal lists and common sources count once;
    only where the core's format slots are scarce may a sum be too low, so every core is checked exactly.
    """
    usages = [usage_of([part], destinations, chip) for part in parts]
    share = np.array([_fractions(usage, chip) for usage in usages]).reshape(len(parts), len(LIMITS))
    names = {name: k for k, name in enumerate(dict.fromkeys(part.population for part in parts))}
    order = np.argsort(-share.max(axis=1), kind="stable")
    room = np.zeros((len(parts), len(LIMITS)))
    holds = np.zeros((len(parts), len(names)), dtype=bool)
    cores: list[list[int]] = []
    for index in order.tolist():
        kind = names[parts[index].population]
        core = _first_with_room(share[index], room[: len(cores)], ~holds[: len(cores), kind])
        if core is not None and _fits([parts[k] for k in sorted((*cores[core], index))], destinations, chip):
            cores[core].append(index)
        else:
            core = len(cores)
            room[core] = 1.0 + 1e-9
            cores.append([index])
        room[core] -= share[index]
        holds[core, kind] = True
    return [[parts[k] for k in sorted(core)] for core in sorted(cores, key=min)]


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
        if len(parts) == 1:
            for reach in parts[0].reach:
                reach.add_to(counts[reach.source])
        else:
            for name, neurons in joint_sources(parts).items():
                counts[name][neurons] += 1
    return counts

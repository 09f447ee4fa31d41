"""Layers on chips whose cores hold one each, in memories of their own: which core takes which."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.errors import DoesNotFit
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork, Graph
from hw_targets.placement.cores.cost import Part, core_order
from hw_targets.placement.fit import layer_memory
from hw_targets.placement.limits import check_system
from hw_targets.placement.tiles.tiling import sequential


def layer_parts(network: ChipNetwork, chip: Chip) -> list[list[Part]]:
    """Every population as one part, by the core that takes it (`matched_cores`), cores without a layer left out.

    Raises:
        DoesNotFit: see `matched_cores`.
    """
    cores = matched_cores(network, chip)
    parts = []
    for name in sorted(cores, key=lambda each: cores[each]):
        population = network[name]
        roomy = Chip(chip.name, cores_per_chip=1, neurons_per_core=population.size, weight_bits=chip.weight_bits)
        sends: Ints = np.zeros(population.size, np.int64)
        parts.append(list(sequential(network, name, core_order(population), sends, roomy)))
    return parts


def matched_cores(network: Graph, chip: Chip) -> dict[str, int]:
    """A core of its own for every layer, numbered over all chips: an augmenting path for one layer after the other.

    Raises:
        DoesNotFit: a layer that no core takes, more layers than cores, or no way to give each one.
    """
    names = [p.name for p in network.populations if not p.is_input]
    check_system(len(names), chip)
    needs = {name: {key: used for key, used, _ in layer_memory(network, name, chip)} for name in names}
    slots = range(chip.cores_per_chip * -(-len(names) // chip.cores_per_chip))
    fits = {name: [k for k in slots if _fits(needs[name], chip, k)] for name in names}
    holder: dict[int, str] = {}
    for name in names:
        if not fits[name]:
            raise _too_large(name, needs[name], chip)
        if not _give(name, fits, holder, set()):
            words = ", ".join(f"{n} {' and '.join(map(str, needs[n].values()))}" for n in names)
            raise DoesNotFit(
                f"the layers need cores of their own, and the {len(slots)} of {chip.name} cannot be dealt out so that"
                f" each fits (kernel_words_per_core and neuron_words_per_core); they need {words}; narrow the largest"
            )
    return {name: core for core, name in holder.items()}


def _give(name: str, fits: Mapping[str, list[int]], holder: dict[int, str], tried: set[int]) -> bool:
    """A core for a layer, moving those that hold one already where they fit elsewhere (Kuhn's algorithm)."""
    for core in fits[name]:
        if core in tried:
            continue
        tried.add(core)
        if core not in holder or _give(holder[core], fits, holder, tried):
            holder[core] = name
            return True
    return False


def _fits(needs: Mapping[str, int], chip: Chip, core: int) -> bool:
    return all(used <= getattr(chip, key)[core % chip.cores_per_chip] for key, used in needs.items())


def _too_large(name: str, needs: Mapping[str, int], chip: Chip) -> DoesNotFit:
    """Which memory is too small; where each alone is large enough on some core, both."""
    over = {key: used for key, used in needs.items() if used > max(getattr(chip, key))} or needs
    said = " and ".join(f"{used} {key} of at most {max(getattr(chip, key))}" for key, used in over.items())
    return DoesNotFit(
        f"population {name!r} needs {said}, which no core of {chip.name} has; zeros do not lower it: use fewer channels"
        " (in powers of two), a smaller kernel or a smaller map"
    )

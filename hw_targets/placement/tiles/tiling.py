"""Sequential tiling: neurons in a given order, cut into the longest pieces that fit a core."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.errors import DoesNotFit
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.cores.cost import Part, Window, core_order

FIRST_GUESS = 256
"""Neurons the first core of a population is tried with."""

REMEDY = {
    "input_axons_per_core": "prune to a fan-in cap of {limit} source neurons, or narrow the layers before it",
    "output_axons_per_core": "prune the synapses it sends, or narrow the layers it feeds so that they take fewer cores",
    "synaptic_bits_per_core": "prune to a smaller fan-in, or narrow the layers before it",
}


def sequential(network: ChipNetwork, name: str, order: Ints, sends: Ints, chip: Chip) -> list[Part]:
    """Cut a population, its neurons in `order`, into parts; `sends[n]` is the number of cores neuron n sends to.

    A part's neurons are numbered in `core_order` whatever the order, and each part fits a core exactly so.

    Raises:
        DoesNotFit: a single neuron that exceeds a limit of a core.
    """
    assert chip.neurons_per_core is not None
    rank = np.empty(order.size, dtype=np.int64)
    rank[core_order(network[name])] = np.arange(order.size)
    in_order = bool((np.diff(rank[order]) > 0).all())
    parts: list[Part] = []
    start, guess = 0, min(FIRST_GUESS, chip.neurons_per_core)
    while start < order.size:
        is_full = guess == 2 and _hear_too_much(network, name, order[start : start + 2], chip)
        stop = start + 1 if is_full else min(order.size, start + guess)
        window = Window(network, name, order[start:stop], sends, chip)
        fitting = _longest_fit(window, chip)
        if fitting == stop - start and not is_full and stop < order.size and guess < chip.neurons_per_core:
            guess = min(4 * guess, chip.neurons_per_core)
            continue
        part = window.part(fitting) if in_order else None
        while part is None:
            chosen = order[start : start + fitting]
            again = Window(network, name, chosen[np.argsort(rank[chosen])], sends, chip)
            if fitting == 1 or not again.cost(fitting).exceeded(chip):
                part = again.part(fitting)
            else:
                fitting = max(1, fitting - 1 - fitting // 32)
        parts.append(part)
        start, guess = start + fitting, min(fitting + fitting // 4 + 1, chip.neurons_per_core)
    return parts


def _hear_too_much(network: ChipNetwork, name: str, neurons: Ints, chip: Chip) -> bool:
    """Whether neurons of a dense layer need more input axons than a core has; told without listing their synapses."""
    groups = network.incoming(name)
    if chip.input_axons_per_core is None or any(group.op.is_spatial for group in groups):
        return False
    heard: dict[str, npt.NDArray[np.bool_]] = {}
    for group in groups:
        found = group.op.weight[neurons].any(axis=0)
        heard[group.source] = found | heard.get(group.source, np.zeros_like(found))
    return sum(int(np.count_nonzero(found)) for found in heard.values()) > chip.input_axons_per_core


def _longest_fit(window: Window, chip: Chip) -> int:
    """Leading neurons of a window that fit one core: all, or a number that fits while one more does not."""
    probe = window.most()
    fits, fails = 0, probe + 1
    while fails - fits > 1:
        if window.cost(probe).exceeded(chip):
            fails = probe
        else:
            fits = probe
        probe = (fits + fails) // 2
    if fits == 0:
        raise does_not_fit(window, chip)
    return fits


def does_not_fit(window: Window, chip: Chip) -> DoesNotFit:
    """Explain which limit the first neuron of a window exceeds on its own."""
    usage = window.cost(1)
    key, used, limit = usage.exceeded(chip)[0]
    return DoesNotFit(
        f"population {usage.population!r}: neuron {int(window.targets[0])} alone needs {used} {words(key)},"
        f" {used - limit} more than the {limit} of a {chip.name} core ({key}); {REMEDY[key].format(limit=limit)}"
    )


def words(key: str) -> str:
    """`input_axons_per_core` → `input axons`."""
    return key.removesuffix("_per_core").replace("_", " ")

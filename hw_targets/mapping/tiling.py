"""Sequential tiling: each population is cut, pixel by pixel, into the longest pieces that fit a core."""

from __future__ import annotations

import numpy as np

from hw_targets.activity import Activity
from hw_targets.chip import Chip
from hw_targets.connectivity import Ints
from hw_targets.errors import DoesNotFit, InvalidNetwork, check_type
from hw_targets.mapping.cost import CoreUsage, Window, core_order
from hw_targets.mapping.placement import Cores, Placement, placed_populations
from hw_targets.mapping.traffic import events_sent, messages_sent
from hw_targets.network import ChipNetwork

FIRST_GUESS = 256
"""Neurons the first core of a population is tried with."""

REMEDY = {
    "input_axons_per_core": "prune to a fan-in cap of {limit} source neurons, or narrow the layers before it",
    "output_axons_per_core": "prune the synapses it sends, or narrow the layers it feeds so that they take fewer cores",
    "synaptic_bits_per_core": "prune to a smaller fan-in, or narrow the layers before it",
}


def place(chip_network: ChipNetwork, chip: Chip, activity: Activity | None = None) -> Placement:
    """Lay a network out on the cores of a chip; more than one chip's worth of cores is allowed (`Placement.chips`).

    Each core holds neurons of one population that follow each other in `core_order`, as many as its neurons, input
    axons, output axons and synaptic memory allow; the end of a piece is found by bisection over exact costs.
    Populations are cut from the output backwards, because a neuron's output axons depend on how its targets were cut.
    Inputs stay off chip.
    `activity` does not influence the layout: it is what `Placement.messages` is counted from.

    Raises:
        DoesNotFit: a single neuron that exceeds a limit of a core.
        InvalidNetwork: weights that are not integers.
        HardwareTargetError: an activity of another network.
    """
    check_type("place", chip_network, ChipNetwork, "the network that quantize gives")
    check_type("place", chip, Chip, "what load_chip(name) gives")
    for synapses in chip_network.synapses:
        if not np.issubdtype(synapses.op.weight.dtype, np.integer):
            raise InvalidNetwork(
                f"synapses {synapses.name} have {synapses.op.weight.dtype} weights, but a chip stores integers;"
                " quantize the network first"
            )
    events = None if activity is None else events_sent(activity, chip_network)
    destinations = {p.name: np.zeros(p.size, dtype=np.int64) for p in chip_network.populations}
    pieces: dict[str, list[CoreUsage]] = {}
    for population in reversed(placed_populations(chip_network)):
        pieces[population.name] = _tile(chip_network, population.name, chip, destinations)
    cores: dict[str, Cores] = {}
    usage: list[CoreUsage] = []
    for population in placed_populations(chip_network):
        parts = pieces[population.name]
        index = np.arange(len(usage), len(usage) + len(parts), dtype=np.int32)
        cores[population.name] = np.empty(population.size, dtype=np.int32)
        cores[population.name][core_order(population)] = np.repeat(index, [part.neurons for part in parts])
        usage += parts
    messages = None if events is None else sum(messages_sent(events, destinations).values())
    return Placement(chip_network, chip, cores, tuple(usage), destinations, messages)


def _tile(network: ChipNetwork, name: str, chip: Chip, destinations: dict[str, Ints]) -> list[CoreUsage]:
    """Cut one population; adds its cores to the `destinations` of its sources."""
    parts: list[CoreUsage] = []
    order = core_order(network[name])
    start, guess, size = 0, min(FIRST_GUESS, chip.neurons_per_core), order.size
    while start < size:
        stop = min(size, start + guess)
        window = Window(network, name, order[start:stop], destinations[name], chip)
        fitting = _longest_fit(window, chip)
        if fitting == stop - start and stop < size and guess < chip.neurons_per_core:
            guess = min(4 * guess, chip.neurons_per_core)
            continue
        part = window.cost(fitting)
        for source, neurons in window.sources(fitting).items():
            destinations[source][neurons] += 1
        parts.append(part)
        start, guess = start + fitting, min(2 * fitting, chip.neurons_per_core)
    return parts


def _longest_fit(window: Window, chip: Chip) -> int:
    """Leading neurons of a window that fit one core: all, or a number that fits while one more does not."""
    fits, fails = 0, window.targets.size + 1
    probe = window.targets.size
    while fails - fits > 1:
        if window.cost(probe).exceeded(chip):
            fails = probe
        else:
            fits = probe
        probe = (fits + fails) // 2
    if fits == 0:
        raise _does_not_fit(window, chip)
    return fits


def _does_not_fit(window: Window, chip: Chip) -> DoesNotFit:
    """Explain which limit the first neuron of a window exceeds on its own."""
    usage = window.cost(1)
    key, used, limit = usage.exceeded(chip)[0]
    excess = used - limit
    return DoesNotFit(
        f"population {usage.population!r}: neuron {int(window.targets[0])} alone needs {used} {_words(key)},"
        f" {excess} more than the {limit} of a {chip.name} core ({key}); {REMEDY[key].format(limit=limit)}"
    )


def _words(key: str) -> str:
    """`input_axons_per_core` → `input axons`."""
    return key.removesuffix("_per_core").replace("_", " ")

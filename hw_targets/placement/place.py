"""`place`: tiles for every population, remnants packed together, cores on the mesh."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.errors import DoesNotFit, InvalidNetwork, check_type
from hw_targets.ir.activity import Activity
from hw_targets.ir.connectivity import Ints, fan_in
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.cores.cost import Part, core_order
from hw_targets.placement.layers import layer_parts
from hw_targets.placement.limits import check_chip, check_neurons, check_system
from hw_targets.placement.mesh.traffic import events_sent
from hw_targets.placement.packing.balance import leaving_room
from hw_targets.placement.packing.dissolving import dissolve
from hw_targets.placement.packing.filling import can_fill, fill_all, fillers_of
from hw_targets.placement.packing.packing import pack, spread
from hw_targets.placement.placement import Placement, assembled, placed_populations
from hw_targets.placement.skips import as_held
from hw_targets.placement.tiles.clusters import by_shared_sources, channels_by_shared_sources, common_sources
from hw_targets.placement.tiles.convolution import Convolution, is_convolution
from hw_targets.placement.tiles.grid import Pressure, best_tiles
from hw_targets.placement.tiles.tiling import sequential

SMALL, FEW = 1_000_000, 64
"""Synapses and cores up to which a convolution is also tiled sequentially."""
CLUSTERED = (4096, 4_000_000)
"""Neurons and synapses up to which a dense layer's neurons are also sorted by shared sources."""
MANY, ALIKE = 4, 0.25
"""Neurons per core, or part of their sources that neurons share, from which on that is tried."""
SPARED, FEW_WEIGHTS = (0.04, 0.08, 0.1), 1_000_000
"""Parts of a core's memory that are tried to be left free for layers that fill room, and weights up to which."""
EVEN = 256
"""Cores up to which parts are also spread evenly before room is filled."""
LARGE = 2000
"""Cores from which on a placement whose room was filled is not compared with the plain one."""
ROUNDS = 8
"""Attempts at cutting a recurrent population, whose own cores decide how many it sends to."""


def place(chip_network: ChipNetwork, chip: Chip, activity: Activity | None = None) -> Placement:
    """Lay a network out on the cores of a chip; more than one chip's worth of cores is allowed (`Placement.chips`).

    Each population is cut into parts that fit a core exactly: a convolution into tiles of rows, columns and channels,
    anything else into runs of neurons, in order or sorted by shared sources, whichever takes fewer cores. Populations
    are cut from the output backwards, because a neuron's output axons depend on how its targets were cut. Then parts
    of different populations that leave room share cores, convolutions that read inputs (and pools of them) are cut to
    fill what is left, and the lightest cores are dissolved into others. Cores are laid on the mesh, if the chip's is
    published. Inputs stay off chip. A connection that passes over layers is counted as synapses with a delay, which is
    how the chip holds it (`Placement.assumptions`). Where a chip's cores hold one layer each, nothing is cut: every
    layer gets a core with the memory for it. `activity` does not influence the cores: it weights the traffic that
    `positions` keep short, and `Placement.messages` is counted from it.

    Raises:
        DoesNotFit: a single neuron that exceeds a limit, or a network larger than the largest system of the chip.
        InvalidChip: a chip that is known by its limits alone, or whose cores are not described in a way that neurons
            can be counted on them.
        InvalidNetwork: weights that are not integers, or integers made for another chip.
        HardwareTargetError: an activity of another network, or one with values that are NaN, negative or fractional.
    """
    check_type("place", chip_network, ChipNetwork, "the network that quantize gives")
    check_type("place", chip, Chip, "what load_chip(name) gives")
    chip.supported("place")
    check_chip(chip_network, chip)
    for synapses in chip_network.synapses:
        if not np.issubdtype(synapses.op.weight.dtype, np.integer):
            raise InvalidNetwork(
                f"synapses {synapses.name} have {synapses.op.weight.dtype} weights, but a chip stores integers;"
                " quantize the network first"
            )
    check_neurons(chip_network, chip)
    events = None if activity is None else events_sent(activity, chip_network)
    if chip.kernel_words_per_core is not None:
        return assembled(chip_network, chip, layer_parts(chip_network, chip), events)
    held = as_held(chip_network, chip)
    options = _packed(held, *_all_cut(held, chip), chip)
    if _memory_keeps_fillers_out(held, options[0], chip):
        for part in SPARED:
            with suppress(DoesNotFit):
                tight = replace(chip, synaptic_bits_per_core=int((1 - part) * (chip.synaptic_bits_per_core or 1)))
                options += _packed(held, *_all_cut(held, tight), chip)
    cores = min((dissolve(held, option, chip) for option in options), key=len)
    check_system(len(cores), chip)
    return assembled(chip_network, chip, cores, events)


def _all_cut(network: ChipNetwork, chip: Chip) -> tuple[dict[str, list[Part]], dict[str, Ints]]:
    """Parts of every population, each of which fits a core, and how many of them each neuron sends to."""
    sends = {p.name: np.zeros(p.size, dtype=np.int64) for p in network.populations}
    by_population: dict[str, list[Part]] = {}
    for population in reversed(placed_populations(network)):
        found = _cut(network, population.name, sends, chip)
        by_population[population.name] = found
        for part in found:
            for reach in part.reach:
                reach.add_to(sends[reach.source])
    return by_population, sends


def _memory_keeps_fillers_out(network: ChipNetwork, cores: list[list[Part]], chip: Chip) -> bool:
    """Whether cutting again with some memory left free may let a layer that fills room (see `filling`) onto more cores.

    So where cores are full of memory but not of neurons; only networks that are cut in seconds are cut again.
    """
    limit, most = chip.synaptic_bits_per_core, chip.neurons_per_core
    fillers = {p.name for p in placed_populations(network) if can_fill(network, p.name)}
    if limit is None or most is None or not fillers:
        return False
    if sum(int(np.count_nonzero(group.op.weight)) for group in network.synapses) > FEW_WEIGHTS:
        return False
    return any(
        sum(part.synaptic_bits or 0 for part in parts) > (1 - max(SPARED)) * limit
        and sum(part.neurons.size for part in parts) < most / 2
        for parts in cores
    )


def _packed(
    network: ChipNetwork, by_population: dict[str, list[Part]], sends: dict[str, Ints], chip: Chip
) -> list[list[list[Part]]]:
    """Parts by core, one to three ways: the layers that read inputs cut again to fill the others' room, and as cut."""
    names = [p.name for p in placed_populations(network)]
    fillers = fillers_of(network, {name for name in names if len(by_population[name]) > 1})

    every = [part for name in names for part in by_population[name]]
    if not fillers:
        return [pack(every, sends, chip)]
    # What fills room listens to inputs, or to what fills room as well: the others send to as many parts without it.
    others = [part for part in every if part.population not in fillers]
    rest = pack(others, sends, chip)
    even = spread(others, len(rest), sends, chip) if len(rest) <= EVEN else None
    filled = [fill_all(network, fillers, start, chip) for start in (rest, even) if start is not None]
    options = [cores for cores in filled if cores is not None]
    apart = len(rest) + sum(len(by_population[name]) for name in fillers)
    if options and apart > LARGE and len(options[0]) < apart:
        return options
    return [*options, pack(every, sends, chip)]


def _cut(network: ChipNetwork, name: str, sends: dict[str, Ints], chip: Chip) -> list[Part]:
    """Parts of a population; `sends` counts the cores its neurons send to in populations that are cut already."""
    if any(group.is_recurrent for group in network.incoming(name)):
        return _cut_recurrent(network, name, sends[name], chip)
    options: list[list[Part]] = []
    if is_convolution(network, name):
        convolution = Convolution(network, name, chip, channels_by_shared_sources(network, name, sends[name], chip))
        pressure = _pressure(network, name, sends, chip)
        if found := best_tiles(convolution, sends[name], chip, pressure):
            spared = leaving_room(network, name, len(found[0]), found[1], sends, chip)
            again = None if spared is None else best_tiles(convolution, sends[name], spared, pressure)
            options.append([convolution.part(tile) for tile in (again or found)[0]])
    if options and len(options[0]) > FEW:
        return options[0]
    synapses = sum(int(fan_in(group, network).sum()) for group in network.incoming(name))
    if not options or synapses <= SMALL:
        options.append(sequential(network, name, core_order(network[name]), sends[name], chip))
    if _worth_sorting(network, name, synapses, options[0], chip):
        order = by_shared_sources(network, name, chip)
        options.append(sequential(network, name, order, sends[name], chip))
    return min(options, key=lambda parts: (len(parts), sum(part.input_axons for part in parts)))


def _worth_sorting(network: ChipNetwork, name: str, synapses: int, parts: list[Part], chip: Chip) -> bool:
    """Whether another order of a dense layer's neurons could save cores, and can be found in time."""
    ops = [group.op for group in network.incoming(name)]
    sparse = bool(ops) and not any(op.is_spatial for op in ops) and synapses < sum(op.weight.size for op in ops) / 2
    if not sparse or len(parts) == 1 or network[name].size > CLUSTERED[0] or synapses > CLUSTERED[1]:
        return False
    # Cores of few neurons gain only where sources are really shared, and cutting them again takes long.
    if network[name].size >= MANY * len(parts):
        return True
    alike, limit = common_sources(network, name), chip.input_axons_per_core
    two = (2 - alike) * synapses / network[name].size
    return alike >= ALIKE and (limit is None or two <= limit)


def _pressure(network: ChipNetwork, name: str, sends: dict[str, Ints], chip: Chip) -> Pressure:
    """Output axons that the sources of a population have to spare on the cores their neurons fill in any case."""
    limit = chip.output_axons_per_core
    assert chip.neurons_per_core is not None
    room = {}
    for source in {group.source for group in network.incoming(name) if limit is not None}:
        population = network[source]
        if not population.is_input and limit is not None:
            spent = int(sends[source].sum())
            cores = max(population.size / chip.neurons_per_core, spent / limit)
            room[source] = max(0.0, cores * limit - spent)
    return Pressure(room, limit)


def _cut_recurrent(network: ChipNetwork, name: str, sends: Ints, chip: Chip) -> list[Part]:
    """Cut a population that sends to itself: assume where its spikes go, cut, and cut again until that holds."""
    assumed = np.zeros_like(sends)
    order = core_order(network[name])
    for _ in range(ROUNDS):
        parts = sequential(network, name, order, sends + assumed, chip)
        own = np.zeros_like(sends)
        for part in parts:
            for reach in part.reach:
                if reach.source == name:
                    reach.add_to(own)
        if not any(part.usage(int((sends + own)[part.neurons].sum())).exceeded(chip) for part in parts):
            return parts
        assumed = np.maximum(assumed, own)
    raise DoesNotFit(
        f"population {name!r}: its recurrent synapses need more output axons with every core it is cut into"
        f" (output_axons_per_core {chip.output_axons_per_core} of {chip.name}); prune them, or narrow the layer"
    )

"""`estimate`: count what an activity does on a placed network, and price it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.errors import HardwareTargetError, InvalidChip, check_type
from hw_targets.estimation.counts import CoreCounts, Counts
from hw_targets.estimation.mesh import ASSUMED_POSITIONS, core_positions, tiles_used
from hw_targets.estimation.result import COEFFICIENTS, HOPS, NO_HOPS, NOT_MODELLED, Coefficient, Estimate
from hw_targets.estimation.times import Times, published_times, step_times
from hw_targets.estimation.walk import Block, Routes, add_block, blocks, in_chip_time, load_of, routes
from hw_targets.ir.activity import Activity
from hw_targets.ir.connectivity import Ints, fan_out
from hw_targets.placement import Placement, events_sent
from hw_targets.placement.placement import placed_populations


def estimate(placement: Placement, activity: Activity, chip: Chip, *, times: Times | None = None) -> Estimate:
    """Count the operations of an activity exactly, price them, and time the chip's steps.

    Energy = synaptic events · synop + active updates · active + inactive updates · inactive + messages · spike in
    tile + east-west hops · E-W + north-south hops · N-S, the model of Davies et al. 2018, Table 2. A message is one
    event to one destination core. Time: `hw_targets.estimation.times`; `times` replaces the chip's published ones.

    Raises:
        InvalidNetwork: an argument of another type.
        InvalidChip: a chip other than the one the placement was made for.
        HardwareTargetError: an activity of another network, or one that is NaN, negative or not whole numbers; a
            placement whose cores or positions are not its network's.
    """
    _check(placement, activity, chip)
    known, assumed = core_positions(placement)
    positions = np.zeros((placement.core_count, 3), np.int64) if known is None else known
    events = events_sent(activity, placement.network)
    one_chip = known is not None and len(np.unique(known[:, 0])) <= 1
    times = (times or published_times(chip)) if one_chip else None
    cores = CoreCounts.zeros(placement.core_count)
    counts = _synapses_and_updates(placement, activity, events, cores)
    aligned = activity if times is None else in_chip_time(activity, placement.network)
    load = None if times is None else load_of(placement, aligned)
    for block in blocks(placement):
        ways = routes(block, placement, positions)
        _add_messages(counts, cores, block, ways, events.get(block.source), placement)
        if load is not None and times is not None and block.source in events:
            add_block(load, block, ways, aligned, times)
    prices = _prices(chip, hops=known is not None)
    missing: tuple[str, ...] = (ASSUMED_POSITIONS,) if assumed else ()
    if HOPS[0] not in prices:
        missing = (NO_HOPS,)
    steps = None if load is None or times is None else step_times(load, times, tiles_used(positions))
    samples, time_steps = activity.samples, activity.time_steps
    not_modelled = missing + NOT_MODELLED
    return Estimate(chip.name, samples, time_steps, counts, prices, not_modelled, cores, steps, known is not None)


def _prices(chip: Chip, *, hops: bool) -> dict[str, Coefficient]:
    """What each operation costs; without hops where they are not counted, or their price is not published."""
    prices = {n: Coefficient(getattr(chip, k), "pJ", chip.sources.get(k, "")) for n, k in COEFFICIENTS.items()}
    if hops and all(prices[name].value is not None for name in HOPS):
        return prices
    return {name: price for name, price in prices.items() if name not in HOPS}


def _check(placement: Placement, activity: Activity, chip: Chip) -> None:
    """Refuse arguments of other types, another chip, and cores that are not those of the placement's own network."""
    check_type("estimate", placement, Placement, "what place(network, chip) gives")
    check_type("estimate", activity, Activity, "what emulate(network, inputs) gives")
    check_type("estimate", chip, Chip, "what load_chip(name) gives")
    if chip.name != placement.chip.name:
        raise InvalidChip(
            f"the placement was made for {placement.chip.name!r}, but the estimate is for {chip.name!r};"
            " place the network on that chip first"
        )
    expected = {p.name: p.size for p in placed_populations(placement.network)}
    if set(placement.cores) != set(expected):
        raise HardwareTargetError(
            f"the placement is of another network: it places {sorted(placement.cores)}, its network has"
            f" {sorted(expected)} on chip; place this network"
        )
    for name, size in expected.items():
        cores = np.asarray(placement.cores[name])
        if cores.shape != (size,) or (size and not 0 <= cores.min() <= cores.max() < placement.core_count):
            raise HardwareTargetError(
                f"the placement is of another network: {name!r} has cores of shape {cores.shape}, expected ({size},)"
                f" with indices 0 … {placement.core_count - 1}; place this network"
            )


def _synapses_and_updates(
    placement: Placement, activity: Activity, events: Mapping[str, Ints], cores: CoreCounts
) -> dict[str, Counts]:
    """Synaptic events and updates by population; adds the updates by core."""
    network, steps = placement.network, activity.time_steps * activity.samples
    counts = {p.name: Counts() for p in network.populations}
    for synapses in network.synapses:
        if synapses.source in events:  # an Accumulator never fires
            sent = events[synapses.source]
            sparse, dense = (
                int(sent @ fan_out(synapses, network, count_zeros=zeros).reshape(-1)) for zeros in (False, True)
            )
            counts[synapses.target] += Counts(synaptic_events=sparse, dense_events=dense)
    for population in placed_populations(network):
        where = placement.cores[population.name]
        active = events.get(population.name, np.zeros(population.size, np.int64))
        np.add.at(cores.active_updates, where, active)
        np.add.at(cores.inactive_updates, where, steps - active)
        total = int(active.sum())
        counts[population.name] += Counts(active_updates=total, inactive_updates=population.size * steps - total)
    return counts


def _add_messages(
    counts: dict[str, Counts],
    cores: CoreCounts,
    block: Block,
    ways: Routes,
    events: Ints | None,
    placement: Placement,
) -> None:
    """Add the messages of a block, their hops, and the synaptic events they cause."""
    if events is None:
        return
    cores.synaptic_events[block.cores] += events @ block.synapses
    cores.received[block.cores] += events @ ways.reached
    sums = {
        "messages": events * ways.reached.sum(axis=1),
        "east_west_hops": events * ways.east_west.sum(axis=1),
        "north_south_hops": events * ways.north_south.sum(axis=1),
        "off_chip_messages": events * ways.off_chip.sum(axis=1),
    }
    counts[block.source] += Counts(**{name: int(values.sum()) for name, values in sums.items()})
    if block.source in placement.cores:
        for name, values in sums.items():
            by_core = cores.sent if name == "messages" else getattr(cores, name)
            np.add.at(by_core, placement.cores[block.source], values)

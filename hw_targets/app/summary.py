"""What was measured, as the plain values of a run's summary.json, which the report reads.

A version of a network is called "pruned", and "dense" what it is compared with; a model alone is "pruned".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.app.stages import Mapped, core_limits, core_usage
from hw_targets.chips.chip import Chip
from hw_targets.estimation import Estimate
from hw_targets.ir.activity import Activity
from hw_targets.ir.connectivity import fan_in
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement import Placement

#: How many populations, and neurons of each, a spike raster shows.
RASTERS, RASTER_NEURONS = 4, 96
#: Limits of a chip that are about one neuron's inputs.
INPUT_LIMITS = ("inputs_per_neuron", "input_axons_per_core")


def core_records(placement: Placement, cost: Estimate | None = None) -> list[dict[str, Any]]:
    """What each core holds; its place on the mesh where that is known; with `cost` its traffic per sample."""
    records = core_usage(placement)
    if placement.positions is not None:
        for record, (chip, x, y) in zip(records, placement.positions.tolist(), strict=True):
            record |= {"chip": chip, "x": x, "y": y}
    if cost is not None:
        for record, received, sent in zip(records, cost.cores.received, cost.cores.sent, strict=True):
            record |= {"received": int(received) / cost.samples, "sent": int(sent) / cost.samples}
    return records


def hardware(versions: Mapping[str, Mapped], chips: Sequence[Chip]) -> dict[str, Any]:
    """Cores, energy and time of each version on each chip; the energy is that of the first."""
    first = chips[0].name
    estimates = {version: mapped.estimates[first] for version, mapped in versions.items()}
    last = list(estimates.values())[-1]
    found: dict[str, Any] = {
        "energy_chip": first,
        "energy_parts": {version: dict(cost.energy_parts) for version, cost in estimates.items()},
        "energy_coefficients": {key: price._asdict() for key, price in last.coefficients.items()},
        "energy_not_modelled": list(last.not_modelled),
        "cores": {c.name: {v: m.placements[c.name].core_count for v, m in versions.items()} for c in chips},
        "core_bounds": {c.name: {v: m.placements[c.name].lower_bound for v, m in versions.items()} for c in chips},
        "core_usage": {chip.name: _usage(versions, chip) for chip in chips},
        "emulator_overflows": max(sum(mapped.activity.overflows.values()) for mapped in versions.values()),
    }
    for version, cost in estimates.items():
        found |= {f"energy_{version}_j": cost.energy, f"time_{version}_s": cost.time}
    return found


def _usage(versions: Mapping[str, Mapped], chip: Chip) -> dict[str, Any]:
    records = {v: core_records(m.placements[chip.name], m.estimates[chip.name]) for v, m in versions.items()}
    last = list(versions.values())[-1].placements[chip.name]
    said = {"assumptions": list(last.assumptions), "not_enforced": list(last.not_enforced)}
    return {"limits": core_limits(chip), **records, **said}


def fan_ins(network: ChipNetwork, chip: Chip) -> dict[str, Any]:
    """Synapses that end in a neuron, by population, with zeros and without, and the chip's limit to them."""
    rows = []
    for name in network.order:
        groups = network.incoming(name)
        if not groups:
            continue
        every, left = (
            np.sum([fan_in(group, network, count_zeros=zeros) for group in groups], axis=0) for zeros in (True, False)
        )
        rows.append(
            {
                "name": name,
                "all": int(every.max()),
                "largest": int(left.max()),
                "median": float(np.median(left)),
                "smallest": int(left.min()),
            }
        )
    known = [(key, getattr(chip, key)) for key in INPUT_LIMITS if getattr(chip, key) is not None]
    limit = {"key": known[0][0], "value": known[0][1]} if known else {}
    return {"chip": chip.name, "limit": limit, "populations": rows}


def rasters(activities: Mapping[str, Activity]) -> dict[str, Any]:
    """Spikes of the first sample, of the same neurons in each version: [step, row of the plot] of every spike."""
    last = list(activities.values())[-1]
    shapes = [{n: a.spikes[n].shape[2:] for n in a.spikes} for a in activities.values()]
    names = [n for n in list(last.spikes)[1:] if all(s.get(n) == last.spikes[n].shape[2:] for s in shapes)]
    names = [names[k] for k in _spread(len(names), RASTERS)]
    populations = []
    for name in names:
        sent = {version: _first_sample(activity.spikes[name]) for version, activity in activities.items()}
        size = next(iter(sent.values())).shape[1]
        shown = _spread(size, RASTER_NEURONS)
        spikes = {version: np.argwhere(found[:, shown] > 0).tolist() for version, found in sent.items()}
        populations.append({"name": name, "neurons": size, "shown": len(shown), **spikes})
    return {"steps": last.time_steps, "populations": populations}


def _first_sample(spikes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(T, neurons)."""
    return spikes[:, 0].reshape(len(spikes), -1)


def _spread(size: int, most: int) -> list[int]:
    """At most so many indices, evenly over all, the first and the last among them."""
    return sorted({int(k) for k in np.linspace(0, size - 1, min(size, most)).round()}) if size else []

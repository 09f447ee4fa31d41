"""Synaptic operations and energy of a placed network under a measured activity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from hw_targets.activity import Activity
from hw_targets.chip import Chip
from hw_targets.connectivity import Ints, fan_out
from hw_targets.errors import InvalidChip
from hw_targets.mapping import Placement, events_sent
from hw_targets.mapping.placement import placed_populations
from hw_targets.mapping.traffic import messages_sent

NOT_MODELLED = (
    "mesh hops between cores",
    "idle (static) power",
    "sending input from the host and reading the output back",
    "words of padding read with a list of synapses",
)
COEFFICIENTS: Mapping[str, str] = {
    "synaptic_events": "synop_pj",
    "active_updates": "active_update_pj",
    "inactive_updates": "inactive_update_pj",
    "messages": "spike_in_tile_pj",
}
"""Which fact of a chip prices which count."""


class Coefficient(NamedTuple):
    """A price per operation; `value` is None where nobody published it."""

    value: float | None
    unit: str
    source: str


@dataclass(frozen=True)
class Counts:
    """Exact operations over all steps and samples of an activity.

    `synaptic_events`: events (spikes, non-zero graded values) times the non-zero synapses they reach.
    `dense_events`: the same with zero weights billed, as hardware does that stores dense layers.
    `active_updates`: neuron steps that sent a spike; `inactive_updates`: all others.
    `messages`: events times the distinct cores they go to, counted where they are sent.
    """

    synaptic_events: int = 0
    dense_events: int = 0
    active_updates: int = 0
    inactive_updates: int = 0
    messages: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def per_sample(self, samples: int) -> dict[str, float]:
        """Averages over `samples`, by name."""
        return {f.name: getattr(self, f.name) / samples for f in fields(self)}


@dataclass(frozen=True)
class Estimate:
    """Operations and energy of an activity on a placed network.

    `populations[name]` holds exact integers over the batch: synaptic events at the population that receives them,
    updates of its neurons, messages it sends (inputs only send). Energies are joules per sample, averaged over
    `samples`, and None where a coefficient that they need is unpublished.
    """

    chip: str
    samples: int
    time_steps: int
    populations: Mapping[str, Counts]
    coefficients: Mapping[str, Coefficient]
    not_modelled: tuple[str, ...] = NOT_MODELLED

    @property
    def total(self) -> Counts:
        """All populations together."""
        return sum(self.populations.values(), Counts())

    @property
    def per_sample(self) -> dict[str, float]:
        """`total`, averaged over the samples."""
        return self.total.per_sample(self.samples)

    @property
    def energy_parts(self) -> dict[str, float | None]:
        """Joules per sample spent on each kind of operation."""
        return self._parts(self.total)

    @property
    def energy(self) -> float | None:
        """Joules per sample; None (unknown) unless every coefficient is published."""
        return _sum(self._parts(self.total))

    def energy_of(self, population: str) -> float | None:
        """Joules per sample of one population, as `energy`."""
        return _sum(self._parts(self.populations[population]))

    def _parts(self, counts: Counts) -> dict[str, float | None]:
        return {
            name: None if price.value is None else getattr(counts, name) * price.value * 1e-12 / self.samples
            for name, price in self.coefficients.items()
        }


def estimate(placement: Placement, activity: Activity, chip: Chip) -> Estimate:
    """Count the operations of an activity exactly and price them.

    Energy = synaptic events · synop + active updates · active + inactive updates · inactive + messages · spike in
    tile, the model of Davies et al. 2018, Table 2. Mesh hops and all that `not_modelled` lists are left out.

    Raises:
        InvalidChip: a chip other than the one the placement was made for.
        HardwareTargetError: an activity of another network, or one that is NaN, negative or not whole numbers.
    """
    if chip.name != placement.chip.name:
        raise InvalidChip(
            f"the placement was made for {placement.chip.name!r}, but the estimate is for {chip.name!r};"
            " place the network on that chip first"
        )
    network = placement.network
    events = events_sent(activity, network)
    messages = messages_sent(events, placement.destinations)
    counts = {p.name: Counts(messages=messages.get(p.name, 0)) for p in network.populations}
    for synapses in network.synapses:
        if synapses.source not in events:
            continue  # an Accumulator never fires
        sent = events[synapses.source]
        sparse, dense = (_dot(sent, fan_out(synapses, network, count_zeros=zeros)) for zeros in (False, True))
        counts[synapses.target] += Counts(synaptic_events=sparse, dense_events=dense)
    steps = activity.time_steps * activity.samples
    for population in placed_populations(network):
        active = int(events[population.name].sum()) if population.name in events else 0
        counts[population.name] += Counts(active_updates=active, inactive_updates=population.size * steps - active)
    prices = {
        name: Coefficient(getattr(chip, key), "pJ", chip.sources.get(key, "")) for name, key in COEFFICIENTS.items()
    }
    return Estimate(chip.name, activity.samples, activity.time_steps, counts, prices)


def _dot(events: Ints, synapses: Ints) -> int:
    return int(events @ synapses.reshape(-1))


def _sum(parts: Mapping[str, float | None]) -> float | None:
    known = [part for part in parts.values() if part is not None]
    return sum(known) if len(known) == len(parts) else None

"""The estimate: counts, prices, and the energies and times that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hw_targets.estimation.counts import CoreCounts, Counts
from hw_targets.estimation.times import StepTimes
from neuroprune._html import html_table

COEFFICIENTS: Mapping[str, str] = {
    "synaptic_events": "synop_pj",
    "active_updates": "active_update_pj",
    "inactive_updates": "inactive_update_pj",
    "messages": "spike_in_tile_pj",
    "east_west_hops": "hop_east_west_pj",
    "north_south_hops": "hop_north_south_pj",
}
"""Which fact of a chip prices which count."""
HOPS = ("east_west_hops", "north_south_hops")
NO_HOPS = "mesh hops between cores"
NOT_MODELLED = (
    "idle (static) power",
    "sending input from the host (its events enter at router 0, 0) and reading the output back",
    "words of padding read with a list of synapses",
)


class Coefficient(NamedTuple):
    """A price per operation; `value` is None where nobody published it."""

    value: float | None
    unit: str
    source: str


@dataclass(frozen=True)
class Estimate:
    """Operations, energy and time of an activity on a placed network.

    `populations[name]` holds exact integers over the batch: synaptic events at the population that receives them,
    updates of its neurons, messages it sends and their hops (inputs only send); `cores` holds the same by core.
    Energies are joules per sample, averaged over `samples`, and None where a coefficient that they need is unpublished.
    A chip whose mesh or whose price per hop is unpublished has no hops among its `coefficients`, and `not_modelled`
    says so; without a mesh (`knows_mesh` is false) all hops are 0.
    `steps` are the times of the chip's steps while the samples follow each other without a pause, each layer one step
    behind the one before; None where no times were published, or where several chips are used.
    """

    chip: str
    samples: int
    time_steps: int
    populations: Mapping[str, Counts]
    coefficients: Mapping[str, Coefficient]
    not_modelled: tuple[str, ...]
    cores: CoreCounts = field(compare=False)
    steps: StepTimes | None = field(default=None, compare=False)
    knows_mesh: bool = True

    def _repr_html_(self) -> str:
        """Counts and energy of each population per sample, as notebooks show them."""
        keys = ("synaptic_events", "active_updates", "inactive_updates", "messages")
        rows: list[list[object]] = []
        for name, counts in self.populations.items():
            values = counts.per_sample(self.samples)
            rows.append([name, *(values[key] for key in keys), self.energy_of(name)])
        rows.append(["sum", *(self.per_sample[key] for key in keys), self.energy])
        time = "unknown" if self.time is None else f"{self.time:.3g} s"
        title = f"Per sample on {self.chip}, {self.samples} samples; time {time}"
        return html_table(title, ["population", *(key.replace("_", " ") for key in keys), "energy (J)"], rows)

    @property
    def total(self) -> Counts:
        """All populations together."""
        return sum(self.populations.values(), Counts())

    @property
    def per_sample(self) -> dict[str, float]:
        """`total`, averaged over the samples."""
        return self.total.per_sample(self.samples)

    @property
    def hops(self) -> float | None:
        """Routers passed per sample, in both directions; None (unknown) where the chip's mesh is unpublished."""
        total = self.total
        return (total.east_west_hops + total.north_south_hops) / self.samples if self.knows_mesh else None

    @property
    def energy_parts(self) -> dict[str, float | None]:
        """Joules per sample spent on each kind of operation."""
        return self._parts(self.total)

    @property
    def energy(self) -> float | None:
        """Joules per sample; None (unknown) unless every coefficient is published."""
        return _sum(self._parts(self.total))

    @property
    def time(self) -> float | None:
        """Seconds per sample, from one sample to the next; None (unknown) where `steps` is."""
        return None if self.steps is None else float(self.steps.total.sum()) / self.samples

    def energy_of(self, population: str) -> float | None:
        """Joules per sample of one population, as `energy`."""
        return _sum(self._parts(self.populations[population]))

    def _parts(self, counts: Counts) -> dict[str, float | None]:
        return {
            name: None if price.value is None else getattr(counts, name) * price.value * 1e-12 / self.samples
            for name, price in self.coefficients.items()
        }


def _sum(parts: Mapping[str, float | None]) -> float | None:
    known = [part for part in parts.values() if part is not None]
    return sum(known) if len(known) == len(parts) else None

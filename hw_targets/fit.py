"""Whether a network can be laid out on a chip at all, told from its shapes, before it is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw_targets.chip import Chip
from hw_targets.connectivity import fan_in
from hw_targets.network import Network


@dataclass(frozen=True)
class LayerFit:
    """The largest number of synapses that end in one neuron of a population, against the chip's input axons per"
    " core."""

    name: str
    neurons: int
    fan_in: int
    limit: int | None

    @property
    def excess(self) -> int:
        """Synapses above the limit; 0 if it fits or the limit is unknown."""
        return max(0, self.fan_in - self.limit) if self.limit is not None else 0

    def cells(self) -> list[str]:
        """A row of the table."""
        limit = "unknown" if self.limit is None else str(self.limit)
        verdict = "unknown" if self.limit is None else f"over by {self.excess}" if self.excess else "fits"
        return [self.name, str(self.neurons), str(self.fan_in), limit, verdict]

    def advice(self, chip: Chip) -> str:
        """What would make it fit."""
        assert self.limit is not None
        needed = 1 - self.limit / self.fan_in
        return (
            f"{self.name}: a neuron has up to {self.fan_in} inputs, {chip.name} allows {self.limit} input axons per"
            f" core, {self.excess} too many; prune each of its neurons to at least {100 * needed:.1f} % zeros, or"
            " narrow the layer"
        )


def check_fit(network: Network, chip: Chip) -> list[LayerFit]:
    """Largest fan-in of each population with all weights non-zero, in network order.

    One neuron's inputs must share one core, and no split of the layer changes that: a neuron with more distinct inputs
    than a core has input axons cannot be placed.
    """
    rows = []
    for name in network.order:
        population = network[name]
        if population.is_input:
            continue
        per_group = [fan_in(s, network, count_zeros=True) for s in network.incoming(name)]
        largest = int(np.sum(per_group, axis=0).max()) if per_group else 0
        rows.append(LayerFit(name, population.size, largest, chip.input_axons_per_core))
    return rows

"""Loihi's integers: their widths, and the numbers of a neuron."""

from __future__ import annotations

from dataclasses import dataclass

from hw_targets.ir.neurons import ChipNeuron
from hw_targets.ir.populations import Population

#: Decays count in 1/4096.
DECAY_BITS = 12
UNITY = 1 << DECAY_BITS
#: States have 24 bits, of which 6 lie below the weights' unit.
STATE_BITS, FRACTION_BITS = 24, 6
LIMIT = 1 << (STATE_BITS - 1)


@dataclass(frozen=True)
class Cuba(ChipNeuron):
    """The numbers of a current-based neuron, decays in 1/4096; `neuron.CubaLIF` is the neuron."""

    v_threshold: int
    v_decay: int = 0
    i_decay: int = UNITY

    @property
    def has_fractions(self) -> bool:
        """Whether a potential is not always a whole number of the weights' unit."""
        return self.v_decay not in (0, UNITY) or self.i_decay not in (0, UNITY)


def cuba_of(population: Population) -> Cuba | None:
    """A population's neuron, where it is Loihi's."""
    return population.neuron if isinstance(population.neuron, Cuba) else None

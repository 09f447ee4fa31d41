"""What networks are made of: populations of neurons, and the synapses between two.

Axis order is PyTorch's; see `hw_targets.ir.network`, from where all of this is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from hw_targets.ir.neurons import LIF, Neuron
from hw_targets.ir.ops import Array, Op, Shape

#: Steps; a run keeps what is on its way, so that a bound is needed. Chips and formats hold far shorter delays.
LONGEST_DELAY = 1 << 12


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one kind.

    `bias` is added in every step, in the unit of the incoming weights: one value per channel, (C,) or (F,), or one per
    neuron, (C·H·W,) in C order.
    """

    name: str
    shape: Shape
    neuron: Neuron
    bias: Array | None = None

    @property
    def size(self) -> int:
        """Number of neurons."""
        return prod(self.shape)

    @property
    def is_input(self) -> bool:
        """Whether spikes come from outside the chip."""
        return self.neuron.is_input

    @property
    def is_readout(self) -> bool:
        """Whether it sums its input, sends nothing, and is read out."""
        return not self.neuron.fires and not self.neuron.is_input

    @property
    def lif(self) -> LIF | None:
        """Its neuron, where that is a real-valued one that fires."""
        return self.neuron if isinstance(self.neuron, LIF) else None

    @property
    def has_neuron_biases(self) -> bool:
        """Whether neurons of one channel have biases of their own."""
        return self.bias is not None and self.bias.shape == (self.size,) != (self.shape[0],)


@dataclass(frozen=True, eq=False)
class Synapses:
    """All synapses from one population to another, or (recurrent) back to the same one, one step later.

    `delay` holds the further steps a current takes: integers that broadcast to (targets, sources), so (F, 1) is
    one delay per target and (1, F) one per source (axonal); of a convolution one for all, (1, 1). `immediate` marks
    the current of an input layer's own neurons, which on the chip arrives in the step it is sent instead of one later.
    """

    source: str
    target: str
    op: Op
    delay: Array | None = None
    immediate: bool = False

    @property
    def name(self) -> str:
        """`source→target`."""
        return f"{self.source}→{self.target}"

    @property
    def uniform_delay(self) -> int:
        """The one delay of a convolution; 0 where none is stated."""
        return 0 if self.delay is None else int(self.delay.item())

    @property
    def is_recurrent(self) -> bool:
        """Whether the synapses lead back to their own population."""
        return self.source == self.target

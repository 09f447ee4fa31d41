"""What networks are made of, in one place to import from."""

from hw_targets.ir.network import (
    LIF,
    Accumulator,
    Array,
    ChipNetwork,
    ChipNeuron,
    Conv2d,
    Dense,
    GradedInput,
    Graph,
    Network,
    Neuron,
    Op,
    Pair,
    Population,
    Shape,
    SpikeInput,
    Synapses,
)
from hw_targets.targets.loihi.netx.delays import MAX_DELAY
from hw_targets.targets.loihi.neuron import CubaLIF

__all__ = [
    "LIF",
    "MAX_DELAY",
    "Accumulator",
    "Array",
    "ChipNetwork",
    "ChipNeuron",
    "Conv2d",
    "CubaLIF",
    "Dense",
    "GradedInput",
    "Graph",
    "Network",
    "Neuron",
    "Op",
    "Pair",
    "Population",
    "Shape",
    "SpikeInput",
    "Synapses",
]

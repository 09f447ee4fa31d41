"""The intermediate representation: populations of neurons in discrete time, and the synapses between them.

A `Network` holds real-valued weights, a `ChipNetwork` the integers a chip stores. Both are frozen values and share
their topology (`Graph`). Several groups of synapses may end in one population: their currents add, which is all that
the ADD of a spike-element-wise residual block needs.

Axis order is PyTorch's: a population has shape (C, H, W) or (F,), neurons are numbered in C order, a convolution
kernel is (out, in/groups, kH, kW) and a dense matrix (out, in), `in` being the flattened source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.checks import check_bias, check_decays, check_synapses
from hw_targets.ir.neurons import LIF, Accumulator, ChipNeuron, GradedInput, Neuron, SpikeInput
from hw_targets.ir.ops import Array, Conv2d, Dense, Op, Pair, Shape, equal
from hw_targets.ir.populations import Population, Synapses

if TYPE_CHECKING:
    from hw_targets.ir.dynamics import Dynamics

__all__ = [
    "LIF",
    "Accumulator",
    "Array",
    "ChipNetwork",
    "ChipNeuron",
    "Conv2d",
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


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """Topology shared by `Network` and `ChipNetwork`, validated on construction.

    Raises:
        InvalidNetwork: duplicate or unknown names, shapes that do not match, a cycle through several populations,
            non-finite weights, delays out of range.
    """

    populations: tuple[Population, ...]
    synapses: tuple[Synapses, ...]

    def __post_init__(self) -> None:
        names = [p.name for p in self.populations]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise InvalidNetwork(f"population names must be unique, but {twice} occur more than once")
        for population in self.populations:
            check_bias(population)
            check_decays(population)
        for synapses in self.synapses:
            check_synapses(synapses, self._by_name)
        if len(self.order) != len(names):
            raise InvalidNetwork(f"the network has a cycle through {sorted(set(names) - set(self.order))}")

    def __repr__(self) -> str:
        neurons = sum(p.size for p in self.populations)
        nonzero = sum(int(np.count_nonzero(s.op.weight)) for s in self.synapses)
        return (
            f"{type(self).__name__}({len(self.populations)} populations, {neurons} neurons,"
            f" {len(self.synapses)} groups of synapses, {nonzero} non-zero weights)"
        )

    @cached_property
    def _by_name(self) -> Mapping[str, Population]:
        return {p.name: p for p in self.populations}

    def __getitem__(self, name: str) -> Population:
        return self._by_name[name]

    def incoming(self, name: str) -> tuple[Synapses, ...]:
        """Synapse groups that end in a population."""
        return tuple(s for s in self.synapses if s.target == name)

    def shared_ops(self, name: str) -> list[tuple[Op, list[str]]]:
        """Incoming ops, each with the sources seen through it: the terms of a SEW ADD share one, their spikes add up.

        An image is never put together with spikes, nor sources of different shapes. Recurrent synapses and delays are
        for the caller to look at: `shared_synapses` has them.
        """
        return [(first.op, sources) for first, sources in self.shared_synapses(name)]

    def shared_synapses(self, name: str) -> list[tuple[Synapses, list[str]]]:
        """As `shared_ops`, each with the first of its synapses; recurrent or delayed ones share with no others."""
        groups: list[tuple[Synapses, list[str]]] = []
        for s in self.incoming(name):
            source = self[s.source]
            for first, sources in groups:
                other = self[first.source]
                alike = other.shape == source.shape and not (other.neuron.is_graded or source.neuron.is_graded)
                alike = alike and not any(g.is_recurrent or g.delay is not None or g.immediate for g in (first, s))
                if alike and equal(first.op, s.op):
                    sources.append(s.source)
                    break
            else:
                groups.append((s, [s.source]))
        return groups

    def outgoing(self, name: str) -> tuple[Synapses, ...]:
        """Synapse groups that start in a population."""
        return tuple(s for s in self.synapses if s.source == name)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Population names, each after all its sources but itself (those on a cycle are missing)."""
        forward = [s for s in self.synapses if not s.is_recurrent]
        waiting = {p.name: {s.source for s in forward if s.target == p.name} for p in self.populations}
        done: list[str] = []
        while ready := [name for name, sources in waiting.items() if sources <= set(done)]:
            done += ready
            for name in ready:
                del waiting[name]
        return tuple(done)

    @property
    def inputs(self) -> tuple[Population, ...]:
        """Populations fed from outside."""
        return tuple(p for p in self.populations if p.is_input)

    @property
    def outputs(self) -> tuple[Population, ...]:
        """Populations nobody listens to, but perhaps themselves."""
        return tuple(p for p in self.populations if all(s.is_recurrent for s in self.outgoing(p.name)))


@dataclass(frozen=True, eq=False, repr=False)
class Network(Graph):
    """Real-valued network; neurons are GradedInput, SpikeInput, LIF or Accumulator.

    Where a model was trained in a target's integers its neurons are the target's own, and weights and biases are whole
    numbers, in the unit of these neurons (`in_integers`).

    `time_steps` is T, the steps one sample lasts. `notes` says, a sentence each, where it was made to differ from the
    model it was read from; empty means nowhere.
    """

    time_steps: int = 1
    notes: tuple[str, ...] = ()

    @property
    def in_integers(self) -> bool:
        """Whether all of its neurons that fire are a target's own."""
        firing = [p.neuron for p in self.populations if p.neuron.fires]
        return bool(firing) and all(isinstance(neuron, ChipNeuron) for neuron in firing)

    def as_integers(self) -> ChipNetwork:
        """The same network with integers for its whole numbers, every scale 1.

        Raises:
            InvalidNetwork: neurons that are not a target's own, or weights and biases that are no whole numbers.
        """
        if not self.in_integers:
            raise InvalidNetwork("as_integers: the network has real-valued neurons; quantize it for a chip")
        populations = [replace(p, bias=None if p.bias is None else _whole(p.bias, p.name)) for p in self.populations]
        synapses = [replace(s, op=replace(s.op, weight=_whole(s.op.weight, s.name))) for s in self.synapses]
        scales = {p.name: p.neuron.unit_sent if p.is_input else 1.0 for p in self.populations}
        return ChipNetwork(
            tuple(populations), tuple(synapses), time_steps=self.time_steps, scales=scales, notes=self.notes
        )


def _whole(values: Array, name: str) -> Array:
    integers = np.rint(values).astype(np.int32)
    if not np.array_equal(integers, values):
        off = float(np.abs(values - integers).max())
        raise InvalidNetwork(
            f"{name} lies up to {off:.3g} from whole numbers, but its neurons are a chip's own; read the model that was"
            " trained in that chip's integers"
        )
    return integers


@dataclass(frozen=True, eq=False, repr=False)
class ChipNetwork(Graph):
    """Integer network; neurons are inputs, Accumulator, or a target's own; weights and biases are integers.

    `scales[name]` is the integer that stands for 1.0 of membrane potential in that population, so that
    real value ≈ integer / scale. `notes` are the `Network`'s, and the decays that the chip does not hold exactly.
    `steps_assumed`: nobody said what T is (some files do not), and `time_steps` is a mere stand-in. `file_format` names
    the format that the integers were made to be written in; its demands hold for them, such as one threshold a layer.
    `readout_dynamics`: whose integers the readouts of a network without firing neurons have.

    Raises:
        InvalidNetwork: as `Graph`, or neurons of several targets.
    """

    chip: str = ""
    time_steps: int = 1
    scales: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    steps_assumed: bool = False
    file_format: str = ""
    readout_dynamics: Dynamics | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(names := {neuron.dynamics.name for neuron in self._chip_neurons}) > 1:
            raise InvalidNetwork(f"the network has neurons of several targets, {sorted(names)}; a chip has one kind")

    @property
    def _chip_neurons(self) -> list[ChipNeuron]:
        return [p.neuron for p in self.populations if isinstance(p.neuron, ChipNeuron)]

    @property
    def dynamics(self) -> Dynamics | None:
        """How its neurons step; None where it has nothing but inputs and readouts, and nobody said."""
        return self._chip_neurons[0].dynamics if self._chip_neurons else self.readout_dynamics

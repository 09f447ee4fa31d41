"""The intermediate representation: populations of neurons in discrete time, and the synapses between them.

A `Network` holds real-valued weights, a `ChipNetwork` the integers a chip stores. Both are frozen values and share
their topology (`Graph`). Several groups of synapses may end in one population: their currents add, which is all that
the ADD of a spike-element-wise residual block needs.

Axis order is PyTorch's: a population has shape (C, H, W) or (F,), neurons are numbered in C order, a convolution
kernel is (out, in/groups, kH, kW) and a dense matrix (out, in), `in` being the flattened source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hw_targets.errors import InvalidNetwork

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class GradedInput:
    """Values 0 … 2^bits − 1 sent in every step (a static image); `scale` is the integer that stands for 1.0."""

    bits: int = 8
    scale: float = 255.0


@dataclass(frozen=True)
class SpikeInput:
    """Binary spikes from outside the chip."""


@dataclass(frozen=True)
class LIF:
    """Leaky integrate-and-fire, hard reset to zero, real-valued.

    v ← (1 − v_decay)·v + x + bias;  s = [v ≥ v_threshold];  v ← 0 where s.  `v_decay = 0` is integrate-and-fire.
    """

    v_threshold: float
    v_decay: float = 0.0


@dataclass(frozen=True)
class CubaLIF:
    """Loihi's current-based neuron in integers, the subset netx loads (all decays in 1/4096).

    u ← rz(u·(4096 − i_decay)) + (a << 6);  v ← rz(v·(4096 − v_decay)) + u + (bias << 6);
    s = [v > (v_threshold << 6)];  v ← 0 where s;  rz(x) = sign(x)·(|x| >> 12).
    Source: lava-nc 0.10.0 `proc/lif/models.py` and `netx/hdf5.py` (lava-dl 0.6.0), du = iDecay − 1.
    """

    v_threshold: int
    v_decay: int = 0
    i_decay: int = 4096


@dataclass(frozen=True)
class Accumulator:
    """A readout: sums its input over the run of one sample and never fires."""


Neuron: TypeAlias = GradedInput | SpikeInput | LIF | CubaLIF | Accumulator


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one kind. `bias` is (C,) or (F,), added in every step, in the unit of the incoming weights."""

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
        return isinstance(self.neuron, (GradedInput, SpikeInput))


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Cross-correlation with zero padding, as `torch.nn.functional.conv2d`; weight (out, in/groups, kH, kW)."""

    weight: Array
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def output_shape(self, source: Shape) -> Shape:
        """Shape (C, H, W) of the target for a source (C, H, W)."""
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                source[1:], self.padding, self.dilation, self.weight.shape[2:], self.stride, strict=True
            )
        ]
        return (int(self.weight.shape[0]), *size)


@dataclass(frozen=True, eq=False)
class Dense:
    """Matrix (out, in); the source is flattened in (C, H, W) order."""

    weight: Array

    def output_shape(self, source: Shape) -> Shape:  # noqa: ARG002 - same signature as Conv2d
        """Shape (out,) of the target."""
        return (int(self.weight.shape[0]),)


Op: TypeAlias = Conv2d | Dense


@dataclass(frozen=True, eq=False)
class Synapses:
    """All synapses from one population to another."""

    source: str
    target: str
    op: Op

    @property
    def name(self) -> str:
        """`source→target`."""
        return f"{self.source}→{self.target}"


def _is_graded(population: Population) -> bool:
    return isinstance(population.neuron, GradedInput)


def _check_bias(population: Population) -> None:
    bias = population.bias
    if bias is None:
        return
    if bias.shape not in ((population.shape[0],), (population.size,)):
        raise InvalidNetwork(
            f"population {population.name}: the bias has shape {bias.shape}, expected one value per channel,"
            f" ({population.shape[0]},)"
        )
    if not np.isfinite(bias).all():
        raise InvalidNetwork(
            f"population {population.name}: {int((~np.isfinite(bias)).sum())} of {bias.size} biases are NaN or"
            " infinite; check the training run before mapping it"
        )


def _equal(a: Op, b: Op) -> bool:
    if isinstance(a, Conv2d) and isinstance(b, Conv2d):
        layout = (a.stride, a.padding, a.dilation, a.groups) == (b.stride, b.padding, b.dilation, b.groups)
        return layout and np.array_equal(a.weight, b.weight)
    return type(a) is type(b) and np.array_equal(a.weight, b.weight)


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """Topology shared by `Network` and `ChipNetwork`, validated on construction.

    Raises:
        InvalidNetwork: duplicate or unknown names, shapes that do not match, a cycle, non-finite weights.
    """

    populations: tuple[Population, ...]
    synapses: tuple[Synapses, ...]

    def __post_init__(self) -> None:
        names = [p.name for p in self.populations]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise InvalidNetwork(f"population names must be unique, but {twice} occur more than once")
        for population in self.populations:
            _check_bias(population)
        for synapses in self.synapses:
            self._check_synapses(synapses)
        if len(self.order) != len(names):
            raise InvalidNetwork(f"the network has a cycle through {sorted(set(names) - set(self.order))}")

    def _check_synapses(self, synapses: Synapses) -> None:
        for end in (synapses.source, synapses.target):
            if end not in self._by_name:
                raise InvalidNetwork(f"synapses {synapses.name} name a population {end!r} that does not exist")
        source, target, op = self[synapses.source], self[synapses.target], synapses.op
        weight = op.weight
        if isinstance(op, Conv2d):
            fits = weight.ndim == 4 and len(source.shape) == 3
            fits = fits and weight.shape[1] * op.groups == source.shape[0] and weight.shape[0] % op.groups == 0
        else:
            fits = weight.ndim == 2 and weight.shape[1] == source.size
        fits = fits and prod(op.output_shape(source.shape)) == target.size
        if not fits:
            raise InvalidNetwork(
                f"synapses {synapses.name}: weight {weight.shape} does not take {source.shape} to {target.shape}"
            )
        if not np.isfinite(weight).all():
            raise InvalidNetwork(
                f"synapses {synapses.name}: {int((~np.isfinite(weight)).sum())} of {weight.size} weights are NaN or"
                " infinite; check the training run before mapping it"
            )

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

        An image is never put together with spikes, nor sources of different shapes.
        """
        groups: list[tuple[Op, list[str]]] = []
        for s in self.incoming(name):
            source = self[s.source]
            for op, sources in groups:
                first = self[sources[0]]
                alike = first.shape == source.shape and not (_is_graded(first) or _is_graded(source))
                if alike and _equal(op, s.op):
                    sources.append(s.source)
                    break
            else:
                groups.append((s.op, [s.source]))
        return groups

    def outgoing(self, name: str) -> tuple[Synapses, ...]:
        """Synapse groups that start in a population."""
        return tuple(s for s in self.synapses if s.source == name)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Population names, each after all its sources (those on a cycle are missing)."""
        waiting = {p.name: {s.source for s in self.synapses if s.target == p.name} for p in self.populations}
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
        """Populations nobody listens to."""
        return tuple(p for p in self.populations if not self.outgoing(p.name))


@dataclass(frozen=True, eq=False, repr=False)
class Network(Graph):
    """Real-valued network; neurons are GradedInput, SpikeInput, LIF or Accumulator.

    `time_steps` is T, the steps one sample lasts.
    """

    time_steps: int = 1


@dataclass(frozen=True, eq=False, repr=False)
class ChipNetwork(Graph):
    """Integer network; neurons are GradedInput, SpikeInput, CubaLIF or Accumulator, weights and biases are integers.

    `scales[name]` is the integer that stands for 1.0 of membrane potential in that population, so that
    real value ≈ integer / scale.
    """

    chip: str = ""
    time_steps: int = 1
    scales: Mapping[str, float] = field(default_factory=dict)

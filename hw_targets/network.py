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

#: Steps; the longest delay that lava-dl 0.6.0 loads (`netx/hdf5.py`), of Loihi's 6 bits.
MAX_DELAY = 62


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

    u ← (1 − i_decay)·u + x;  v ← (1 − v_decay)·v + u + bias;  s = [v ≥ v_threshold], or [v > v_threshold] where
    `strict`;  v ← 0 where s.  `v_decay = 0` is integrate-and-fire, `i_decay = 1` a current that lasts one step.
    `unit` is the integer that stood for 1.0 where the network was trained in integers; `quantize` keeps it if it fits.
    """

    v_threshold: float
    v_decay: float = 0.0
    i_decay: float = 1.0
    strict: bool = False
    unit: int | None = None


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
        return isinstance(self.neuron, (GradedInput, SpikeInput))

    @property
    def has_neuron_biases(self) -> bool:
        """Whether neurons of one channel have biases of their own."""
        return self.bias is not None and self.bias.shape == (self.size,) != (self.shape[0],)


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
    """All synapses from one population to another, or (recurrent) back to the same one, one step later.

    `delay` holds the further steps a current takes, 0 … 62: integers that broadcast to (targets, sources), so (F, 1) is
    one delay per target and (1, F) one per source (axonal); dense synapses only. `immediate` marks the current of an
    input layer's own neurons, which on the chip arrives in the step it is sent instead of one later.
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
    def is_recurrent(self) -> bool:
        """Whether the synapses lead back to their own population."""
        return self.source == self.target

    @property
    def longest_delay(self) -> int:
        """The largest of `delay`, 0 without delays."""
        return 0 if self.delay is None else int(self.delay.max(initial=0))


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


def _check_delay(synapses: Synapses, shape: Shape) -> None:
    """Delays are whole steps, 0 … MAX_DELAY, that broadcast to `shape` (targets, sources)."""
    delay = synapses.delay
    if delay is None:
        return
    fits = isinstance(synapses.op, Dense) and delay.ndim == 2
    fits = fits and all(d in (1, n) for d, n in zip(delay.shape, shape, strict=False))
    if not fits or not np.issubdtype(delay.dtype, np.integer):
        raise InvalidNetwork(
            f"synapses {synapses.name}: delays must be integers that broadcast to {shape} (targets, sources) of a dense"
            f" layer; got {delay.dtype} {delay.shape}"
        )
    low, high = int(delay.min(initial=0)), int(delay.max(initial=0))
    if low < 0 or high > MAX_DELAY:
        raise InvalidNetwork(
            f"synapses {synapses.name}: delays span {low} … {high} steps, 6 bits hold 0 … {MAX_DELAY}; shorten them"
        )


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
        _check_delay(synapses, (target.size, source.size))
        if synapses.is_recurrent and not isinstance(source.neuron, (LIF, CubaLIF)):
            raise InvalidNetwork(
                f"synapses {synapses.name}: only spiking neurons can feed themselves, {source.name} is"
                f" {type(source.neuron).__name__}"
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
                alike = other.shape == source.shape and not (_is_graded(other) or _is_graded(source))
                alike = alike and not any(g.is_recurrent or g.delay is not None or g.immediate for g in (first, s))
                if alike and _equal(first.op, s.op):
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

    `time_steps` is T, the steps one sample lasts. `notes` says, a sentence each, where it was made to differ from the
    model it was read from; empty means nowhere.
    """

    time_steps: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class ChipNetwork(Graph):
    """Integer network; neurons are GradedInput, SpikeInput, CubaLIF or Accumulator, weights and biases are integers.

    `scales[name]` is the integer that stands for 1.0 of membrane potential in that population, so that
    real value ≈ integer / scale. `notes` are the `Network`'s, and the decays that 1/4096 does not hold exactly.
    """

    chip: str = ""
    time_steps: int = 1
    scales: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

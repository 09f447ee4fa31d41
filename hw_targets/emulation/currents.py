"""Currents: what spikes become on their way through weights and delays, exact where the network is a chip's."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hw_targets.emulation.products import Facts, Weights, in_bytes
from hw_targets.ir.network import ChipNetwork, Conv2d, Network, Op, Population, Shape, Synapses


class Currents:
    """Σ over groups of synapses from other populations; what depends on the network alone is made once."""

    def __init__(
        self,
        network: ChipNetwork | Network,
        population: Population,
        dtype: torch.dtype,
        device: torch.device,
        facts: Mapping[Op, Facts],
        *,
        transport: int = 0,
    ) -> None:
        """`dtype`: precision to sum in. `transport`: steps every synapse takes beside its delay; 0 in aligned time."""
        self._shape, self._dtype, self._transport = population.shape, dtype, transport
        self._weights = Weights(dtype, device, facts)
        exact = isinstance(network, ChipNetwork)
        self._groups: list[tuple[Synapses, list[str], Shape, list[tuple[int, Op]], float]] = []
        for first, sources in network.shared_synapses(population.name):
            if not first.is_recurrent:
                source = network[first.source]
                unit = 1.0 if exact else source.neuron.unit_sent
                self._groups.append((first, sources, source.shape, _by_delay(first), unit))

    def arriving(self, spikes: Mapping[str, Tensor]) -> Tensor:
        """(T, N, *shape) from the spikes (T, N, *shape) of all sources: whole numbers for a chip network.

        Where it is the same in every step its stride over T is 0.
        """
        total: Tensor | None = None
        for first, sources, shape, terms, unit in self._groups:
            x = sum((spikes[name] for name in sources[1:]), spikes[sources[0]])
            part: Tensor | None = None
            for lag, op in terms:
                late = lag + (0 if first.immediate else self._transport)
                arriving = shifted(apply(op, x, shape, self._weights), late)
                part = arriving if part is None else part + arriving
            assert part is not None
            part = (part / unit if unit != 1.0 else part).reshape(*part.shape[:2], *self._shape)
            total = part if total is None else total + part
        if total is None:
            like = next(iter(spikes.values()))
            total = torch.zeros(*like.shape[:2], *self._shape, dtype=self._dtype, device=like.device)
        return total


def largest_current(network: ChipNetwork, population: Population, facts: Mapping[Op, Facts]) -> float:
    """The largest |current| that any spikes can cause, that of its own included: the largest Σ|w·x| of a neuron."""
    largest = 0.0
    for s in network.incoming(population.name):
        largest += facts[s.op].largest * network[s.source].neuron.most_sent
    return largest


def exact_dtype(largest: float, device: torch.device) -> torch.dtype:
    """Sums of integers below 2^24 are exact in float32, whatever their order, and below 2^53 in float64.

    On a GPU cuDNN may transform a convolution (Winograd, FFT) or use TF32; float64 with a rounding at the end is exact
    there.
    """
    return torch.float32 if device.type == "cpu" and largest < 1 << 24 else torch.float64


def apply(op: Op, spikes: Tensor, source: Shape, weights: Weights) -> Tensor:
    """op(spikes) for every step and sample."""
    lead = spikes.shape[:2]
    # What a static image drives is the same in every step.
    static = len(spikes) > 1 and spikes.stride(0) == 0
    x = (spikes[:1] if static else spikes).reshape(-1, *source)
    y = in_bytes(op, x, weights)
    if y is None:
        y = _in_floats(op, x, source, weights)
    return y.reshape(1 if static else lead[0], lead[1], *y.shape[1:]).expand(*lead, *y.shape[1:])


def through(op: Op, weight: Tensor, x: Tensor) -> Tensor:
    """op(x) for x (n, *source), with `weight` in place of the op's own."""
    if isinstance(op, Conv2d):
        return F.conv2d(x, weight, None, op.stride, op.padding, op.dilation, op.groups)
    return F.linear(x.flatten(1), weight)


def whole_sums(op: Op, weight: npt.NDArray[Any], x: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """op(x) for whole numbers x (n, *source) and `weight` in place of the op's own, where no sum reaches 2^24."""
    floats = [torch.from_numpy(values.astype(np.float32)) for values in (weight, x)]
    sums: npt.NDArray[np.int32] = through(op, *floats).to(torch.int32).numpy()
    return sums


def _in_floats(op: Op, x: Tensor, source: Shape, weights: Weights) -> Tensor:
    weight, whole = weights.floats(op), np.issubdtype(op.weight.dtype, np.integer)
    if op.is_spatial:
        # With channels last oneDNN reorders neither its input nor its output; with one channel it may err (torch 2.12:
        # wrong sums where the output is one column wide).
        layout = torch.channels_last if whole and source[0] > 1 and not x.is_cuda else torch.preserve_format
        x = x.to(weight.dtype, memory_format=layout)
    y = through(op, weight, x.to(weight.dtype))
    return y.round_() if y.is_cuda and whole else y


def shifted(values: Tensor, steps: int) -> Tensor:
    """Values `steps` steps later; what would come after the last step is lost."""
    if steps == 0:
        return values
    late = torch.zeros_like(values, memory_format=torch.contiguous_format)
    late[steps:] = values[: max(0, len(values) - steps)]
    return late


def _by_delay(synapses: Synapses) -> list[tuple[int, Op]]:
    """Synapses sorted by delay: for each one that occurs, the op of those that have it."""
    delay, op = synapses.delay, synapses.op
    if delay is None:
        return [(0, op)]
    return [(int(k), replace(op, weight=np.where(delay == k, op.weight, 0))) for k in np.unique(delay)]


def bias_of(population: Population, current: Tensor) -> Tensor:
    """Bias in the shape of one neuron step, broadcast over the batch, of a current's type and on its device."""
    if population.bias is None:
        return torch.zeros((), dtype=current.dtype, device=current.device)
    bias = torch.from_numpy(np.ascontiguousarray(population.bias)).to(current)
    return bias.reshape(spread(population, len(bias)))


def spread(population: Population, values: int) -> Shape:
    """The shape that broadcasts one value per neuron, or per channel, over one neuron step."""
    if values == population.size:
        return population.shape
    return (values, *[1] * (len(population.shape) - 1))


class Recurrence:
    """Currents that a population's spikes cause in itself, one step later or, with delays, more."""

    def __init__(self, synapses: tuple[Synapses, ...], population: Population, like: Tensor) -> None:
        """`like` is (T, N, *shape), of the dtype and on the device to compute with."""
        self._terms = [term for s in synapses for term in _by_delay(s)]
        self._shape, self._weights = population.shape, Weights(like.dtype, like.device)
        steps = 1 + max(lag for lag, _ in self._terms)
        self._coming = deque(torch.zeros_like(like[0]) for _ in range(steps))

    def take(self) -> Tensor:
        """Current that arrives in this step."""
        self._coming.append(torch.zeros_like(self._coming[0]))
        return self._coming.popleft()

    def send(self, spikes: Tensor) -> None:
        """Note the spikes (N, *shape) of this step."""
        for lag, op in self._terms:
            current = apply(op, spikes[None], self._shape, self._weights)[0].reshape(spikes.shape)
            self._coming[lag] = self._coming[lag] + current


def recurrence(network: ChipNetwork | Network, population: Population, like: Tensor) -> Recurrence | None:
    """A population's recurrence, if it has any."""
    loops = tuple(s for s in network.incoming(population.name) if s.is_recurrent)
    return Recurrence(loops, population, like) if loops else None

"""Currents: what spikes become on their way through weights and delays, exact where the network is a chip's."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hw_targets.network import (
    ChipNetwork,
    Conv2d,
    GradedInput,
    Network,
    Op,
    Population,
    Shape,
    Synapses,
)


def incoming_current(
    network: ChipNetwork | Network,
    population: Population,
    spikes: dict[str, Tensor],
    dtype: torch.dtype,
    *,
    transport: int = 0,
) -> Tensor:
    """Σ over groups of synapses from other populations: (T, N, *shape), whole numbers for a chip network.

    Args:
        network: what is run.
        population: the one that receives.
        spikes: (T, N, *shape) of its sources.
        dtype: precision to sum in.
        transport: steps every synapse takes beside its delay; 0 in aligned time.
    """
    exact = isinstance(network, ChipNetwork)
    total: Tensor | None = None
    for first, sources in network.shared_synapses(population.name):
        if first.is_recurrent:
            continue
        source = network[first.source]
        x = sum((spikes[name] for name in sources[1:]), spikes[sources[0]])
        part: Tensor | None = None
        for lag, op in _by_delay(first):
            arriving = shifted(apply(op, x, source.shape, dtype), lag + (0 if first.immediate else transport))
            part = arriving if part is None else part + arriving
        assert part is not None
        if isinstance(source.neuron, GradedInput) and not exact:
            part = part / source.neuron.scale
        part = part.reshape(*part.shape[:2], *population.shape)
        total = part if total is None else total + part
    if total is None:
        any_source = next(iter(spikes.values()))
        total = torch.zeros(*any_source.shape[:2], *population.shape, dtype=dtype, device=any_source.device)
    return total


def exact_dtype(network: ChipNetwork, population: Population, device: torch.device) -> torch.dtype:
    """Sums of integers below 2^24 are exact in float32, whatever their order, and below 2^53 in float64.

    On a GPU cuDNN may transform a convolution (Winograd, FFT) or use TF32; float64 with a rounding at the end is exact
    there.
    """
    if device.type != "cpu":
        return torch.float64
    largest = 0.0
    for s in network.incoming(population.name):
        neuron = network[s.source].neuron
        sent = (1 << neuron.bits) - 1 if isinstance(neuron, GradedInput) else 1
        rows = np.abs(s.op.weight).astype(np.float64).reshape(len(s.op.weight), -1).sum(1)
        largest += float(rows.max(initial=0.0)) * sent
    return torch.float32 if largest < 1 << 24 else torch.float64


def apply(op: Op, spikes: Tensor, source: Shape, dtype: torch.dtype) -> Tensor:
    """op(spikes) for every step and sample."""
    weight = torch.from_numpy(np.ascontiguousarray(op.weight)).to(spikes.device, dtype)
    lead = spikes.shape[:2]
    # What a static image drives is the same in every step.
    static = len(spikes) > 1 and spikes.stride(0) == 0
    x = (spikes[:1] if static else spikes).reshape(-1, *source).to(dtype)
    if isinstance(op, Conv2d):
        y = F.conv2d(x, weight, None, op.stride, op.padding, op.dilation, op.groups)
    else:
        y = F.linear(x.flatten(1), weight)
    if y.is_cuda and not np.issubdtype(op.weight.dtype, np.floating):
        y = y.round_()
    return y.reshape(-1, lead[1], *y.shape[1:]).expand(*lead, *y.shape[1:])


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


class Recurrence:
    """Currents that a population's spikes cause in itself, one step later or, with delays, more."""

    def __init__(self, synapses: tuple[Synapses, ...], population: Population, like: Tensor) -> None:
        """`like` is (T, N, *shape), of the dtype and on the device to compute with."""
        self._terms = [term for s in synapses for term in _by_delay(s)]
        self._shape, self._dtype = population.shape, like.dtype
        steps = 1 + max(lag for lag, _ in self._terms)
        self._coming = deque(torch.zeros_like(like[0]) for _ in range(steps))

    def take(self) -> Tensor:
        """Current that arrives in this step."""
        self._coming.append(torch.zeros_like(self._coming[0]))
        return self._coming.popleft()

    def send(self, spikes: Tensor) -> None:
        """Note the spikes (N, *shape) of this step."""
        for lag, op in self._terms:
            current = apply(op, spikes[None], self._shape, self._dtype)[0].reshape(spikes.shape)
            self._coming[lag] = self._coming[lag] + current


def recurrence(network: ChipNetwork | Network, population: Population, like: Tensor) -> Recurrence | None:
    """A population's recurrence, if it has any."""
    loops = tuple(s for s in network.incoming(population.name) if s.is_recurrent)
    return Recurrence(loops, population, like) if loops else None

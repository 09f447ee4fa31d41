"""The neurons of a `Network`, in real numbers: the definition in `LIF` and `Accumulator`, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hw_targets.emulation.currents import bias_of
from hw_targets.ir.dynamics import Feedback
from hw_targets.ir.network import Population
from hw_targets.ir.neurons import LIF, Accumulator


class RealNeurons:
    """Real-valued neurons of one population, any number of samples (N, *shape) at once.

    A step is `charge`, `fired`, `settle`; whoever knows better what was sent may settle with that.
    """

    def __init__(self, neuron: LIF, bias: Tensor) -> None:
        """`bias` broadcasts to a step's current."""
        self._neuron, self._bias = neuron, bias
        self._keep, self._keep_current = 1.0 - neuron.v_decay, 1.0 - neuron.i_decay
        self._u: Tensor | None = None
        self._late: Tensor | None = None
        self._level: Tensor | float = neuron.v_threshold
        self.v: Tensor | None = None

    def step(self, current: Tensor) -> Tensor:
        """Spikes of one step: bool, or counts where a neuron may send several."""
        v = self.charge(current)
        spikes = self.fired(v)
        self.settle(v, spikes)
        return spikes

    def charge(self, current: Tensor) -> Tensor:
        """(1 − v_decay)·v + u + bias, less what a reset one step late takes off."""
        neuron = self._neuron
        if neuron.withholds and self.v is not None:
            self._level = neuron.v_threshold * (1.0 + (self.v > neuron.v_threshold).to(self.v.dtype))
        if self._keep_current:
            self._u = current = current if self._u is None else current + self._keep_current * self._u
        v = current + self._bias
        if self.v is not None:
            v.add_(self.v, alpha=self._keep)
        if self._late is None or neuron.reset == "none":
            return v
        if neuron.reset == "zero":
            return v.masked_fill_(self._late > 0, 0.0)
        return v - neuron.v_threshold * self._late

    def fired(self, v: Tensor) -> Tensor:
        """What neurons of this potential send."""
        neuron = self._neuron
        if neuron.max_spikes == 1:
            return v > self._level if neuron.strict else v >= self._level
        multiples = v / neuron.v_threshold
        whole = torch.ceil(multiples) - 1.0 if neuron.strict else torch.floor(multiples)
        return whole.clamp(0.0, float(neuron.max_spikes))

    def settle(self, v: Tensor, spikes: Tensor) -> None:
        """Reset what fired, now or in the next step."""
        if self._neuron.reset_delay:
            self._late, self.v = spikes, v
        elif self._neuron.reset == "zero":
            self.v = v.masked_fill_(spikes > 0, 0.0)
        else:
            self.v = v if self._neuron.reset == "none" else v - self._neuron.v_threshold * spikes


def run_reals(population: Population, current: Tensor, feedback: Feedback | None) -> Tensor:
    """Spikes (T, N, *shape) of a firing population for a current (T, N, *shape): uint8, or int32 beyond 255 a step."""
    neuron = population.lif
    assert neuron is not None
    neurons = RealNeurons(neuron, bias_of(population, current))
    dtype = torch.uint8 if neuron.max_spikes <= 255 else torch.int32
    spikes = torch.empty(current.shape, dtype=dtype, device=current.device)
    for index, a in enumerate(current):
        spikes[index] = neurons.step(a if feedback is None else a + feedback.take())
        if feedback is not None:
            feedback.send(spikes[index])
    return spikes


def read_reals(population: Population, current: Tensor, ends: Sequence[int]) -> Tensor:
    """Potentials (ends, N, F) of a readout after the steps `ends`."""
    neuron, bias = population.neuron, bias_of(population, current)
    assert isinstance(neuron, Accumulator)
    if not neuron.leaks:
        return torch.stack([(current[: end + 1] + bias).sum(0).flatten(1) for end in ends])
    neurons = RealNeurons(LIF(float("inf"), neuron.v_decay, neuron.i_decay, reset="none"), bias)
    reads: dict[int, Tensor] = {}
    for index, a in enumerate(current):
        neurons.step(a)
        if index in ends:
            assert neurons.v is not None
            reads[index] = neurons.v.flatten(1).clone()
    return torch.stack([reads[end] for end in ends])

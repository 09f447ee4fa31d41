"""The neurons of a `Network`, in real numbers: the definition in `LIF` and `Accumulator`, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hw_targets.emulation.currents import bias_of, spread
from hw_targets.ir.dynamics import Feedback
from hw_targets.ir.network import Population
from hw_targets.ir.neurons import LIF, Accumulator


class RealNeurons:
    """Real-valued neurons of one population, any number of samples (N, *shape) at once.

    A step is `charge`, `fired`, `settle`; whoever knows better what was sent may settle with that.
    """

    def __init__(self, population: Population, neuron: LIF, like: Tensor) -> None:
        """`neuron` is the population's, or how its potential behaves; `like` has a current's type and device."""
        self._neuron, self._bias = neuron, bias_of(population, like)
        self._keep = _kept(population, neuron.v_decay, neuron.v_decays, like)
        self._keep_current = _kept(population, neuron.i_decay, neuron.i_decays, like)
        self._u: Tensor | None = None
        self._w: Tensor | None = None
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
        if neuron.bias_lasts or neuron.difference:
            current = current + self._bias
        if neuron.difference:
            return self._difference(current)
        if self._keep_current is not None:
            self._u = current = current if self._u is None else current + self._keep_current * self._u
        v = current + (0.0 if neuron.bias_lasts else self._bias)
        if self.v is not None and self._keep is not None:
            v = v.add_(self._keep * self.v)
        if self._late is None or neuron.reset == "none":
            return v
        if neuron.reset == "zero":
            return v.masked_fill_(self._late > 0, 0.0)
        return v - neuron.v_threshold * self._late

    def _difference(self, current: Tensor) -> Tensor:
        """u ← (1 − i_decay)·u + x; w ← (1 − v_decay)·w + x; u − w; what was reset late is at zero, both traces too."""
        self._u = _trace(current, self._keep_current, self._u)
        self._w = _trace(current, self._keep, self._w)
        if self._late is not None and self._neuron.reset == "zero":
            self._clear(self._late)
        return self._u - self._w

    def _clear(self, where: Tensor) -> None:
        assert self._u is not None
        assert self._w is not None
        self._u, self._w = self._u.masked_fill(where > 0, 0.0), self._w.masked_fill(where > 0, 0.0)

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
        elif self._neuron.difference and self._neuron.reset == "zero":
            self._clear(spikes)
        elif self._neuron.reset == "zero":
            self.v = v.masked_fill_(spikes > 0, 0.0)
        else:
            self.v = v if self._neuron.reset == "none" else v - self._neuron.v_threshold * spikes
        if self._neuron.v_min is not None and self.v is not None:
            self.v = self.v.clamp(min=self._neuron.v_min)


def run_reals(population: Population, current: Tensor, feedback: Feedback | None) -> Tensor:
    """Spikes (T, N, *shape) of a firing population for a current (T, N, *shape): uint8, or int32 beyond 255 a step."""
    neuron = population.lif
    assert neuron is not None
    neurons = RealNeurons(population, neuron, current)
    dtype = torch.uint8 if neuron.max_spikes <= 255 else torch.int32
    spikes = torch.empty(current.shape, dtype=dtype, device=current.device)
    for index, a in enumerate(current):
        spikes[index] = neurons.step(a if feedback is None else a + feedback.take())
        if feedback is not None:
            feedback.send(spikes[index])
    return spikes


def read_reals(population: Population, current: Tensor, ends: Sequence[int]) -> Tensor:
    """Potentials (ends, N, F) of a readout after the steps `ends`."""
    neuron = population.neuron
    assert isinstance(neuron, Accumulator)
    if not neuron.leaks:
        bias = bias_of(population, current)
        return torch.stack([(current[: end + 1] + bias).sum(0).flatten(1) for end in ends])
    neurons = RealNeurons(population, _silent(neuron), current)
    reads: dict[int, Tensor] = {}
    for index, a in enumerate(current):
        neurons.step(a)
        if index in ends:
            assert neurons.v is not None
            reads[index] = neurons.v.flatten(1).clone()
    return torch.stack([reads[end] for end in ends])


def _silent(readout: Accumulator) -> LIF:
    """A neuron with a readout's potential that never fires."""
    return LIF(
        float("inf"),
        readout.v_decay,
        readout.i_decay,
        reset="none",
        v_decays=readout.v_decays,
        i_decays=readout.i_decays,
        bias_lasts=readout.bias_lasts,
    )


def _trace(current: Tensor, keep: Tensor | None, before: Tensor | None) -> Tensor:
    return current if keep is None or before is None else current + keep * before


def _kept(population: Population, single: float, several: tuple[float, ...], like: Tensor) -> Tensor | None:
    """1 − decay in the shape of a neuron step, broadcast over the batch; None where nothing is kept."""
    if not several:
        return None if single == 1.0 else torch.tensor(1.0 - single, dtype=like.dtype, device=like.device)
    values = 1.0 - torch.tensor(several, dtype=torch.float64)
    return values.to(like).reshape(spread(population, len(several)))

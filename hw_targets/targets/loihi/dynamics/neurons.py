"""Neurons step by step, in real numbers or in Loihi's integers as Lava computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hw_targets.emulation.losses import Losses
from hw_targets.ir.network import LIF, Accumulator, Conv2d, CubaLIF, Graph, Population
from hw_targets.targets.loihi.dynamics.float_states import run_fast

#: u and v have 24 bits; the sum of weights enters them shifted by 6.
LIMIT = 1 << 23
SHIFT = 6
UNITY = 4096


class Feedback(Protocol):
    """What a population sends itself."""

    def take(self) -> Tensor:
        """Current that arrives in this step."""

    def send(self, spikes: Tensor) -> None:
        """Note the spikes of this step."""


def run_neurons(
    population: Population,
    current: Tensor,
    losses: Losses,
    *,
    feedback: Feedback | None = None,
    resets: frozenset[int] = frozenset(),
    word: int = 32,
    largest: float = float("inf"),
) -> Tensor:
    """Spikes (T, N, *shape) as uint8.

    Args:
        population: of LIF or CubaLIF neurons.
        current: (T, N, *shape) from other populations.
        losses: takes note of states that left their 24 bits.
        feedback: from the population itself.
        resets: steps that begin with cleared states.
        word: bits of the accumulator that sums the current on the chip.
        largest: no |current| exceeds it.
    """
    neuron, bias = population.neuron, bias_of(population, current)
    state: _Real | _Integer
    if isinstance(neuron, LIF):
        state = _Real(neuron.v_threshold, neuron.v_decay, bias, i_decay=neuron.i_decay, strict=neuron.strict)
    else:
        assert isinstance(neuron, CubaLIF)
        if feedback is None and current.device.type == "cpu":
            spikes = _run_fast(neuron, current, bias, resets, losses, largest)
            if spikes is not None:
                return spikes
        plain = neuron.v_decay == 0 and neuron.i_decay == UNITY and feedback is None
        if plain and _stays_inside(current, bias):
            # Without decay and overflow all states are whole multiples of 64, so that sums of weights do.
            state = _Real(neuron.v_threshold + 1, 0.0, bias)
        else:
            state = _Integer(neuron, bias, word if feedback is not None or _is_wide(current) else None, losses)
    spikes = torch.empty(current.shape, dtype=torch.uint8, device=current.device)
    for step, a in enumerate(current):
        if step in resets:
            state.reset()
        spikes[step] = state.step(a if feedback is None else a + feedback.take())
        if feedback is not None:
            feedback.send(spikes[step])
    return spikes


def _run_fast(
    neuron: CubaLIF, current: Tensor, bias: Tensor, resets: frozenset[int], losses: Losses, largest: float
) -> Tensor | None:
    unity = torch.tensor(UNITY)
    kept = (int(_decay(unity, neuron.i_decay)), int(_decay(unity, neuron.v_decay)))
    return run_fast(neuron, current, bias, resets, losses, kept=kept, largest=largest, limit=LIMIT)


def run_accumulator(
    population: Population,
    current: Tensor,
    ends: Sequence[int],
    losses: Losses,
    *,
    exact: bool,
    resets: frozenset[int] = frozenset(),
    word: int = 32,
) -> Tensor:
    """v ← clip(v + a + bias), read in the steps `ends`: (ends, N, F), in the weights' unit."""
    bias = bias_of(population, current)
    if not resets and len(ends) == 1 and (not exact or _stays_inside(current, bias)):
        total = (current[: ends[0] + 1] + bias).sum(0).flatten(1)[None]
        return total.long() if exact else total
    state: _Real | _Integer = _Real(float("inf"), 0.0, bias)
    if exact:
        # No potential exceeds this threshold.
        state = _Integer(CubaLIF(LIMIT >> SHIFT), bias, word if _is_wide(current) else None, losses)
    reads: dict[int, Tensor] = {}
    for step, a in enumerate(current):
        if step in resets:
            state.reset()
        state.step(a)
        if step in ends:
            reads[step] = state.potential().flatten(1)
    return torch.stack([reads[end] for end in ends])


def word_bits(network: Graph, population: Population) -> int:
    """Bits in which Lava's `fixed_pt` synapses sum a current: 24 for Conv (`proc/conv/models.py`), int32 for Dense."""
    return 24 if any(isinstance(s.op, Conv2d) for s in network.incoming(population.name)) else 32


def _stays_inside(current: Tensor, bias: Tensor) -> bool:
    """Whether no sum over all steps can leave the 24 bits of a state."""
    if not current.numel():
        return True
    low, high = torch.aminmax(current)
    largest = max(-float(low), float(high)) + (float(bias.abs().max()) if bias.numel() else 0.0)
    return largest * len(current) < (LIMIT >> SHIFT) - 1


def _is_wide(current: Tensor) -> bool:
    """Whether a current may leave the 24 or 32 bits of an accumulator, or, step after step, those of u.

    A current takes 2^24 off u at most once a step: from 2^24 >> 6 on, what is left may grow beyond int32.
    """
    return bool(current.numel()) and float(current.abs().max()) >= 2 * LIMIT >> SHIFT


class _Real:
    """u ← (1 − i_decay)·u + a; v ← (1 − decay)·v + u + bias; s = [v ≥ threshold] (> if strict); v ← 0 where s."""

    def __init__(
        self, threshold: float, decay: float, bias: Tensor, *, i_decay: float = 1.0, strict: bool = False
    ) -> None:
        self.threshold, self.keep, self.bias = threshold, 1.0 - decay, bias
        self.keep_current, self.strict = 1.0 - i_decay, strict
        self.u: Tensor | None = None
        self.v: Tensor | None = None

    def reset(self) -> None:
        """Clear the state."""
        self.u = self.v = None

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step."""
        if self.keep_current:
            self.u = a = a if self.u is None else a + self.keep_current * self.u
        a = a + self.bias
        v = a if self.v is None else a.add_(self.v, alpha=self.keep)
        fired = v > self.threshold if self.strict else v >= self.threshold
        self.v = v.masked_fill_(fired, 0.0)
        return fired

    def potential(self) -> Tensor:
        """v after the last step."""
        assert self.v is not None
        return self.v.clone()


class _Integer:
    """Loihi's neuron as Lava computes it (see `CubaLIF`), states in 64-bit integers.

    lava-nc 0.10.0 `proc/lif/models.py`, `AbstractPyLifModelFixed.subthr_dynamics`: a current beyond 2^23 has 2^24
    subtracted (added at or below −2^23), once; potentials are clipped to ±(2^23 − 1); everything is int32.
    """

    def __init__(self, neuron: CubaLIF, bias: Tensor, word: int | None, losses: Losses) -> None:
        """`word`: bits in which currents are summed; None if no sum can leave its bits."""
        self.neuron, self.bias, self.word = neuron, bias.long() << SHIFT, word
        self.losses, self.steps = losses, 0
        self.reset()

    def reset(self) -> None:
        """Clear the state."""
        self.u = self.v = torch.zeros((), dtype=torch.int64, device=self.bias.device)

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step."""
        summed = a.long()
        arriving = _wrapped(summed, self.word)
        u = self._int32(_decay(self.u, self.neuron.i_decay) + self._int32(arriving << SHIFT))
        over, under = u > LIMIT, u <= -LIMIT
        self.u = u - 2 * LIMIT * over + 2 * LIMIT * under
        v = self._int32(_decay(self.v, self.neuron.v_decay) + self.u + self.bias)
        clipped = v.clamp(-(LIMIT - 1), LIMIT - 1)
        wrapped = over | under
        lost = wrapped if arriving is summed else wrapped | (arriving != summed)
        clips = clipped != v
        if bool((lost | clips).any()):
            self.losses.note(self.steps, lost.cpu().numpy(), clips.cpu().numpy())
        self.steps += 1
        fired = clipped > (self.neuron.v_threshold << SHIFT)
        self.v = clipped.masked_fill(fired, 0)
        return fired

    def _int32(self, value: Tensor) -> Tensor:
        return value if self.word is None else _wrapped(value, 32)

    def potential(self) -> Tensor:
        """v after the last step, in the weights' unit."""
        return self.v >> SHIFT


def _wrapped(value: Tensor, bits: int | None) -> Tensor:
    """The value as a two's complement integer of `bits` bits: ((x + 2^(b−1)) mod 2^b) − 2^(b−1)."""
    if bits is None:
        return value
    half = 1 << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half


def _decay(state: Tensor, decay: int) -> Tensor:
    """sign(x)·(|x|·(4096 − decay) >> 12), rounding toward zero."""
    if decay == 0:
        return state
    product = state * (UNITY - decay)
    return product.sign() * (product.abs() >> 12)


def bias_of(population: Population, current: Tensor) -> Tensor:
    """Bias in the shape of one neuron step, broadcast over the batch."""
    if population.bias is None:
        return torch.zeros((), dtype=current.dtype, device=current.device)
    bias = torch.from_numpy(np.ascontiguousarray(population.bias)).to(current)
    if population.has_neuron_biases:
        return bias.reshape(population.shape)
    return bias.reshape(-1, *[1] * (len(population.shape) - 1))


def is_readout(population: Population) -> bool:
    """Whether a population only sums."""
    return isinstance(population.neuron, Accumulator)

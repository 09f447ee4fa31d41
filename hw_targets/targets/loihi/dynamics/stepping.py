"""Loihi's neurons step by step with torch: the reference itself, or plain sums where nothing can overflow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hw_targets.ir.dynamics import Feedback, Losses
from hw_targets.targets.loihi.arithmetic import FRACTION_BITS, LIMIT, Cuba
from hw_targets.targets.loihi.dynamics.step import State, step

#: No potential exceeds this threshold.
NEVER = Cuba(LIMIT >> FRACTION_BITS)


class Stepping:
    """Neurons that hear one current (N, *shape) after the other."""

    def __init__(self, neuron: Cuba, bias: Tensor, word: int | None, losses: Losses) -> None:
        """`word`: bits in which currents are summed; None if no sum can leave its bits."""
        self._neuron, self._bias, self._word = neuron, bias.long(), word
        self._losses, self._steps = losses, 0
        self.reset()

    def reset(self) -> None:
        """Clear the states."""
        zero = torch.zeros((), dtype=torch.int64, device=self._bias.device)
        self._state = State(zero, zero)

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step."""
        self._state, spikes, wrapped, clipped = step(self._neuron, self._state, a.long(), self._bias, word=self._word)
        if bool((wrapped | clipped).any()):
            self._losses.note(self._steps, wrapped.cpu().numpy(), clipped.cpu().numpy())
        self._steps += 1
        fired: Tensor = spikes
        return fired

    def potential(self) -> Tensor:
        """v after the last step, in the weights' unit."""
        v: Tensor = self._state.v >> FRACTION_BITS
        return v


class Summing:
    """Neurons without decay whose states cannot overflow: all are whole multiples of 64, so that sums of weights do."""

    def __init__(self, threshold: float, bias: Tensor) -> None:
        """Fires above `threshold`."""
        self._threshold, self._bias = threshold, bias
        self._v: Tensor | None = None

    def reset(self) -> None:
        """Clear the states."""
        self._v = None

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step."""
        v = a + self._bias
        if self._v is not None:
            v += self._v
        fired = v > self._threshold
        self._v = v.masked_fill_(fired, 0.0)
        return fired


def run_steps(
    neurons: Stepping | Summing, current: Tensor, resets: frozenset[int], feedback: Feedback | None
) -> Tensor:
    """Spikes (T, N, *shape) as uint8 for a current (T, N, *shape) from other populations."""
    spikes = torch.empty(current.shape, dtype=torch.uint8, device=current.device)
    for index, a in enumerate(current):
        if index in resets:
            neurons.reset()
        spikes[index] = neurons.step(a if feedback is None else a + feedback.take())
        if feedback is not None:
            feedback.send(spikes[index])
    return spikes


def read_steps(
    current: Tensor, bias: Tensor, ends: Sequence[int], resets: frozenset[int], losses: Losses, word: int
) -> Tensor:
    """v ← clip(v + a + bias), read in the steps `ends`: (ends, N, F), in the weights' unit."""
    if not resets and len(ends) == 1 and stays_inside(current, bias):
        return (current[: ends[0] + 1] + bias).sum(0).flatten(1)[None].long()
    neurons = Stepping(NEVER, bias, word if is_wide(current) else None, losses)
    reads: dict[int, Tensor] = {}
    for index, a in enumerate(current):
        if index in resets:
            neurons.reset()
        neurons.step(a)
        if index in ends:
            reads[index] = neurons.potential().flatten(1)
    return torch.stack([reads[end] for end in ends])


def stays_inside(current: Tensor, bias: Tensor) -> bool:
    """Whether no sum over all steps can leave the 24 bits of a state."""
    if not current.numel():
        return True
    low, high = torch.aminmax(current)
    largest = max(-float(low), float(high)) + (float(bias.abs().max()) if bias.numel() else 0.0)
    return largest * len(current) < (LIMIT >> FRACTION_BITS) - 1


def is_wide(current: Tensor) -> bool:
    """Whether a current may leave the 24 or 32 bits of an accumulator, or, step after step, those of u.

    A current takes 2^24 off u at most once a step: from 2^24 >> 6 on, what is left may grow beyond int32.
    """
    return bool(current.numel()) and float(current.abs().max()) >= 2 * LIMIT >> FRACTION_BITS

"""The fastest exact way to run a population of Loihi's neurons."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hw_targets.emulation.currents import bias_of
from hw_targets.ir.dynamics import Feedback, Losses
from hw_targets.ir.network import ChipNetwork, Population
from hw_targets.targets.loihi.arithmetic import LIMIT, UNITY, cuba_of
from hw_targets.targets.loihi.dynamics.compiled import CompiledNeurons, is_suited, loop_for
from hw_targets.targets.loihi.dynamics.float_states import run_fast
from hw_targets.targets.loihi.dynamics.step import kept
from hw_targets.targets.loihi.dynamics.stepping import Stepping, Summing, is_wide, read_steps, run_steps, stays_inside


class LoihiEngine:
    """A compiled loop, floating point, plain sums, or the reference, whichever is exact and fastest."""

    def __init__(
        self,
        network: ChipNetwork,
        population: Population,
        *,
        largest: float,
        resets: frozenset[int],
        losses: Losses,
        device: torch.device,
        neuron_steps: int,
    ) -> None:
        """See `Dynamics.engine`."""
        self._population, self._largest, self._resets, self._losses = population, largest, resets, losses
        incoming = network.incoming(population.name)
        # Lava's `fixed_pt` synapses sum a current in 24 bits in Conv (`proc/conv/models.py`), in int32 in Dense.
        self._word = 24 if any(s.op.weight.ndim == 4 for s in incoming) else 32
        self._compiled: CompiledNeurons | None = None
        suited = device.type == "cpu" and population.neuron.fires and not any(s.is_recurrent for s in incoming)
        if suited and is_suited(population, largest) and (loop := loop_for(neuron_steps)) is not None:
            self._compiled = CompiledNeurons(loop, population, losses)

    def fire(self, current: Tensor, feedback: Feedback | None) -> Tensor:
        """See `Engine.fire`."""
        if self._compiled is not None and feedback is None:
            fired = self._compiled.run(current.numpy(), self._resets)
            if fired is not None:
                return torch.from_numpy(fired)
        return run_neurons(
            self._population,
            current,
            self._losses,
            feedback=feedback,
            resets=self._resets,
            word=self._word,
            largest=self._largest,
        )

    def read(self, current: Tensor, ends: Sequence[int]) -> Tensor:
        """See `Engine.read`."""
        bias = bias_of(self._population, current)
        return read_steps(current, bias, ends, self._resets, self._losses, self._word)


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
    """Spikes (T, N, *shape) as uint8, without a compiled loop.

    Args:
        population: of `CubaLIF` neurons.
        current: (T, N, *shape) from other populations.
        losses: takes note of states that left their 24 bits.
        feedback: from the population itself.
        resets: steps that begin with cleared states.
        word: bits of the accumulator that sums the current on the chip.
        largest: no |current| exceeds it.
    """
    neuron, bias = cuba_of(population), bias_of(population, current)
    assert neuron is not None
    if feedback is None and current.device.type == "cpu":
        left = (kept(UNITY, neuron.i_decay), kept(UNITY, neuron.v_decay))
        spikes = run_fast(neuron, current, bias, resets, losses, kept=left, largest=largest, limit=LIMIT)
        if spikes is not None:
            return spikes
    plain = neuron.v_decay == 0 and neuron.i_decay == UNITY and feedback is None
    if plain and stays_inside(current, bias):
        return run_steps(Summing(neuron.v_threshold, bias), current, resets, feedback)
    bits = word if feedback is not None or is_wide(current) else None
    return run_steps(Stepping(neuron, bias, bits, losses), current, resets, feedback)

"""Loihi's neuron as the rest of the package knows it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hw_targets.ir.dynamics import Clock, Engine, Ints, Losses, Mask, RowCounter, Whole
from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import ChipNetwork, Population
from hw_targets.ir.neurons import LIF, ChipNeuron
from hw_targets.targets.loihi.arithmetic import FRACTION_BITS, LIMIT, UNITY, Cuba
from hw_targets.targets.loihi.dynamics import rows
from hw_targets.targets.loihi.dynamics.step import State, step

if TYPE_CHECKING:
    import torch


class LoihiDynamics:
    """`CubaLIF`: one spike a step at most, a reset to zero in the step it is sent."""

    name = "loihi"
    max_spikes = most_input = 1
    timings: tuple[str, ...] = ("netx",)

    def __init__(self, neuron: type[Cuba]) -> None:
        """`neuron` is the class of the integer neurons."""
        self._neuron = neuron

    def refusal(self, neuron: LIF) -> str | None:
        """Anything but a reset to zero within the step, of one spike."""
        if neuron.resets_to_zero:
            return None
        return (
            f"{neuron.reset_in_words}, but Loihi's neurons send one spike and reset to zero in the step they fire;"
            " train with a hard reset (neuroprune.to_hard_reset(model) before training, as docs/snntorch-to-chip.md"
            ' says; by hand SpikingJelly: v_reset=0.0; snnTorch: reset_mechanism="zero", reset_delay=False), or pass'
            " approximate=True, which resets to zero anyway (spike_difference measures what that does)"
        )

    def lower(self, neuron: LIF, scale: float, formats: NumberFormats) -> Cuba:
        """v counts in 1/64: without decays it is a multiple of 64, and v ≥ level means v > level − 1.

        With them, v > level differs from v ≥ level only where the two are equal, v > level − 1 by a whole unit.
        """
        level = round(neuron.v_threshold * scale)
        decays = {"v_decay": formats.decay(neuron.v_decay), "i_decay": formats.decay(neuron.i_decay)}
        chip = self._neuron(level, **decays)
        return chip if neuron.strict or chip.has_fractions else self._neuron(level - 1, **decays)

    def lift(self, neuron: ChipNeuron, scale: float) -> LIF:
        """Half a unit of v below the smallest value that fires, so that the rounding of reals cannot matter."""
        assert isinstance(neuron, Cuba)
        level = neuron.v_threshold + (0.5 / (1 << FRACTION_BITS) if neuron.has_fractions else 0.5)
        return LIF(level / scale, neuron.v_decay / UNITY, i_decay=neuron.i_decay / UNITY)

    def whole(self, network: ChipNetwork) -> Whole | None:  # noqa: ARG002 - as all of Loihi's networks
        """None: sums in 24 or 32 bits wrap around, in any order alike."""
        return None

    def engine(
        self,
        network: ChipNetwork,
        population: Population,
        *,
        largest: float,
        resets: frozenset[int],
        losses: Losses,
        device: torch.device,
        neuron_steps: int,
    ) -> Engine:
        """`engine.LoihiEngine`."""
        from hw_targets.targets.loihi.dynamics.engine import LoihiEngine

        return LoihiEngine(
            network,
            population,
            largest=largest,
            resets=resets,
            losses=losses,
            device=device,
            neuron_steps=neuron_steps,
        )

    def clock(
        self,
        timing: str,  # noqa: ARG002 - there is one
        network: ChipNetwork,
        samples: int,
        *,
        reset: bool,
        reset_offset: int | None,
    ) -> Clock:
        """`netx.clock.NetxClock`."""
        from hw_targets.targets.loihi.netx.clock import NetxClock

        return NetxClock.start(network, network.time_steps, samples, reset=reset, reset_offset=reset_offset)

    def may_fire(self, neuron: ChipNeuron, high: Ints, low: Ints, bias: Ints, steps: int) -> Mask:
        """The highest current in every step, of neurons that never fire, stays at or below the threshold.

        A current may wrap around 24 bits, to the highest ones from the lowest: where one can, nothing is proven.
        """
        assert isinstance(neuron, Cuba)
        never = Cuba(LIMIT >> FRACTION_BITS, neuron.v_decay, neuron.i_decay)
        zero = np.zeros(high.shape, np.int64)
        up = down = State(zero, zero)
        highest = np.full(high.shape, -LIMIT, np.int64)
        wraps = np.zeros(high.shape, np.bool_)
        for _ in range(steps):
            rising, falling = step(never, up, high, bias), step(never, down, low, bias)
            up, down = rising.state, falling.state
            highest = np.maximum(highest, up.v)
            wraps |= rising.wrapped | falling.wrapped
        result: Mask = (highest > (neuron.v_threshold << FRACTION_BITS)) | wraps
        return result

    def row_counter(self, neuron: ChipNeuron) -> RowCounter | None:
        """`rows.differing_spikes`."""
        assert isinstance(neuron, Cuba)
        return partial(rows.differing_spikes, neuron) if neuron.i_decay == UNITY else None

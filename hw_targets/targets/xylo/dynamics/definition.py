"""Xylo's neuron as the rest of the package knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.dynamics import Clock, Engine, Ints, Losses, Mask, RowCounter, Whole
from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import ChipNetwork, Population
from hw_targets.ir.neurons import LIF, ChipNeuron
from hw_targets.targets.xylo.arithmetic import HIGH, MOST_HIDDEN, MOST_INPUT, decrement, saturated
from hw_targets.targets.xylo.dynamics.step import charged

if TYPE_CHECKING:
    import torch

#: A network is at most as deep as a chip has hidden neurons: steps that biases may charge it ahead of its input.
DEEPEST = 1000


class XyloDynamics:
    """`XyloNeuron`: many spikes a step, a reset by subtraction, decays that are bit shifts, sums that saturate."""

    name = "xylo"
    max_spikes = MOST_HIDDEN
    most_input = MOST_INPUT
    timings: tuple[str, ...] = ()

    def __init__(self, neuron: type[Any]) -> None:
        """`neuron` is the class of the integer neurons."""
        self._neuron = neuron

    def refusal(self, neuron: LIF) -> str | None:
        """Every real-valued neuron: the rounding of bit shifts has no counterpart in it."""
        return (
            f"{neuron.reset_in_words} in real numbers, but Xylo's neurons decay by bit shifts of integers, with"
            " a current that lasts over steps; train with hw_targets.XyloLayer, which computes what the chip does, or"
            " pass approximate=True for the nearest integers (spike_difference measures what that does)"
        )

    def lower(self, neuron: LIF, scale: float, formats: NumberFormats) -> ChipNeuron:  # noqa: ARG002 - the contract's
        """Never asked: `Target.integers` makes a network's integers as a whole.

        Raises:
            InvalidNetwork: always.
        """
        raise InvalidNetwork("lower: Xylo's populations share weight shifts, so that networks are lowered as a whole")

    def lift(self, neuron: ChipNeuron, scale: float) -> ChipNeuron:
        """Itself: no real-valued neuron does what it does.

        Raises:
            InvalidNetwork: a scale other than that of its own integers.
        """
        if scale != 1.0:
            raise InvalidNetwork(f"dequantize: Xylo's neurons have no counterpart on a scale of {scale:g}")
        return neuron

    def whole(self, network: ChipNetwork) -> Whole:
        """`core.Core`: what saturates depends on the order of all synapses of a neuron."""
        from hw_targets.targets.xylo.core import Core

        return Core(network)

    def engine(
        self,
        network: ChipNetwork,  # noqa: ARG002 - the contract's, all of them
        population: Population,
        *,
        largest: float,  # noqa: ARG002
        resets: frozenset[int],  # noqa: ARG002
        losses: Losses,  # noqa: ARG002
        device: torch.device,  # noqa: ARG002
        neuron_steps: int,  # noqa: ARG002
    ) -> Engine:
        """Never asked: `whole` runs all populations together.

        Raises:
            InvalidNetwork: always.
        """
        raise InvalidNetwork(f"{population.name}: Xylo's populations run together, not one by one")

    def clock(self, timing: str, network: ChipNetwork, samples: int, *, reset: bool, reset_offset: int | None) -> Clock:  # noqa: ARG002
        """Never asked: `timings` is empty.

        Raises:
            InvalidNetwork: always.
        """
        raise InvalidNetwork(f"emulate: Xylo has no timing {timing!r}; every sample starts from cleared states")

    def may_fire(self, neuron: ChipNeuron, high: Ints, low: Ints, bias: Ints, steps: int) -> Mask:  # noqa: ARG002
        """The highest current in every step, of neurons that never fire, stays below the threshold.

        A step keeps the order of states, and negative weights, at either end of 16 bits, only lower them.
        """
        assert isinstance(neuron, self._neuron)
        isyn: Ints = np.zeros(high.shape, np.int64)
        vmem: Ints = np.zeros(high.shape, np.int64)
        highest = np.full(high.shape, -HIGH - 1, np.int64)
        dash = np.full(high.shape, neuron.dash_mem, np.int64)
        for _ in range(steps + DEEPEST):
            isyn = saturated(isyn + (high.astype(np.int64) << neuron.shift))
            isyn = isyn - decrement(isyn, neuron.dash_syn)
            before, vmem = vmem, charged(vmem, isyn, bias, dash)
            highest = np.maximum(highest, vmem)
            if np.array_equal(before, vmem) and not (isyn > 0).any():
                break
        result: Mask = highest >= neuron.v_threshold
        return result

    def row_counter(self, neuron: ChipNeuron) -> RowCounter | None:  # noqa: ARG002 - whatever it is
        """None: currents last over several steps."""
        return None

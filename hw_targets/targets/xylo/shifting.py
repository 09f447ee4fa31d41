"""The numbers of Xylo's integer neuron; `neuron.XyloNeuron` is the neuron."""

from __future__ import annotations

from dataclasses import dataclass

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.neurons import ChipNeuron
from hw_targets.targets.xylo.arithmetic import (
    LARGEST_DASH,
    LARGEST_SHIFT,
    LARGEST_THRESHOLD,
    MOST_HIDDEN,
    MOST_OUTPUT,
)


@dataclass(frozen=True)
class Shifting(ChipNeuron):
    """The neurons of one population, all alike; `dynamics.step` has their equations.

    Weights are the chip's 8-bit ones, and come in shifted to the left; a bias is added to the potential as it is.

    Attributes:
        v_threshold: subtracted for every spike.
        dash_mem: the potential decays by a factor of 1 − 2^−dash_mem.
        dash_syn: likewise the current; 0 swallows the input.
        shift: bits by which incoming weights are shifted.
        most: spikes in a step at most: 31 of a hidden neuron, 1 of an output.

    Raises:
        InvalidNetwork: numbers that the chip does not hold.
    """

    v_threshold: int
    dash_mem: int
    dash_syn: int
    shift: int = 0
    most: int = MOST_HIDDEN

    def __post_init__(self) -> None:
        ranges = {
            "v_threshold": (1, LARGEST_THRESHOLD),
            "dash_mem": (0, LARGEST_DASH),
            "dash_syn": (0, LARGEST_DASH),
            "shift": (0, LARGEST_SHIFT),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidNetwork(f"a Xylo neuron's {name} is {getattr(self, name)}, but lies in {low} … {high}")
        if self.most not in (MOST_HIDDEN, MOST_OUTPUT):
            raise InvalidNetwork(
                f"a Xylo neuron sends up to {self.most} spikes a step, but hidden ones send up to {MOST_HIDDEN} and"
                f" outputs {MOST_OUTPUT}"
            )

    @property
    def most_sent(self) -> int:
        """`most`."""
        return self.most

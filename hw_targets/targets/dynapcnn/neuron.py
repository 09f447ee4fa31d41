"""DYNAP-CNN's integer neuron."""

from __future__ import annotations

from dataclasses import dataclass

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.dynamics import Dynamics
from hw_targets.ir.neurons import ChipNeuron
from hw_targets.targets.dynapcnn.arithmetic import MOST_SENT, STATE_HIGH, STATE_LOW
from hw_targets.targets.dynapcnn.dynamics.definition import DynapcnnDynamics


@dataclass(frozen=True)
class IAF(ChipNeuron):
    """The neurons of one core, all alike; `dynamics/step.py` has their equations.

    Attributes:
        v_threshold: spikes are the multiples of it that the potential reaches.
        v_min: the potential never stays below it.
        subtracts: whether a spike takes the threshold off the potential; otherwise it clears it.

    Raises:
        InvalidNetwork: numbers that 16 bits do not hold, or a lower bound above 0.
    """

    v_threshold: int
    v_min: int = STATE_LOW
    subtracts: bool = True

    def __post_init__(self) -> None:
        if not (1 <= self.v_threshold <= STATE_HIGH and STATE_LOW <= self.v_min <= 0):
            raise InvalidNetwork(
                f"a DYNAP-CNN neuron has the threshold {self.v_threshold} and the lower bound {self.v_min}, but they"
                f" lie in 1 … {STATE_HIGH} and {STATE_LOW} … 0"
            )

    @property
    def most_sent(self) -> int:
        """As often as 16 bits hold the threshold, and no more than an activity's bytes do."""
        return min(MOST_SENT, STATE_HIGH // self.v_threshold)

    @property
    def dynamics(self) -> Dynamics:
        """What `hw_targets.targets.dynapcnn` says of it."""
        return DYNAMICS


DYNAMICS = DynapcnnDynamics(IAF)

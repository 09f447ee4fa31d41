"""Xylo's integer neuron."""

from __future__ import annotations

from dataclasses import dataclass

from hw_targets.ir.dynamics import Dynamics
from hw_targets.targets.xylo.dynamics.definition import XyloDynamics
from hw_targets.targets.xylo.shifting import Shifting


@dataclass(frozen=True)
class XyloNeuron(Shifting):
    """A neuron of Xylo: decays by bit shifts, a reset by subtraction, up to 31 spikes a step.

    `dynamics.step` has its equations, and what they were held to.
    """

    @property
    def dynamics(self) -> Dynamics:
        """What `hw_targets.targets.xylo` says of it."""
        return DYNAMICS


DYNAMICS = XyloDynamics(XyloNeuron)

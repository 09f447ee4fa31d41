"""Loihi's integer neuron, and the widths of its states."""

from __future__ import annotations

from dataclasses import dataclass

from hw_targets.ir.dynamics import Dynamics
from hw_targets.ir.neurons import ChipNeuron
from hw_targets.ir.populations import Population

#: Decays count in 1/4096.
DECAY_BITS = 12
UNITY = 1 << DECAY_BITS
#: States have 24 bits, of which 6 lie below the weights' unit.
STATE_BITS, FRACTION_BITS = 24, 6
LIMIT = 1 << (STATE_BITS - 1)


def cuba_of(population: Population) -> CubaLIF | None:
    """A population's neuron, where it is Loihi's."""
    return population.neuron if isinstance(population.neuron, CubaLIF) else None


@dataclass(frozen=True)
class CubaLIF(ChipNeuron):
    """Loihi's current-based neuron in integers, the subset netx loads (all decays in 1/4096).

    u ← rz(u·(4096 − i_decay)) + (a << 6);  v ← rz(v·(4096 − v_decay)) + u + (bias << 6);
    s = [v > (v_threshold << 6)];  v ← 0 where s;  rz(x) = sign(x)·(|x| >> 12).
    Source: lava-nc 0.10.0 `proc/lif/models.py` and `netx/hdf5.py` (lava-dl 0.6.0), du = iDecay − 1.
    """

    v_threshold: int
    v_decay: int = 0
    i_decay: int = UNITY

    @property
    def dynamics(self) -> Dynamics:
        """`dynamics.definition`."""
        from hw_targets.targets.loihi.dynamics.definition import DYNAMICS

        return DYNAMICS

    @property
    def has_fractions(self) -> bool:
        """Whether a potential is not always a whole number of the weights' unit."""
        return self.v_decay not in (0, UNITY) or self.i_decay not in (0, UNITY)

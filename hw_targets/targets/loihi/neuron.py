"""Loihi's integer neuron."""

from __future__ import annotations

from dataclasses import dataclass

from hw_targets.ir.dynamics import Dynamics
from hw_targets.targets.loihi.arithmetic import Cuba
from hw_targets.targets.loihi.dynamics.definition import LoihiDynamics


@dataclass(frozen=True)
class CubaLIF(Cuba):
    """Loihi's current-based neuron in integers, the subset netx loads (all decays in 1/4096).

    u ← rz(u·(4096 − i_decay)) + (a << 6);  v ← rz(v·(4096 − v_decay)) + u + (bias << 6);
    s = [v > (v_threshold << 6)];  v ← 0 where s;  rz(x) = sign(x)·(|x| >> 12).
    Source: lava-nc 0.10.0 `proc/lif/models.py` and `netx/hdf5.py` (lava-dl 0.6.0), du = iDecay − 1.
    """

    @property
    def dynamics(self) -> Dynamics:
        """What `hw_targets.targets.loihi` says of it."""
        return DYNAMICS


DYNAMICS = LoihiDynamics(CubaLIF)

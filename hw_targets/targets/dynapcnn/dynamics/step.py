"""One step of DYNAP-CNN's integrate-and-fire neurons as sinabs 3.1.3 computes it: the one definition.

With a whole step's current x (the bias is part of it in every step), threshold θ and lower bound m,

    v ← v + x;   s = ⌊max(v, 0) / θ⌋;   v ← v − s·θ, or 0 where s > 0;   v ← max(v, m).

Source: sinabs 3.1.3 `layers/functional/lif.py`, `activation/spike_generation.py` (MultiSpike) and
`activation/reset_mechanism.py`. The chip itself is asynchronous: it compares after every event, where sinabs sums a
step first, so that this equals sinabs, and the chip only as far as sinabs does.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Stepped(NamedTuple):
    """Spikes of a step and the potential after it, both whole numbers in the shape of the current."""

    spikes: Tensor
    potential: Tensor


def step(potential: Tensor, current: Tensor, *, v_threshold: int, v_min: int, subtracts: bool) -> Stepped:
    """One step of neurons whose potentials and currents are whole numbers, in any type that holds their sum.

    Args:
        potential: before the step.
        current: that arrives, bias included.
        v_threshold: θ ≥ 1.
        v_min: m ≤ 0.
        subtracts: whether a spike takes θ off the potential; otherwise any spike clears it.
    """
    charged = potential + current
    spikes = torch.div(charged.clamp(min=0), v_threshold, rounding_mode="floor")
    left = charged - spikes * v_threshold if subtracts else charged.where(spikes == 0, torch.zeros_like(charged))
    return Stepped(spikes, left.clamp(min=v_min))

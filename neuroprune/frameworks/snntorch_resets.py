"""Changing how snnTorch 1.0's neurons reset, in place."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import nn

from neuroprune._require import require
from neuroprune.frameworks.base import NeuronEquation, UnsupportedNeuron
from neuroprune.frameworks.snntorch_equations import computed, equation, said

snn = require("snntorch", "snntorch")

_RESETTING = (snn.Leaky, snn.Synaptic, snn.RLeaky)
_PROMPT = {
    snn.Alpha: "use Synaptic(alpha, beta, reset_delay=False)",
    snn.Lapicque: "use Leaky(beta=1 - time_step / (R * C)), and multiply the layer before by time_step / C",
    snn.RSynaptic: "use RLeaky(beta, reset_delay=False)",
}


def make_hard_reset(module: nn.Module) -> bool:
    """Make a neuron reset to zero in the step it fires; whether that changed it.

    snnTorch chooses what a neuron computes when it is made: `reset_mechanism = "zero"` alone changes half of it.

    Raises:
        UnsupportedNeuron: snnTorch has no such reset for it.
    """
    node: Any = module
    if type(module) in _PROMPT and computed(node) == said(node) == "none":
        return False
    if type(module) in _PROMPT:
        raise UnsupportedNeuron(
            f"{type(module).__name__} resets one step late in snnTorch 1.0; {_PROMPT[type(module)]}"
        )
    if type(module) not in _RESETTING:
        equation(module)  # raises for what is not read at all
        return False
    if said(node) == computed(node) and (said(node) == "none" or _is_hard(equation(module))):
        return False
    node.reset_mechanism, node.state_function, node.reset_delay = "zero", node._base_zero, False
    return True


def make_sum(module: nn.Module) -> bool:
    """Make a Leaky sum its input, v ← v + x, and never fire; whether that changed it.

    Raises:
        UnsupportedNeuron: another neuron.
    """
    if type(module) is not snn.Leaky:
        raise UnsupportedNeuron(
            f"{type(module).__name__} is more than a sum whatever its decay; use snntorch.Leaky there"
        )
    node: Any = module
    before = (float(node.beta.max()), float(node.threshold.max()), computed(node))
    for name, value in (("beta", 1.0), ("threshold", inf)):
        like = getattr(node, name).detach()
        node._parameters.pop(name, None)  # what was learned must not go on
        node.register_buffer(name, torch.full_like(like, value))
    node.reset_mechanism, node.state_function = "none", node._base_int
    return before != (1.0, inf, "none")


def _is_hard(found: NeuronEquation) -> bool:
    return found.reset == "zero" and not found.reset_delay

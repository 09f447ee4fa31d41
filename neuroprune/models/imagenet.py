"""Networks of published ImageNet runs whose makers take classes as arguments, which a recipe cannot name."""

from __future__ import annotations

from typing import Any

from torch import nn

from neuroprune._require import require


def sew_resnet18(*, classes: int = 1000, cnf: str = "ADD") -> nn.Module:
    """SpikingJelly's SEW ResNet-18 (Fang et al., NeurIPS 2021), multi-step, with IF neurons.

    As published: hard reset to 0, threshold 1, the reset left out of the gradient, surrogate ATan. Takes
    (T, N, 3, H, W); returns the readout of every step, to be averaged over time.

    Args:
        classes: outputs.
        cnf: how a block joins its branches: "ADD" (as published), "AND" or "IAND".
    """
    functional = require("spikingjelly.activation_based.functional", "spikingjelly")
    neuron = require("spikingjelly.activation_based.neuron", "spikingjelly")
    sew_resnet = require("spikingjelly.activation_based.model.sew_resnet", "spikingjelly")
    surrogate = require("spikingjelly.activation_based.surrogate", "spikingjelly")
    options: dict[str, Any] = {"surrogate_function": surrogate.ATan(), "detach_reset": True}
    if cnf not in ("ADD", "AND", "IAND"):
        raise ValueError(f'cnf must be "ADD", "AND" or "IAND", got {cnf!r}')
    model: nn.Module = sew_resnet.sew_resnet18(
        pretrained=False, num_classes=classes, cnf=cnf, spiking_neuron=neuron.IFNode, **options
    )
    functional.set_step_mode(model, "m")
    return model

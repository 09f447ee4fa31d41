"""Why modules are refused that have no exact counterpart on a spiking chip, and what to use instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from neuroprune.frameworks import Framework

_OWN_STATISTICS = "normalises each sample by its own mean and variance, which depend on all of its neurons at once"
_NO_SPIKE = "is a non-linearity of currents without a threshold, so that what it sends is no spike"
_USE_NORM = "use a BatchNorm, whose statistics are fixed after training"
_USE_NEURON = "use spiking neurons there"

#: Names of classes, those of torch and of frameworks, with the true reason and an alternative that is read exactly.
_REASONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("GroupNorm", "LayerNorm", "InstanceNorm1d", "InstanceNorm2d", "LocalResponseNorm", "RMSNorm"),
        f"{_OWN_STATISTICS}; {_USE_NORM}",
    ),
    **dict.fromkeys(
        ("ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "GELU", "SiLU", "Tanh", "Hardtanh", "Softplus"),
        f"{_NO_SPIKE}; {_USE_NEURON}, or convert the network (spikingjelly.activation_based.ann2snn)",
    ),
}


def reason_against(path: Sequence[nn.Module], names: Mapping[nn.Module, str], framework: Framework) -> str | None:
    """Of the modules that are being run, outermost first, the first that is known to be refused: name and reason."""
    for module in path:
        reason = framework.advice(module) or _REASONS.get(type(module).__name__)
        if reason is not None:
            return f"{names.get(module, '') or 'the model'} ({type(module).__name__}) {reason}"
    return None

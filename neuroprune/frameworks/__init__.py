"""Surrogate-gradient frameworks: which of their modules are neurons, what these compute, and how state is reset.

A framework is one file here, named like the package it speaks for, with a class that satisfies `Framework`, plus its
name in `FRAMEWORKS`. It is imported only for a model that holds modules of that package. Modules of no package
that is named here, such as neurons that compute a chip's integers, bring theirs: their class has an attribute
`neuron_framework`.
"""

from __future__ import annotations

import importlib
from typing import cast

from torch import nn

from neuroprune.frameworks.base import Framework, NeuronEquation, Recurrent, UnsupportedNeuron, spikes_of

#: Packages with a framework; each is a module of this package with an attribute `FRAMEWORK`.
FRAMEWORKS = ("spikingjelly", "snntorch", "lava", "sinabs")

__all__ = ["FRAMEWORKS", "Framework", "NeuronEquation", "Recurrent", "UnsupportedNeuron", "framework_of", "spikes_of"]


def framework_of(model: nn.Module) -> Framework | None:
    """The framework that a model is built with; None for an ordinary network."""
    for module in model.modules():
        if (own := getattr(type(module), "neuron_framework", None)) is not None:
            return cast(Framework, own)
    packages = {cls.__module__.split(".")[0] for m in model.modules() for cls in type(m).__mro__}
    for name in FRAMEWORKS:
        if name in packages:
            return cast(Framework, importlib.import_module(f"neuroprune.frameworks.{name}").FRAMEWORK)
    return None

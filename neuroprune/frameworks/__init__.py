"""Surrogate-gradient frameworks: which of their modules are neurons, what these compute, and how state is reset.

A framework is one file here, named like the package it speaks for, with a class that satisfies `Framework`, plus its
name in `FRAMEWORKS`. It is imported only for a model that holds modules of that package.
"""

from __future__ import annotations

import importlib
from typing import cast

from torch import nn

from neuroprune.frameworks.base import Framework, NeuronEquation, Recurrent, UnsupportedNeuron, spikes_of

#: Packages with a framework; each is a module of this package with an attribute `FRAMEWORK`.
FRAMEWORKS = ("spikingjelly", "snntorch", "lava")

__all__ = ["FRAMEWORKS", "Framework", "NeuronEquation", "Recurrent", "UnsupportedNeuron", "framework_of", "spikes_of"]


def framework_of(model: nn.Module) -> Framework | None:
    """The framework of the framework a model is built with; None for an ordinary network."""
    packages = {cls.__module__.split(".")[0] for m in model.modules() for cls in type(m).__mro__}
    for name in FRAMEWORKS:
        if name in packages:
            return cast(Framework, importlib.import_module(f"neuroprune.frameworks.{name}").FRAMEWORK)
    return None

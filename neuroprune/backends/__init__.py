"""Surrogate-gradient frameworks: which of their modules are neurons, what these compute, and how state is reset.

A backend is one file here, named like the package it speaks for, with a class that satisfies `Backend`, plus its name
in `BACKENDS`. It is imported only for a model that holds modules of that package.
"""

from __future__ import annotations

import importlib
from typing import cast

from torch import nn

from neuroprune.backends.base import Backend, NeuronEquation, Recurrent, UnsupportedNeuron, spikes_of

#: Packages with a backend; each is a module of this package with an attribute `BACKEND`.
BACKENDS = ("spikingjelly", "snntorch", "lava")

__all__ = ["BACKENDS", "Backend", "NeuronEquation", "Recurrent", "UnsupportedNeuron", "backend_of", "spikes_of"]


def backend_of(model: nn.Module) -> Backend | None:
    """The backend of the framework a model is built with; None for an ordinary network."""
    packages = {cls.__module__.split(".")[0] for m in model.modules() for cls in type(m).__mro__}
    for name in BACKENDS:
        if name in packages:
            return cast(Backend, importlib.import_module(f"neuroprune.backends.{name}").BACKEND)
    return None

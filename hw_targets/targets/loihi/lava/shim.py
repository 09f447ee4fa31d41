"""Importing Lava, frozen upstream at Python 3.10, on later versions; and without what a check does not need."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest import mock

#: What netx imports of lava-dl's training half (and that of torch, matplotlib and video tools), and what it takes from
#: it: the parameters of resonating neurons, which no file that `export_netx` writes has.
TRAINING = {"lava.lib.dl.slayer.neuron.rf": ("neuron_params",), "lava.lib.dl.netx.sequential_modules": ()}


@contextmanager
def lava_importable() -> Iterator[None]:
    """Let lava-nc 0.10.0 import on Python ≥ 3.11: a dataclass default must be hashable, its `ByteEncoder` is not.

    Import Lava inside the block: `with lava_importable(): from lava.lib.dl.netx.hdf5 import Network`.
    """
    original: Any = dataclasses.dataclass

    def patched(cls: Any = None, /, **options: Any) -> Any:
        made = original(cls, **options)
        if cls is not None and cls.__name__ == "ByteEncoder":
            made.__hash__ = object.__hash__
        return made

    with mock.patch.object(dataclasses, "dataclass", patched):
        yield


@contextmanager
def without_training() -> Iterator[None]:
    """Let netx import without lava-dl's training half: 4 of 5 seconds, and most of what each of Lava's forks copies."""
    for module, names in TRAINING.items():
        sys.modules[module] = types.ModuleType(module)
        for name in names:
            setattr(sys.modules[module], name, None)
    try:
        yield
    finally:
        for module in TRAINING:
            del sys.modules[module]


def once_per_class(find: Callable[[Any], list[Any]], known: Mapping[type, list[Any]]) -> Callable[..., list[Any]]:
    """Lava's search for the models of a process, done once for each class, of which alone its answer depends.

    For every process it executes every file in its folder again: 0.2 s of CPU a network, more than it computes.
    """
    found = dict(known)

    @wraps(find)
    def search(proc: Any) -> list[Any]:
        if type(proc) not in found:
            found[type(proc)] = find(proc)
        return list(found[type(proc)])

    return search

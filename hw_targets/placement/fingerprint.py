"""A short name for a network's exact content, by which a placement file knows the network it belongs to."""

from __future__ import annotations

import hashlib

import numpy as np

from hw_targets.ir.network import Array, ChipNetwork


def fingerprint(network: ChipNetwork) -> str:
    """SHA-256 over populations, weights, biases and delays; order and integer widths do not matter to it."""
    digest = hashlib.sha256()
    for population in sorted(network.populations, key=lambda p: p.name):
        digest.update(repr((population.name, population.shape, population.neuron)).encode())
        _add(digest, population.bias)
    for group in sorted(network.synapses, key=lambda s: s.name):
        op = group.op
        digest.update(repr((group.name, type(op).__name__, op.layout)).encode())
        _add(digest, op.weight)
        _add(digest, group.delay)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, values: Array | None) -> None:
    if values is None:
        digest.update(b"none")
    else:
        digest.update(repr(values.shape).encode())
        digest.update(np.ascontiguousarray(values, dtype=np.int64).tobytes())

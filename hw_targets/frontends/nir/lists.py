"""Networks as NIR can hold them: its matrices end in lists of neurons, and no node makes a grid of a list."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.connectivity import edges
from hw_targets.ir.network import Dense, Network, Population, Synapses
from hw_targets.ir.transposed import LARGEST_MATRIX


def listed(network: Network) -> Network:
    """The network with a list of neurons for every grid that a matrix leads to, and for all that follows it.

    Neurons keep their C order and do as before; convolutions from and to such lists become matrices.

    Raises:
        UnsupportedModel: a matrix of more than `LARGEST_MATRIX` numbers.
    """
    names = set[str]()
    for name in network.order:
        ways = [s for s in network.incoming(name) if not s.is_recurrent]
        by_matrix = len(network[name].shape) > 1 and not all(s.op.is_spatial for s in ways)
        if by_matrix or any(s.source in names for s in ways):
            names.add(name)
    if not names:
        return network
    populations = tuple(_as_list(p) if p.name in names else p for p in network.populations)
    matrices: dict[Hashable, Dense] = {}  # one for all that share one
    synapses = tuple(_through_matrix(s, network, matrices) if s.target in names else s for s in network.synapses)
    return replace(network, populations=populations, synapses=synapses)


def _as_list(population: Population) -> Population:
    bias, size = population.bias, population.size
    each = bias if bias is None or bias.size == size else np.repeat(bias, size // bias.size)
    return replace(population, shape=(size,), bias=each)


def _through_matrix(synapses: Synapses, network: Network, known: dict[Hashable, Dense]) -> Synapses:
    if not synapses.op.is_spatial:
        return synapses
    key = (id(synapses.op), network[synapses.source].shape)
    if key not in known:
        known[key] = _matrix(synapses, network)
    return replace(synapses, op=known[key])


def _matrix(synapses: Synapses, network: Network) -> Dense:
    shape = (network[synapses.target].size, network[synapses.source].size)
    if shape[0] * shape[1] > LARGEST_MATRIX:
        raise UnsupportedModel(
            f"to_nir: {synapses.name} follows a matrix onto a grid, so that NIR holds it as a matrix, too: {shape[0]} ×"
            f" {shape[1]} numbers, more than {LARGEST_MATRIX}; use smaller grids"
        )
    found = edges(synapses, network)
    result = np.zeros(shape, synapses.op.weight.dtype)
    result[found.target, found.source] = found.weight
    return Dense(result)

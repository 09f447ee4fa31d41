"""Biases that enter a lasting current, made to enter the potential: an approximation, and noted as one."""

from __future__ import annotations

from dataclasses import replace

from hw_targets.ir.network import LIF, Accumulator, Network, Population


def settled_bias(network: Network) -> Network:
    """The network with biases at the value their currents settle at, b/i_decay, from the first step on.

    `notes` name the populations. A current that never decays settles nowhere, and its bias stays as it is.
    """
    changed = [(p, _settled(p)) for p in network.populations]
    notes = tuple(
        f"{old.name} gets its bias at the value its current settles at, from the first step on"
        for old, new in changed
        if new is not old
    )
    return replace(network, populations=tuple(new for _, new in changed), notes=(*network.notes, *notes))


def _settled(population: Population) -> Population:
    neuron = population.neuron
    if not isinstance(neuron, (LIF, Accumulator)) or not neuron.bias_lasts or population.bias is None:
        return population
    if not neuron.i_decay > 0:  # nor where it differs between neurons, and is NaN
        return population
    return replace(population, neuron=replace(neuron, bias_lasts=False), bias=population.bias / neuron.i_decay)

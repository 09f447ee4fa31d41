"""Neurons that reset in any way, made to reset to zero: an approximation, and noted as one."""

from __future__ import annotations

from dataclasses import replace

from hw_targets.ir.network import Network, Population


def hard_reset(network: Network) -> Network:
    """The network with neurons that reset to zero in the step they fire, one spike a step.

    `notes` name those that did otherwise, and how they reset before. What the neurons send changes: measure it.
    """
    changed = [(p, with_hard_reset(p)) for p in network.populations]
    notes = tuple(
        f"{old.name} {old.lif.reset_in_words}; here it resets to zero in the step it fires"
        for old, new in changed
        if new is not old and old.lif is not None
    )
    return replace(network, populations=tuple(new for _, new in changed), notes=(*network.notes, *notes))


def with_hard_reset(population: Population) -> Population:
    """The population itself where that is what it does."""
    neuron = population.lif
    if neuron is None or neuron.resets_to_zero:
        return population
    plain = replace(neuron, reset="zero", reset_delay=False, max_spikes=1, withholds=False, v_min=None)
    return replace(population, neuron=plain)

"""A network as a target's neurons can run it: exact or, where that was asked for, changed and noted."""

from __future__ import annotations

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.dynamics import Dynamics
from hw_targets.ir.network import LIF, Accumulator, ChipNeuron, Network, Population
from hw_targets.passes.hard_reset import hard_reset
from hw_targets.passes.settled_bias import settled_bias


def lowered(network: Network, dynamics: Dynamics, *, approximate: bool) -> Network:
    """The network, if all of its neurons have exact counterparts.

    With `approximate` what resets in another way resets to zero in the step it fires, one spike a step, where the
    target has that, biases of lasting currents enter at the value they settle at, and the notes say which neurons
    these are, and how they reset before.

    Raises:
        UnsupportedModel: a neuron without a counterpart; the message names it, and what to use instead.
    """
    if approximate and _first_refusal(network, dynamics) is not None:
        network = hard_reset(settled_bias(network))
    if (refusal := _first_refusal(network, dynamics)) is not None:
        raise UnsupportedModel(f"quantize: {refusal}")
    return network


def _first_refusal(network: Network, dynamics: Dynamics) -> str | None:
    for population in network.populations:
        neuron, lif = population.neuron, population.lif
        if isinstance(neuron, Accumulator) and neuron.leaks:
            return (
                f"{population.name} reads out a potential that leaks ({_leak(neuron)}), but a chip's readout sums"
                " without leak; end in a linear layer without neurons, or make these neurons sum before training"
                f' (neuroprune.to_hard_reset(model, readout="{population.name}"), as docs/snntorch-to-chip.md says)'
            )
        if isinstance(neuron, ChipNeuron) and neuron.dynamics.name != dynamics.name:
            return (
                f"{population.name} was trained in the integers of {neuron.dynamics.name}, and the chip is of the"
                f" family {dynamics.name}; take a chip of the former, or train with neurons that it has"
            )
        if lif is not None and (reason := _beyond_chips(population, lif)) is not None:
            return f"{population.name} {reason}"
        if lif is not None and (reason := dynamics.refusal(lif)) is not None:
            return f"{population.name} {reason}"
    return None


def _leak(neuron: Accumulator) -> str:
    several = neuron.beyond_one_leak
    return f"it {several}" if several else f"v_decay {neuron.v_decay:g}, i_decay {neuron.i_decay:g}"


def _beyond_chips(population: Population, neuron: LIF) -> str | None:
    """What no target here has, and what to use instead."""
    if (found := neuron.beyond_one_leak) is not None:
        instead = (
            "use neurons with a current instead (snnTorch: Synaptic)"
            if neuron.difference
            else "give the layer one decay, learned or not (snnTorch: learn_beta=True with a single beta)"
        )
        return f"{found}, but the neurons of a population share one leak on a chip; {instead}"
    if neuron.bias_lasts and population.bias is not None and population.bias.any():
        return (
            "adds a bias to a synaptic current that lasts over steps, but the chip adds biases to the potential; train"
            " the layer before with bias=False and no batch-norm, or pass approximate=True to add the value that the"
            " current of the bias settles at"
        )
    return None

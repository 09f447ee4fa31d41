"""A network as a target's neurons can run it: exact or, where that was asked for, changed and noted."""

from __future__ import annotations

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.dynamics import Dynamics
from hw_targets.ir.network import Network
from hw_targets.ir.neurons import Accumulator
from hw_targets.passes.hard_reset import hard_reset


def lowered(network: Network, dynamics: Dynamics, *, approximate: bool) -> Network:
    """The network, if all of its neurons have exact counterparts.

    With `approximate` what resets in another way resets to zero in the step it fires, one spike a step, where the
    target has that, and the notes say which neurons and how they reset before.

    Raises:
        UnsupportedModel: a neuron without a counterpart; the message names it, and what to use instead.
    """
    if approximate and _first_refusal(network, dynamics) is not None:
        network = hard_reset(network)
    if (refusal := _first_refusal(network, dynamics)) is not None:
        raise UnsupportedModel(f"quantize: {refusal}")
    return network


def _first_refusal(network: Network, dynamics: Dynamics) -> str | None:
    for population in network.populations:
        neuron, lif = population.neuron, population.lif
        if isinstance(neuron, Accumulator) and neuron.leaks:
            return (
                f"{population.name} reads out a potential that leaks (v_decay {neuron.v_decay:g}, i_decay"
                f" {neuron.i_decay:g}), but a chip's readout sums without leak; end in a linear layer without neurons"
            )
        if lif is not None and (reason := dynamics.refusal(lif)) is not None:
            return f"{population.name} {reason}"
    return None

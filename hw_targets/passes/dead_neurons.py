"""Removing neurons that change nothing: those nobody hears, and those that cannot reach their threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hw_targets.errors import InvalidNetwork, check_type
from hw_targets.ir.network import Array, ChipNetwork, Population, Synapses
from hw_targets.ir.neurons import ChipNeuron
from hw_targets.ir.units import between, leaving, reaching

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def remove_dead_neurons(network: ChipNetwork) -> ChipNetwork:
    """The network without what cannot matter to its outputs; every neuron that stays spikes as before.

    Whole channels of a convolution and single neurons of a dense layer go, with all their synapses, when

    - no non-zero synapse leads from them to a neuron that stays (outputs always stay), or
    - they cannot fire: with every source that can fire active in every step through its positive weights, the potential
      stays at or below the threshold over all `time_steps`, in the target's own integers.

    A single position of a convolutional channel does not go: populations are whole grids, and the kernel is shared.
    Of a population that is dead altogether one channel stays, since populations are never empty. Inputs stay as they
    are. Recurrent populations stay, and so does whatever they hear.

    Raises:
        InvalidNetwork: something else than a chip network, or one of which nobody said how many steps a sample lasts.
    """
    check_type("remove_dead_neurons", network, ChipNetwork, "the network that quantize gives")
    if network.steps_assumed:
        raise InvalidNetwork(
            "remove_dead_neurons: how many steps a sample lasts is unknown, and so is what cannot fire within them;"
            " pass time_steps to read_netx"
        )
    while True:
        keep = _kept(network)
        if all(mask.all() for mask in keep.values()):
            return network
        network = _without(network, keep)


def _kept(network: ChipNetwork) -> dict[str, Mask]:
    """For each population which channels (of a (C, H, W) one) or neurons stay."""
    fires: dict[str, Mask] = {}
    for name in network.order:
        fires[name] = _can_fire(network, name, fires)
    heard: dict[str, Mask] = {}
    for name in reversed(network.order):
        heard[name] = _is_heard(network, name, fires, heard)
    keep = {}
    for population in network.populations:
        name = population.name
        mask = fires[name] & heard[name]
        if _is_fixed(network, population):
            mask = np.ones_like(mask)
        elif not mask.any():
            mask[0] = True
        keep[name] = mask
    return keep


def _is_fixed(network: ChipNetwork, population: Population) -> bool:
    """Inputs, outputs, accumulators, flattened convolutions, recurrent synapses, biases of each neuron's own."""
    outgoing, channels = network.outgoing(population.name), population.shape[0]
    ops = [group.op for group in network.incoming(population.name)]
    return (
        population.is_input
        or not outgoing
        or not population.neuron.fires
        or any(group.is_recurrent for group in outgoing)
        or population.has_neuron_biases
        or any(op.is_spatial and len(op.weight) != channels for op in ops)
    )


def _units(population: Population) -> int:
    """Channels of a grid, or neurons."""
    return population.shape[0]


def _can_fire(network: ChipNetwork, name: str, fires: Mapping[str, Mask]) -> Mask:
    """Channels or neurons whose potential may exceed the threshold within the network's steps."""
    population = network[name]
    everyone = np.ones(_units(population), dtype=bool)
    neuron = population.neuron
    if not isinstance(neuron, ChipNeuron) or _is_fixed(network, population):
        return everyone
    drive = np.zeros(everyone.size, dtype=np.int64)
    fall = np.zeros(everyone.size, dtype=np.int64)
    for group in network.incoming(name):
        high, low = _drive(network, group, fires[group.source])
        drive, fall = drive + high, fall + low
    bias = np.zeros_like(drive) if population.bias is None else population.bias.astype(np.int64)
    return neuron.dynamics.may_fire(neuron, drive, fall, bias, network.time_steps)


def _drive(network: ChipNetwork, group: Synapses, fires: Mask) -> tuple[Ints, Ints]:
    """Largest and smallest current a group can send to each channel or neuron of its target in one step.

    The sum of the positive (negative) weights from sources that can fire, times what a source sends at most; for a
    convolution over the whole kernel, as if no tap fell on padding.
    """
    source = network[group.source]
    largest = source.neuron.most_sent
    weight = group.op.weight.astype(np.int64)
    live, units = weight * leaving(group.op, fires, source.size), _units(network[group.target])
    live = live.reshape(len(weight), -1)
    high, low = largest * np.maximum(live, 0).sum(1), largest * np.minimum(live, 0).sum(1)
    return high.reshape(units, -1).max(1), low.reshape(units, -1).min(1)


def _is_heard(network: ChipNetwork, name: str, fires: Mapping[str, Mask], heard: Mapping[str, Mask]) -> Mask:
    """Channels or neurons with a non-zero synapse to one that stays."""
    population = network[name]
    result = np.zeros(_units(population), dtype=bool)
    for group in network.outgoing(name):
        if group.is_recurrent:
            return np.ones_like(result)
        target = network[group.target]
        stays = (
            np.ones(_units(target), dtype=bool)
            if _is_fixed(network, target)
            else (fires[target.name] & heard[target.name])
        )
        result |= reaching(group.op, stays, target.size, result.size)
    return result


def _without(network: ChipNetwork, keep: Mapping[str, Mask]) -> ChipNetwork:
    """The network with only the kept channels and neurons."""
    populations = []
    for p in network.populations:
        mask = keep[p.name]
        bias = p.bias if p.bias is None or mask.all() else p.bias[mask]
        populations.append(replace(p, shape=(int(mask.sum()), *p.shape[1:]), bias=bias))
    size = {p.name: p.size for p in network.populations}
    synapses = tuple(
        replace(
            s,
            op=between(s.op, keep[s.source], keep[s.target], size[s.source], size[s.target]),
            delay=_delay(network, s, keep),
        )
        for s in network.synapses
    )
    return replace(network, populations=tuple(populations), synapses=synapses)


def _delay(network: ChipNetwork, group: Synapses, keep: Mapping[str, Mask]) -> Array | None:
    """Delays between kept neurons."""
    if group.delay is None:
        return None
    delay = group.delay
    if delay.shape[0] > 1:
        target = keep[group.target]
        delay = delay[np.repeat(target, network[group.target].size // target.size)]
    if delay.shape[1] > 1:
        source = keep[group.source]
        delay = delay[:, np.repeat(source, network[group.source].size // source.size)]
    return delay

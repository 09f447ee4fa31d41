"""Relay neurons: copies that carry spikes through a layer to a later one."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from hw_targets.errors import UnsupportedModel, check_type
from hw_targets.ir.network import ChipNetwork, Conv2d, Dense, Population, Synapses
from hw_targets.targets.loihi.arithmetic import Cuba, cuba_of
from hw_targets.targets.loihi.netx.layers import assign_layers, crossings


def insert_relays(network: ChipNetwork) -> ChipNetwork:
    """Make every synapse lead to the very next layer, as netx and a chip without axonal delays need it.

    A relay repeats each of its source's spikes in the same (aligned) step: one synapse of a weight that reaches the
    layer's threshold, and a hard reset. The computation is unchanged; relays are named `source@layer`.

    Raises:
        UnsupportedModel: an image that skips a layer (graded values cannot be relayed), or a layer whose neurons fire
            above the largest weight, so that no single synapse can make a relay fire.
        InvalidNetwork: something else than a chip network.
    """
    check_type("insert_relays", network, ChipNetwork, "the network that quantize gives")
    layers = assign_layers(network)
    populations, synapses = list(network.populations), []
    for layer, names in crossings(network, layers).items():
        for name in names:
            relay, synapse = _relay(network, layers, name, layer)
            populations.append(relay)
            synapses.append(synapse)
    for s in network.synapses:
        last = layers[s.target] - 1
        synapses.append(replace(s, source=_at(s.source, last) if last > layers[s.source] else s.source))
    scales = {**network.scales, **{p.name: 1.0 for p in populations if p.name not in network.scales}}
    return replace(network, populations=tuple(populations), synapses=tuple(synapses), scales=scales)


def _at(name: str, layer: int) -> str:
    return f"{name}@{layer}"


def _relay(network: ChipNetwork, layers: dict[str, int], name: str, layer: int) -> tuple[Population, Synapses]:
    source = network[name]
    if source.neuron.is_graded:
        raise UnsupportedModel(
            f"the image ({name}) feeds a layer {layer + 1} steps deep past others; graded values cannot be relayed:"
            " let the first layer alone read the image"
        )
    neuron = _layer_neuron(network, layers, layer)
    weight = neuron.v_threshold + 1
    if weight > 127:
        raise UnsupportedModel(
            f"layer {layer} fires at {weight}, above the largest weight 127, so {name} cannot be relayed through it;"
            ' quantize(..., for_format="netx") keeps thresholds low enough'
        )
    op: Conv2d | Dense
    if len(source.shape) == 3:
        channels = source.shape[0]
        op = Conv2d(np.full((channels, 1, 1, 1), weight, np.int32), groups=channels)
    else:
        op = Dense(np.eye(prod(source.shape), dtype=np.int32) * np.int32(weight))
    before = _at(name, layer - 1) if layer - 1 > layers[name] else name
    relay = Population(_at(name, layer), source.shape, neuron)
    return relay, Synapses(before, relay.name, op)


def _layer_neuron(network: ChipNetwork, layers: dict[str, int], layer: int) -> Cuba:
    for population in network.populations:
        neuron = cuba_of(population)
        if layers[population.name] == layer and neuron is not None:
            if neuron.i_decay != 4096:
                raise UnsupportedModel(
                    f"{population.name}'s current decays over several steps (i_decay {neuron.i_decay}), so that a relay"
                    f" in its layer {layer} would fire more than once; use neurons without synaptic current there"
                )
            return neuron
    raise UnsupportedModel(f"layer {layer} has no spiking neurons, so no spikes can pass it")

"""A sequential chip network as netx layers: what each holds, or why netx cannot hold it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import ChipNetwork, Conv2d, Pair, Population, Shape, Synapses
from hw_targets.targets.loihi.arithmetic import Cuba, cuba_of
from hw_targets.targets.loihi.netx.layers import assign_layers
from hw_targets.targets.loihi.netx.matrices import matrices
from hw_targets.targets.loihi.netx.stacking import (
    Integers,
    as_grid,
    as_vector,
    check_weights,
    elementwise_max,
    embed,
    offsets,
    span,
    stacked_bias,
    zeros,
)
from hw_targets.targets.loihi.neuron import CubaLIF

#: The largest 17-bit threshold: an accumulator's sum stays below it.
NEVER = (1 << 17) - 1


@dataclass(frozen=True)
class NetxLayer:
    """One layer of the file: populations stacked along the channel axis, and the op that feeds them all.

    `weight` is (out, in, kH, kW) with stride, padding and dilation, or (out, in) for a dense layer. That may have a
    `recurrent` matrix (out, out), and a `delay` that broadcasts to (out, in). In an entry layer, the input's own
    neurons, `weight` is one number.
    """

    populations: tuple[Population, ...]
    weight: Integers
    bias: Integers | None
    neuron: Cuba
    shape: Shape
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    recurrent: Integers | None = None
    delay: Integers | None = None
    is_entry: bool = False

    @property
    def is_conv(self) -> bool:
        """Whether the layer is a convolution."""
        return self.weight.ndim == 4


def netx_layers(network: ChipNetwork) -> tuple[NetxLayer, ...]:
    """All of `each_netx_layer`."""
    return tuple(each_netx_layer(network))


def each_netx_layer(network: ChipNetwork) -> Iterator[NetxLayer]:
    """The layers of a network whose synapses all lead to the very next layer (after `insert_relays`), one by one.

    With relays the weights of one layer can be many times the network's own, nearly all of them zero.

    Raises:
        UnsupportedModel, QuantizationError: as `export_netx`.
    """
    if len(network.inputs) != 1:
        raise UnsupportedModel(f"netx has exactly one input, the network has {[p.name for p in network.inputs]}")
    numbers = assign_layers(network)
    stacks: list[tuple[Population, ...]] = []
    for number in range(max(numbers.values()) + 1):
        stacks.append(tuple(p for p in network.populations if numbers[p.name] == number))
    if unfed := [p.name for p in stacks[0] if not p.is_input]:
        raise UnsupportedModel(
            f"no synapses lead to {', '.join(unfed)}, and netx has only layers that the one before feeds; leave neurons"
            " that fire from their bias alone out, or feed them through synapses of weight 0"
        )
    flat = len(network.inputs[0].shape) == 1
    for before, here in pairwise(stacks):
        layer = _layer(network, before, here, flat=flat)
        flat = flat if layer.is_entry else not layer.is_conv
        yield layer


def _layer(
    network: ChipNetwork, before: tuple[Population, ...], here: tuple[Population, ...], *, flat: bool
) -> NetxLayer:
    """`flat`: the layer before is a vector in netx.

    A convolution of a vector, or beside a matrix, is written as a matrix.
    """
    names = ", ".join(p.name for p in here)
    neurons = {_netx_neuron(p) for p in here}
    if len(neurons) != 1:
        raise UnsupportedModel(
            f"netx gives all neurons of a layer one threshold and one decay, but {names} share a layer and have"
            f' {len(neurons)} different ones; quantize(..., for_format="netx"), and use the same decays in parallel'
            " branches"
        )
    incoming = [s for p in here for s in network.incoming(p.name) if not s.is_recurrent]
    if any(s.immediate for s in incoming):
        return _entry_layer(here, incoming, neurons.pop())
    if flat or not all(s.op.is_spatial for s in incoming):
        weight, recurrent, delay = matrices(network, before, here)
        bias = stacked_bias(tuple(as_vector(p) for p in here))
        return NetxLayer(here, weight, bias, neurons.pop(), (len(weight),), recurrent=recurrent, delay=delay)
    return _conv_layer(network, before, here, neurons.pop(), incoming)


def _netx_neuron(population: Population) -> Cuba:
    cuba = CubaLIF(NEVER) if population.is_readout else cuba_of(population)
    assert cuba is not None
    return cuba


def _entry_layer(here: tuple[Population, ...], incoming: list[Synapses], neuron: Cuba) -> NetxLayer:
    """Neurons of the input layer, each fed by its own input through one and the same weight."""
    population, op = here[0], incoming[0].op
    size = population.shape[0]
    if isinstance(op, Conv2d):
        weight = op.weight.reshape(-1)
        direct = op.weight.shape == (size, 1, 1, 1) and op.groups == size
    else:
        weight = op.weight.diagonal()
        direct = op.weight.shape == (size, size) and np.count_nonzero(op.weight) == np.count_nonzero(weight)
    bias = population.bias
    uniform = len(np.unique(weight)) == 1 and (bias is None or len(np.unique(bias)) == 1)
    if len(here) != 1 or len(incoming) != 1 or not direct or not uniform:
        raise UnsupportedModel(
            f"{', '.join(p.name for p in here)}: netx feeds each neuron of the input layer by its own input, with one"
            " weight and one bias for all"
        )
    if neuron.i_decay != 4096:
        raise UnsupportedModel(
            f"{population.name}: in netx an input layer's input enters as a bias and lasts one step, but this current"
            f" decays over several (i_decay {neuron.i_decay}); use neurons without synaptic current there"
        )
    one_bias = None if bias is None else bias[:1].astype(np.int32).reshape(())
    return NetxLayer(here, weight[:1].astype(np.int32).reshape(()), one_bias, neuron, population.shape, is_entry=True)


def _conv_layer(
    network: ChipNetwork,
    before: tuple[Population, ...],
    here: tuple[Population, ...],
    neuron: Cuba,
    incoming: list[Synapses],
) -> NetxLayer:
    names = ", ".join(p.name for p in here)
    if loops := [s.name for p in here for s in network.incoming(p.name) if s.is_recurrent]:
        raise UnsupportedModel(f"netx has no recurrent convolutions: {', '.join(loops)}; use a dense layer")
    if delayed := [s.name for s in incoming if s.delay is not None]:
        raise UnsupportedModel(f"netx's loader ignores delays of convolutions: {', '.join(delayed)}; use a dense layer")
    ops = [s.op for s in incoming if isinstance(s.op, Conv2d)]
    grids = {op.output_shape(network[s.source].shape)[1:] for s, op in zip(incoming, ops, strict=True)}
    # A 1×1 kernel has no dilation of its own.
    dilations = {op.dilation for op in ops if op.weight.shape[2:] != (1, 1)} or {(1, 1)}
    strides = {op.stride for op in ops}
    if len(grids) != 1 or len(dilations) != 1 or len(strides) != 1:
        raise UnsupportedModel(
            f"netx gives a layer one grid, stride and dilation, but {names} share a layer with grids {sorted(grids)},"
            f" strides {sorted(strides)}, dilations {sorted(dilations)}; give parallel branches the same ones"
        )
    dilation, stride = dilations.pop(), strides.pop()
    padding = elementwise_max([op.padding for op in ops])
    ends = [span(op, padding, dilation) for op in ops]
    kernel = elementwise_max(ends)
    shapes = {s.target: op.output_shape(network[s.source].shape) for s, op in zip(incoming, ops, strict=True)}
    placed = tuple(as_grid(p, shapes[p.name]) for p in here)
    rows, columns = offsets(placed), offsets(before)
    shape = (sum(p.shape[0] for p in placed), *grids.pop())
    weight = zeros((shape[0], sum(p.shape[0] for p in before), *kernel), ops)
    for s, op in zip(incoming, ops, strict=True):
        embed(weight, op, rows[s.target], columns[s.source], padding, dilation)
    check_weights(weight, names)
    # The larger kernel may reach past the last position; the grid is given by the shape, so padding must match it.
    stacked = Conv2d(weight, stride, padding, dilation)
    if stacked.output_shape((weight.shape[1], *before[0].shape[1:]))[1:] != shape[1:]:
        raise UnsupportedModel(
            f"the kernels of {names} do not fit into one convolution with the grid {shape[1:]}; give parallel branches"
            " kernels and paddings with a common centre"
        )
    return NetxLayer(here, weight, stacked_bias(placed), neuron, shape, stride, padding, dilation)

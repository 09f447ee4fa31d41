"""Lava netx (.net), the HDF5 that lava-dl's `netx.hdf5.Network` loads for Loihi.

netx is strictly sequential: every layer reads the one before, and all its neurons share threshold and decay.
Connections that skip layers are carried by relay channels (`hw_targets.relays`), so a layer is a stack of populations
along the channel axis. Format: lava-dl 0.6.0 `netx/hdf5.py`. Load the file with `Network(path, input_message_bits=8,
reset_interval=T, reset_offset=1)` for images; both numbers are attributes of the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hw_targets.errors import QuantizationError, UnsupportedModel, check_type
from hw_targets.files import new_file
from hw_targets.layers import assign_layers
from hw_targets.network import (
    Accumulator,
    ChipNetwork,
    Conv2d,
    CubaLIF,
    GradedInput,
    Pair,
    Population,
    Shape,
    Synapses,
)
from hw_targets.relays import insert_relays

Integers = npt.NDArray[np.int32]

#: The largest 17-bit threshold: an accumulator's sum stays below it.
NEVER = (1 << 17) - 1


@dataclass(frozen=True)
class NetxLayer:
    """One layer of the file: populations stacked along the channel axis, and the op that feeds them all.

    `weight` is (out, in, kH, kW) with stride, padding and dilation, or (out, in) for a dense layer.
    """

    populations: tuple[Population, ...]
    weight: Integers
    bias: Integers | None
    neuron: CubaLIF
    shape: Shape
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def is_conv(self) -> bool:
        """Whether the layer is a convolution."""
        return self.weight.ndim == 4


def export_netx(network: ChipNetwork, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a chip network as a netx file.

    Raises:
        UnsupportedModel: a network that no sequence of netx layers can express; the message names the layers.
        QuantizationError: a dense layer whose weights are all zero (lava-dl's loader divides by the largest).
        InvalidFile: `path` exists and `overwrite` is False.
    """
    import h5py

    check_type("export_netx", network, ChipNetwork, "the network that quantize gives")
    sequential = insert_relays(network)
    layers = netx_layers(sequential)
    entry = sequential.inputs[0]
    with new_file(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["time_steps"] = network.time_steps
        file.attrs["input_message_bits"] = entry.neuron.bits if isinstance(entry.neuron, GradedInput) else 0
        _write(file.create_group("layer/0"), "input", {"shape": np.array(entry.shape)})
        flat, index = len(entry.shape) == 1, 1
        for layer in layers:
            if not layer.is_conv and not flat:
                _write(file.create_group(f"layer/{index}"), "flatten", {"shape": np.array([layer.weight.shape[1]])})
                index += 1
            flat = not layer.is_conv
            group = file.create_group(f"layer/{index}")
            _write_layer(group, layer)
            group.attrs["populations"] = [p.name for p in layer.populations]
            index += 1


def netx_layers(network: ChipNetwork) -> tuple[NetxLayer, ...]:
    """The layers of a network whose synapses all lead to the very next layer (after `insert_relays`).

    Raises:
        UnsupportedModel, QuantizationError: as `export_netx`.
    """
    if len(network.inputs) != 1:
        raise UnsupportedModel(f"netx has exactly one input, the network has {[p.name for p in network.inputs]}")
    numbers = assign_layers(network)
    stacks: list[tuple[Population, ...]] = []
    for number in range(max(numbers.values()) + 1):
        stacks.append(tuple(p for p in network.populations if numbers[p.name] == number))
    return tuple(_layer(network, before, here) for before, here in pairwise(stacks))


def _layer(network: ChipNetwork, before: tuple[Population, ...], here: tuple[Population, ...]) -> NetxLayer:
    names = ", ".join(p.name for p in here)
    neurons = {_netx_neuron(p) for p in here}
    if len(neurons) != 1:
        raise UnsupportedModel(
            f"netx gives all neurons of a layer one threshold and one decay, but {names} share a layer and have"
            f" {len(neurons)} different ones; use the same neuron type in parallel branches"
        )
    incoming = [s for p in here for s in network.incoming(p.name)]
    convolutions = [isinstance(s.op, Conv2d) for s in incoming]
    if not incoming or any(convolutions) != all(convolutions):
        raise UnsupportedModel(f"{names} share a netx layer but are not all convolutions or all dense layers")
    if not all(convolutions):
        return _dense_layer(network, before, here, neurons.pop())
    return _conv_layer(network, before, here, neurons.pop(), incoming)


def _netx_neuron(population: Population) -> CubaLIF:
    if isinstance(population.neuron, Accumulator):
        return CubaLIF(NEVER)
    assert isinstance(population.neuron, CubaLIF)
    return population.neuron


def _dense_layer(
    network: ChipNetwork, before: tuple[Population, ...], here: tuple[Population, ...], neuron: CubaLIF
) -> NetxLayer:
    rows, columns = _offsets(here, whole=True), _offsets(before, whole=True)
    weight = np.zeros((sum(p.size for p in here), sum(p.size for p in before)), np.int32)
    for population in here:
        for s in network.incoming(population.name):
            top, left = rows[s.target], columns[s.source]
            weight[top : top + population.size, left : left + network[s.source].size] += s.op.weight.astype(np.int32)
    if not weight.any():
        raise QuantizationError(
            f"all {weight.size} weights of the dense layer {', '.join(p.name for p in here)} are zero, so nothing"
            " reaches the output (and lava-dl's loader cannot read such a layer); prune less, or put this layer into"
            " a parameter group with prune=False"
        )
    _check_weights(weight, here)
    return NetxLayer(here, weight, _stacked_bias(here), neuron, (len(weight),))


def _conv_layer(
    network: ChipNetwork,
    before: tuple[Population, ...],
    here: tuple[Population, ...],
    neuron: CubaLIF,
    incoming: list[Synapses],
) -> NetxLayer:
    names = ", ".join(p.name for p in here)
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
    padding = _elementwise_max([op.padding for op in ops])
    ends = [_span(op, padding, dilation) for op in ops]
    kernel = _elementwise_max(ends)
    rows, columns = _offsets(here), _offsets(before)
    shape = (sum(p.shape[0] for p in here), *grids.pop())
    weight = np.zeros((shape[0], sum(p.shape[0] for p in before), *kernel), np.int32)
    for s, op in zip(incoming, ops, strict=True):
        _embed(weight, op, rows[s.target], columns[s.source], padding, dilation)
    _check_weights(weight, here)
    # The larger kernel may reach past the last position; the grid is given by the shape, so padding must match it.
    stacked = Conv2d(weight, stride, padding, dilation)
    if stacked.output_shape((weight.shape[1], *before[0].shape[1:]))[1:] != shape[1:]:
        raise UnsupportedModel(
            f"the kernels of {names} do not fit into one convolution with the grid {shape[1:]}; give parallel branches"
            " kernels and paddings with a common centre"
        )
    return NetxLayer(here, weight, _stacked_bias(here), neuron, shape, stride, padding, dilation)


def _check_weights(weight: Integers, here: tuple[Population, ...]) -> None:
    """Loihi's 8 bits hold −128 … 127, or the even integers −256 … 254."""
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    if not (low >= -128 and high <= 127) and ((weight % 2).any() or low < -256 or high > 254):
        raise QuantizationError(
            f"the weights of {', '.join(p.name for p in here)} span {low} … {high}, 8 bits hold -128 … 127, or even"
            " integers -256 … 254; quantize the network with this package's quantize()"
        )


def _span(op: Conv2d, padding: Pair, dilation: Pair) -> Pair:
    """Kernel size that holds an op's taps when its padding is widened to `padding`."""
    if any((p - q) % d for p, q, d in zip(padding, op.padding, dilation, strict=True)):
        raise UnsupportedModel(f"a kernel padded by {op.padding} has no tap grid in common with padding {padding}")
    first = [(p - q) // d for p, q, d in zip(padding, op.padding, dilation, strict=True)]
    # Symmetric growth keeps the output size: as much room is needed after the taps as before them.
    return (op.weight.shape[2] + 2 * first[0], op.weight.shape[3] + 2 * first[1])


def _embed(weight: Integers, op: Conv2d, row: int, column: int, padding: Pair, dilation: Pair) -> None:
    """Add an op's kernel to the stacked one, its taps shifted by the extra padding, its groups unrolled."""
    y, x = ((p - q) // d for p, q, d in zip(padding, op.padding, dilation, strict=True))
    outs, ins, height, width = op.weight.shape
    per_group = outs // op.groups
    for group in range(op.groups):
        r = row + group * per_group
        c = column + group * ins
        weight[r : r + per_group, c : c + ins, y : y + height, x : x + width] += op.weight[
            group * per_group : (group + 1) * per_group
        ].astype(np.int32)


def _offsets(populations: tuple[Population, ...], *, whole: bool = False) -> dict[str, int]:
    """First channel (or, flattened, first neuron) of each stacked population."""
    result, position = {}, 0
    for p in populations:
        result[p.name] = position
        position += p.size if whole else p.shape[0]
    return result


def _stacked_bias(populations: tuple[Population, ...]) -> Integers | None:
    if all(p.bias is None for p in populations):
        return None
    parts = [np.zeros(p.shape[0], np.int32) if p.bias is None else p.bias.astype(np.int32) for p in populations]
    return np.concatenate(parts)


def _elementwise_max(pairs: list[Pair]) -> Pair:
    return (max(p[0] for p in pairs), max(p[1] for p in pairs))


def _write_layer(group: object, layer: NetxLayer) -> None:
    values: dict[str, object] = {"shape": np.array(layer.shape), "weight": layer.weight}
    if layer.bias is not None:
        values["bias"] = layer.bias
    if layer.is_conv:
        values |= {
            "inChannels": layer.weight.shape[1],
            "outChannels": layer.weight.shape[0],
            "kernelSize": np.array(layer.weight.shape[2:]),
            "stride": np.array(layer.stride),
            "padding": np.array(layer.padding),
            "dilation": np.array(layer.dilation),
            "groups": 1,
        }
    else:
        values |= {"inFeatures": layer.weight.shape[1], "outFeatures": layer.weight.shape[0]}
    neuron = {
        "neuron/iDecay": layer.neuron.i_decay,
        "neuron/vDecay": layer.neuron.v_decay,
        "neuron/vThMant": layer.neuron.v_threshold,
        "neuron/refDelay": 1,
        "neuron/gradedSpike": False,
    }
    _write(group, "conv" if layer.is_conv else "dense", values | neuron)
    _write_type(group, "neuron/type", "CUBA")


def _write(group: object, kind: str, values: dict[str, object]) -> None:
    _write_type(group, "type", kind)
    for key, value in values.items():
        group.create_dataset(key, data=value)  # type: ignore[attr-defined]  # h5py has no type information


def _write_type(group: object, key: str, kind: str) -> None:
    group.create_dataset(key, data=np.array([kind], dtype="S10"))  # type: ignore[attr-defined]  # as above

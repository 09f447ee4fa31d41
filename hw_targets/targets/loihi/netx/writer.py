"""Lava netx (.net), the HDF5 that lava-dl's `netx.hdf5.Network` loads for Loihi.

netx is strictly sequential: every layer reads the one before, and all its neurons share threshold and decay.
Connections that skip layers are carried by relay channels (`relays`), so a layer is a stack of populations
along the channel axis. Format: lava-dl 0.6.0 `netx/hdf5.py`. Load the file with `Network(path, input_message_bits=8,
reset_interval=T, reset_offset=1)` for images; both numbers are attributes of the file.
"""

from __future__ import annotations

import os
from itertools import chain

import numpy as np

from hw_targets.errors import check_type
from hw_targets.files.new_hdf5 import new_hdf5
from hw_targets.ir.network import ChipNetwork, Shape
from hw_targets.targets.loihi.arithmetic import Cuba
from hw_targets.targets.loihi.netx.layering import NEVER, NetxLayer, each_netx_layer, netx_layers
from hw_targets.targets.loihi.netx.relays import insert_relays
from hw_targets.targets.loihi.netx.stacking import Integers

#: Bytes of weights that are compressed at a time. Fewer are stored as they are.
CHUNK_BYTES = 1 << 20

__all__ = ["NEVER", "NetxLayer", "export_netx", "netx_layers"]


def export_netx(network: ChipNetwork, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a chip network as a netx file.

    Raises:
        UnsupportedModel: a network that no sequence of netx layers can express; the message names the layers.
        QuantizationError: a dense layer whose weights are all zero (lava-dl's loader divides by the largest).
        InvalidFile: `path` exists and `overwrite` is False, is no place for a file, or the disk takes no more.
    """
    check_type("export_netx", network, ChipNetwork, "the network that quantize gives")
    sequential = insert_relays(network)
    entry = sequential.inputs[0]
    with new_hdf5(path, overwrite=overwrite) as file:
        if not network.steps_assumed:
            file.attrs["time_steps"] = network.time_steps
        file.attrs["input_message_bits"] = entry.neuron.most_sent.bit_length() if entry.neuron.is_graded else 0
        layers = each_netx_layer(sequential)
        first = next(layers)
        entry_neurons = first if first.is_entry else None
        _write_input(file.create_group("layer/0"), entry.shape, entry_neurons)
        flat, index = len(entry.shape) == 1, 1
        for layer in layers if entry_neurons else chain((first,), layers):
            if not layer.is_conv and not flat:
                _write(file.create_group(f"layer/{index}"), "flatten", {"shape": np.array([layer.weight.shape[1]])})
                index += 1
            flat = not layer.is_conv
            group = file.create_group(f"layer/{index}")
            _write_layer(group, layer)
            group.attrs["populations"] = [p.name for p in layer.populations]
            index += 1


def _write_layer(group: object, layer: NetxLayer) -> None:
    values: dict[str, object] = {"shape": np.array(layer.shape)}
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
    if layer.recurrent is not None:
        values["weight_rec"] = layer.recurrent
    if layer.delay is not None:
        values["delay"] = _netx_delay(layer.delay, *layer.weight.shape)
    kind = "conv" if layer.is_conv else "dense" if layer.recurrent is None else "dense_rec"
    _write(group, kind, values)
    _write_weight(group, layer.weight)
    _write_neuron(group, layer.neuron)


def _write_weight(group: object, weight: Integers) -> None:
    """In 8 bits where they suffice; compressed where there are many, since relays leave most of them zero."""
    small = int(weight.min()) >= -128 and int(weight.max()) <= 127
    dtype = np.dtype(np.int8 if small else np.int16)
    rows = max(1, CHUNK_BYTES // (dtype.itemsize * weight[0].size))
    how: dict[str, object] = {}
    if rows < len(weight):
        how = {"chunks": (rows, *weight.shape[1:]), "compression": "gzip", "compression_opts": 1}
    dataset = group.create_dataset("weight", weight.shape, dtype, **how)  # type: ignore[attr-defined]  # h5py is untyped
    for start in range(0, len(weight), rows):
        dataset[start : start + rows] = weight[start : start + rows].astype(dtype)


def _netx_delay(delay: Integers, outputs: int, inputs: int) -> Integers:
    """Delays in the shortest form that the loader reads as these: of all, per output, per input, or per synapse."""
    if delay.size == 1:
        return delay.reshape(())
    if delay.shape == (outputs, 1):
        per_output: Integers = delay[:, 0]
        return per_output
    if delay.shape == (1, inputs) and inputs != outputs:
        per_input: Integers = delay[0]
        return per_input
    each: Integers = np.broadcast_to(delay, (outputs, inputs))
    return each


def _write_input(group: object, shape: Shape, neurons: NetxLayer | None) -> None:
    values: dict[str, object] = {"shape": np.array(shape)}
    if neurons is not None:
        values["weight"] = neurons.weight
        if neurons.bias is not None:
            values["bias"] = neurons.bias
    _write(group, "input", values)
    if neurons is not None:
        _write_neuron(group, neurons.neuron)


def _write_neuron(group: object, cuba: Cuba) -> None:
    neuron = {
        "neuron/iDecay": cuba.i_decay,
        "neuron/vDecay": cuba.v_decay,
        "neuron/vThMant": cuba.v_threshold,
        "neuron/refDelay": 1,
        "neuron/gradedSpike": False,
    }
    for key, value in neuron.items():
        group.create_dataset(key, data=value)  # type: ignore[attr-defined]  # h5py has no type information
    _write_type(group, "neuron/type", "CUBA")


def _write(group: object, kind: str, values: dict[str, object]) -> None:
    _write_type(group, "type", kind)
    for key, value in values.items():
        group.create_dataset(key, data=value)  # type: ignore[attr-defined]  # h5py has no type information


def _write_type(group: object, key: str, kind: str) -> None:
    group.create_dataset(key, data=np.array([kind], dtype="S10"))  # type: ignore[attr-defined]  # as above

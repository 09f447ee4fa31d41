"""A network's integers as NIR, as sinabs loads them: `sinabs.nir.from_nir(nir.read(path), batch_size=1)`.

Each layer is a convolution and its neurons, behind a sum pool where its sources' spikes are summed; dense layers are
convolutions over all of their source, as on a core, and every population is a grid (f, h, w). The file holds what nir
1.0.4 knows, the newest that sinabs 3.1.3 allows, and no more: a `v_reset` of later versions it does not read. sinabs
takes NIR's integrate-and-fire neurons to subtract their threshold, and not to fall below −threshold.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.files.new_hdf5 import new_hdf5
from hw_targets.ir.network import ChipNetwork, Shape
from hw_targets.targets.dynapcnn.core import Core, cores_of
from hw_targets.targets.dynapcnn.files import check_integers

#: The version of NIR that the file is of.
VERSION = "1.0.4"
Fields = dict[str, Any]


def export_nir(network: ChipNetwork, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write the integers of every layer.

    Raises:
        UnsupportedModel: a network in another chip's integers, or neurons that reset to zero or have another bound than
            −threshold, for which sinabs has no place in NIR.
        InvalidFile: the file exists, and `overwrite` was not given, or it cannot be written.
    """
    check_integers(network, "export_nir")
    for core in cores_of(network):
        if not core.neuron.subtracts or core.neuron.v_min != -core.neuron.v_threshold:
            what = f"are cut off at {core.neuron.v_min}" if core.neuron.subtracts else "reset to zero"
            raise UnsupportedModel(
                f"export_nir: {core.name}'s neurons {what}, but sinabs reads NIR's as subtracting their threshold of"
                f" {core.neuron.v_threshold} and cut off at −{core.neuron.v_threshold}; train with min_v_mem ="
                " -spike_threshold and MembraneSubtract, or export npz, which holds both"
            )
    nodes, edges = _graph(network)
    with new_hdf5(path, overwrite=overwrite) as file:
        file["version"] = VERSION
        graph = file.create_group("node")
        graph["type"] = "NIRGraph"
        graph["edges"] = np.array(edges, dtype="S")
        for name, fields in nodes.items():
            for key, value in fields.items():
                graph[f"nodes/{name}/{key}"] = value


def _graph(network: ChipNetwork) -> tuple[dict[str, Fields], list[tuple[str, str]]]:
    """Nodes by name, each with its fields, and edges from node to node."""
    entry, end = network.inputs[0], network.outputs[0]
    nodes: dict[str, Fields] = {"input": {"type": "Input", "shape": np.array(_grid(entry.shape))}}
    edges, node_of = list[tuple[str, str]](), {entry.name: "input"}
    for core in cores_of(network):
        name = _free(core.name, {*nodes, "output"})
        shape = _grid(network[core.name].shape)
        steps = {f"{name}_pool": _pool(core)} if core.kernel.pool > 1 else {}
        steps |= {f"{name}_conv": _convolution(core), name: _neurons(core, shape)}
        edges += [(node_of[source], next(iter(steps))) for source in core.sources]
        edges += zip(steps, list(steps)[1:], strict=False)
        nodes |= steps
        node_of[core.name] = name
    nodes["output"] = {"type": "Output", "shape": np.array(_grid(end.shape))}
    return nodes, [*edges, (node_of[end.name], "output")]


def _pool(core: Core) -> Fields:
    pool = np.array([core.kernel.pool] * 2)
    return {"type": "SumPool2d", "kernel_size": pool, "stride": pool, "padding": np.zeros(2, np.int64)}


def _convolution(core: Core) -> Fields:
    kernel, side = core.kernel, _grid(core.source_shape)[1:]
    bias = np.zeros(len(kernel.weight)) if core.bias is None else core.bias
    return {
        "type": "Conv2d",
        "input_shape": np.array(side) // kernel.pool,
        "weight": kernel.weight.astype(np.float32),
        "stride": np.array([kernel.stride] * 2),
        "padding": np.array([kernel.padding] * 2),
        "dilation": np.ones(2, np.int64),
        "groups": 1,
        "bias": bias.astype(np.float32),
    }


def _neurons(core: Core, shape: Shape) -> Fields:
    threshold = np.full(shape, core.neuron.v_threshold, np.float32)
    return {"type": "IF", "r": np.ones(shape, np.float32), "v_threshold": threshold}


def _grid(shape: Shape) -> Shape:
    return shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)


def _free(name: str, taken: set[str]) -> str:
    """A name for a node and those beside it that HDF5 and torch allow, and that none has."""
    name = name.replace(".", "_").replace("/", "_")
    while any(other in taken for other in (name, f"{name}_pool", f"{name}_conv")):
        name += "_"
    return name

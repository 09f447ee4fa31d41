"""A network's layers as sinabs and the chips' configuration name them, in one .npz file of plain integers.

For each layer, `<name>.weight` (f, c, k, k), `<name>.bias` (f,), `<name>.stride`, `.padding`, `.pool` (the sum over the
spikes of its sources), `.threshold_high`, `.threshold_low`, `.return_to_zero` and `.sources`; `layers` lists the names,
sources first. `DynapcnnLayer` takes them as `discretize=False` layers; a test does.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.files.atomic import new_file
from hw_targets.ir.network import ChipNetwork
from hw_targets.targets.dynapcnn.core import cores_of
from hw_targets.targets.dynapcnn.neuron import IAF


def export_dynapcnn(network: ChipNetwork, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write the integers of every layer.

    Raises:
        UnsupportedModel: a network in another chip's integers.
        FileExistsError: the file exists, and `overwrite` was not given.
    """
    check_integers(network, "export_dynapcnn")
    arrays: dict[str, Any] = {"layers": np.array([core.name for core in cores_of(network)])}
    for core in cores_of(network):
        kernel, neuron = core.kernel, core.neuron
        values = {
            "weight": kernel.weight.astype(np.int8),
            "bias": np.zeros(len(kernel.weight), np.int8) if core.bias is None else core.bias.astype(np.int8),
            "stride": kernel.stride,
            "padding": kernel.padding,
            "pool": kernel.pool,
            "threshold_high": neuron.v_threshold,
            "threshold_low": neuron.v_min,
            "return_to_zero": not neuron.subtracts,
            "sources": np.array(core.sources),
        }
        arrays |= {f"{core.name}.{key}": value for key, value in values.items()}
    with new_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def check_integers(network: ChipNetwork, what: str) -> None:
    """Only networks in DYNAP-CNN's integers are written; `what` asks.

    Raises:
        UnsupportedModel: another one.
    """
    if not all(p.is_input or isinstance(p.neuron, IAF) for p in network.populations):
        raise UnsupportedModel(
            f"{what}: the network is in the integers of {network.chip}; quantize it for a chip of DYNAP-CNN's"
        )

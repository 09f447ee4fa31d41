"""Every spike of a network in sinabs' own layers, against `emulate`.

sinabs is no dependency of this package: `pip install --no-deps sinabs==3.1.3 pbr`. Its backend's package imports a
driver of the chips; the one file of it that is needed here, `dynapcnn_layer`, does without.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw_targets.emulation.emulate import emulate
from hw_targets.ir.network import ChipNetwork, Shape
from hw_targets.targets.dynapcnn.core import Core, cores_of

#: Under a name of our own, so that whoever imports sinabs' package gets that.
BACKEND = "_sinabs_backend_dynapcnn"


class SinabsUnavailable(ImportError):
    """sinabs cannot be imported here."""


@dataclass(frozen=True)
class SinabsComparison:
    """`differences` neuron-steps of `compared` in which sinabs sends other spikes; `spikes` are all it sends."""

    samples: int
    compared: int
    spikes: int
    differences: int


def compare_with_sinabs(network: ChipNetwork, inputs: npt.NDArray[Any] | Tensor) -> SinabsComparison:
    """Run samples through `emulate` and through sinabs' layers with the same integers.

    Args:
        network: in DYNAP-CNN's integers.
        inputs: as for `emulate`.

    Raises:
        SinabsUnavailable: sinabs is not installed; the message says how.
    """
    ours = emulate(network, inputs)
    sent = {network.inputs[0].name: torch.from_numpy(ours.spikes[network.inputs[0].name].astype(np.float32))}
    compared = spikes = differences = 0
    for core in cores_of(network):
        theirs = sent[core.name] = _run(core, sum(sent[name] for name in core.sources))  # type: ignore[arg-type]
        mine = torch.from_numpy(ours.spikes[core.name].astype(np.float32)).reshape(theirs.shape)
        compared += mine.numel()
        spikes += int(theirs.sum())
        differences += int((mine != theirs).sum())
    return SinabsComparison(ours.samples, compared, spikes, differences)


def _run(core: Core, arriving: Tensor) -> Tensor:
    """Spikes (T, N, f, h, w) of a core for spikes (T, N, *shape) of its sources; a sample at a time."""
    steps, samples = arriving.shape[:2]
    grid = core.source_shape if len(core.source_shape) == 3 else (core.source_shape[0], 1, 1)
    result = []
    for n in range(samples):
        pooled = torch.nn.functional.lp_pool2d(arriving[:, n].reshape(steps, *grid), 1, core.kernel.pool)
        layer = sinabs_layer(core, tuple(pooled.shape[1:]))
        with torch.no_grad():
            result.append(layer(pooled))
    return torch.stack(result, dim=1)


def sinabs_layer(core: Core, shape: Shape) -> Any:
    """The core as a `DynapcnnLayer` of a pooled input (c, h, w), its integers as they are.

    Raises:
        SinabsUnavailable: sinabs is not installed.
    """
    layers, activation, dynapcnn_layer = backend()
    kernel = core.kernel
    out, channels, size = kernel.weight.shape[:3]
    conv = torch.nn.Conv2d(channels, out, size, kernel.stride, kernel.padding, bias=core.bias is not None)
    conv.weight.data = torch.from_numpy(kernel.weight.astype(np.float32))
    if core.bias is not None:
        assert conv.bias is not None
        conv.bias.data = torch.from_numpy(core.bias.astype(np.float32))
    neuron = core.neuron
    spiking = layers.IAFSqueeze(
        spike_threshold=torch.tensor(float(neuron.v_threshold)),
        reset_fn=activation.MembraneSubtract() if neuron.subtracts else activation.MembraneReset(),
        min_v_mem=float(neuron.v_min),
        batch_size=1,
    )
    return dynapcnn_layer.DynapcnnLayer(conv, spiking, shape, [(1, 1)], discretize=False)


def backend() -> tuple[Any, Any, Any]:
    """sinabs' modules: layers, activations, and the backend's layer.

    Raises:
        SinabsUnavailable: sinabs is not installed.
    """
    try:
        layers, activation = importlib.import_module("sinabs.layers"), importlib.import_module("sinabs.activation")
    except ImportError as error:
        raise SinabsUnavailable(
            f"sinabs cannot be imported ({error}); install it with: pip install --no-deps sinabs==3.1.3 pbr"
        ) from error
    if BACKEND not in sys.modules:
        spec = importlib.util.find_spec("sinabs")
        assert spec is not None
        assert spec.origin is not None
        package = ModuleType(BACKEND)
        package.__path__ = [str(Path(spec.origin).parent / "backend" / "dynapcnn")]
        sys.modules[BACKEND] = package
    return layers, activation, importlib.import_module(f"{BACKEND}.dynapcnn_layer")

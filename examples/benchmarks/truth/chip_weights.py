"""A chip network's own weights, biases, thresholds and decays, put back into the torch model it was read from."""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from examples.benchmarks.truth.models import Block, Net
from examples.benchmarks.truth.neurons import DECAYS, ChipNeuron
from hw_targets import dequantize
from hw_targets.ir.network import LIF, Accumulator, ChipNetwork, Network, Synapses
from hw_targets.targets.loihi.neuron import CubaLIF

Floats = npt.NDArray[np.float64]


def with_chip_weights(net: Net, chip: ChipNetwork, stand_ins: frozenset[str]) -> Net:
    """A copy of a model that computes with what the chip stores, batch-norms without effect.

    `stand_ins` are populations whose neurons are replaced by `ChipNeuron`; all others stay the framework's own.
    """
    copied, real = copy.deepcopy(net), dequantize(chip)
    with torch.no_grad():
        for index, block in enumerate(copied.blocks):
            part, name = f"fire{index}", f"parts.fire{index}"
            incoming, takes_place = real.incoming(name), name in stand_ins
            gain = 1.0 if takes_place else _set_neuron(copied.parts[part], real[name].neuron)
            _load(copied, index, block, incoming[0], real, gain)
            if block.side is not None:
                _load_side(copied, index, incoming[block.main_sources], gain)
            if takes_place:
                copied.parts[part] = _stand_in(chip, name, multi_step=net.layout == "multi-step")
        _load_readout(copied, real)
    return copied


def needs_rounding(neuron: CubaLIF) -> bool:
    """Whether potentials decay by a fraction, so that the chip rounds them."""
    return neuron.v_decay not in (0, DECAYS) or neuron.i_decay not in (0, DECAYS)


def _stand_in(chip: ChipNetwork, name: str, *, multi_step: bool) -> ChipNeuron:
    neuron, scale = chip[name].neuron, chip.scales[name]
    assert isinstance(neuron, CubaLIF)
    level = neuron.v_threshold / scale
    # Half of a 64th above: what fires lies at least a whole one above the threshold.
    return ChipNeuron(level + 0.5 / 64 / scale, neuron.v_decay, neuron.i_decay, scale, multi_step=multi_step)


def _set_neuron(node: Any, neuron: Any) -> float:
    """Threshold and decays into a framework's neuron; what its input has to be multiplied by to be added as it is."""
    assert isinstance(neuron, LIF)
    if hasattr(node, "v_threshold"):
        node.v_threshold = neuron.v_threshold
    else:
        node.threshold = torch.tensor(neuron.v_threshold, dtype=torch.float64)
    kind = type(node).__name__
    if kind == "CUBALIFNode":
        node.c_decay, node.v_decay = 1.0 - neuron.i_decay, 1.0 - neuron.v_decay
    elif kind == "ParametricLIFNode":
        node.w.fill_(np.log(neuron.v_decay / (1.0 - neuron.v_decay)))
    elif kind == "LIFNode":
        node.tau = 1.0 / neuron.v_decay
    elif kind in ("Leaky", "Synaptic"):
        node.beta = torch.tensor(1.0 - neuron.v_decay, dtype=torch.float64)
        if kind == "Synaptic":
            node.alpha = torch.tensor(1.0 - neuron.i_decay, dtype=torch.float64)
    return 1.0 / neuron.v_decay if getattr(node, "decay_input", False) else 1.0


def _load(net: Net, index: int, block: Block, first: Synapses, real: Network, gain: float) -> None:
    layer: Any = net.parts[f"layer{index}"]
    # A stand-in takes the current as it is, as the framework's neurons do once their gain is divided out.
    layer.weight.copy_(torch.from_numpy(_unpooled(first.op.weight, layer, block.pool, real[first.source].shape)) * gain)
    bias = real[first.target].bias
    shift = None if bias is None else torch.from_numpy(bias) * gain
    for tensor in (layer.bias, *(() if block.side is None else (_module(net, f"side{index}").bias,))):
        if tensor is not None:
            tensor.zero_()
    if f"norm{index}" in net.parts:
        _make_identity(net.parts[f"norm{index}"], shift)
    elif shift is not None:
        layer.bias.copy_(shift)


def _load_side(net: Net, index: int, synapses: Synapses, gain: float) -> None:
    side = _module(net, f"side{index}")
    side.weight.copy_(torch.from_numpy(synapses.op.weight) * gain)


def _load_readout(net: Net, real: Network) -> None:
    index = len(net.blocks)
    (output,) = real.outputs
    if f"layer{index}" not in net.parts or not isinstance(output.neuron, Accumulator):
        return
    first = real.incoming(output.name)[0]
    pool: Any = net.parts[f"pool{index}"] if f"pool{index}" in net.parts else nn.Identity()
    # Pools are square here.
    size: int = getattr(pool, "kernel_size", 0) if isinstance(pool, nn.AvgPool2d) else 0
    layer = _module(net, f"layer{index}")
    layer.weight.copy_(torch.from_numpy(_unpooled(first.op.weight, layer, size, real[first.source].shape)))
    if output.bias is not None:
        layer.bias.copy_(torch.from_numpy(output.bias))


def _module(net: Net, name: str) -> Any:
    return net.parts[name]


def _make_identity(norm: Any, shift: Tensor | None) -> None:
    norm.eps = 0.0
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.weight.fill_(1.0)
    norm.bias.zero_() if shift is None else norm.bias.copy_(shift)


def _unpooled(weight: Floats, layer: Any, pool: int, source: tuple[int, ...]) -> Floats:
    """A layer's own weights from those of layer∘average pool, which repeat each of them in all of a window."""
    if not pool:
        return weight.reshape(tuple(layer.weight.shape))
    if isinstance(layer, nn.Conv2d):
        steps = [pool * d for d in layer.dilation]
        return weight[:, :, :: steps[0], :: steps[1]] * pool**2
    apart = weight.reshape(-1, *source)[:, :, ::pool, ::pool] * pool**2
    return apart.reshape(len(weight), prod(apart.shape[1:]))

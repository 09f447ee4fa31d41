"""Whether a network that was read from a model computes what the model computed on the example.

Reading follows modules and tensor operations; what hides from both (a forward hook that changes a value, a layer whose
inner methods are overridden, a write through `.data` or `.numpy()`) would give another network without a word. So the
currents that the model's neurons got are compared with those that the network's synapses make of the spikes they sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import LIF, Conv2d, Network, Population, Synapses

#: What reduced precision may put between two ways of computing one current, as a part of the layer's largest: TF32 on
#: GPUs, and the halves.
TOLERANCE, HALF_TOLERANCE = 1e-2, 5e-2


class Recording:
    """What the neurons of a model got and sent on one sample of the example, step after step."""

    def __init__(self) -> None:
        self._sent: dict[str, list[Tensor]] = {}
        self._driven: dict[str, list[Tensor]] = {}

    def sent(self, name: str, values: Tensor) -> None:
        """Note the spikes (t, *shape) of a population, or the values of the input, once if they never change."""
        self._sent.setdefault(name, []).append(values.detach().clone())

    def driven(self, name: str, current: Tensor) -> None:
        """Note the current (t, *shape) that drove a population."""
        self._driven.setdefault(name, []).append(current.detach().clone())

    def check(self, network: Network) -> None:
        """Compare every current that was noted with the network's.

        Raises:
            UnsupportedModel: one differs; the message names the neurons.
        """
        sent: dict[str, Tensor] = {}
        for name in network.order:
            population = network[name]
            if population.is_input:
                sent[name] = self._shown(name)
                continue
            current = _current(network, population, sent)
            if name in self._driven and _is_whole(population):
                _compare(name, torch.cat(self._driven[name]).reshape(current.shape), current)
            if name in self._sent:
                sent[name] = _spikes(name, torch.cat(self._sent[name]).double().cpu())
            elif isinstance(population.neuron, LIF):
                # A product of spikes, which no module computes: its neurons forget in every step.
                sent[name] = (current >= population.neuron.v_threshold).double()

    def _shown(self, name: str) -> Tensor:
        """The input in every step that any population took."""
        steps = max(sum(len(part) for part in parts) for parts in self._sent.values())
        values = torch.cat(self._sent[name]).double().cpu()
        return values.expand(steps, *values.shape[1:])


def _spikes(name: str, values: Tensor) -> Tensor:
    odd = values[(values != 0) & (values != 1)]
    if len(odd):
        raise UnsupportedModel(
            f"from_torch: {name} sends {float(odd[0]):.4g}, which is no spike; let its neurons send 0 and 1 (with"
            " SpikingJelly a surrogate function with spiking=True)"
        )
    return values


def _is_whole(population: Population) -> bool:
    """Whether its bias is the one the model adds: to a lasting current it may be approximated."""
    return population.bias is None or not isinstance(population.neuron, LIF) or population.neuron.i_decay == 1.0


def _current(network: Network, population: Population, sent: Mapping[str, Tensor]) -> Tensor:
    """Σ op(spikes) + bias, (T, *shape)."""
    steps = len(next(iter(sent.values())))
    total = torch.zeros(steps, *population.shape, dtype=torch.float64)
    for synapses in network.incoming(population.name):
        if not synapses.is_recurrent:
            total += _through(synapses, sent[synapses.source]).reshape(total.shape)
    if population.bias is not None:
        total += torch.from_numpy(np.asarray(population.bias, np.float64)).reshape(-1, *[1] * (total.dim() - 2))
    return total


def _through(synapses: Synapses, spikes: Tensor) -> Tensor:
    op = synapses.op
    weight = torch.from_numpy(np.ascontiguousarray(op.weight, np.float64))
    if isinstance(op, Conv2d):
        return F.conv2d(spikes, weight, None, op.stride, op.padding, op.dilation, op.groups)
    return F.linear(spikes.flatten(1), weight)


def _compare(name: str, model: Tensor, network: Tensor) -> None:
    tolerance = HALF_TOLERANCE if model.dtype in (torch.float16, torch.bfloat16) else TOLERANCE
    off = float((model.double().cpu() - network).abs().max())
    largest = float(network.abs().max())
    if off > tolerance * max(largest, 1e-6):
        raise UnsupportedModel(
            f"from_torch: on the example the current of {name} is up to {off:.3g} from what the layers before it"
            f" compute (largest {largest:.3g}): something changes values unseen; remove forward hooks, overridden"
            " methods of layers, and writes through .data or .numpy()"
        )

"""Whether a network that was read from a model computes what the model computed on the example.

Reading follows modules and tensor operations; what hides from both (a forward hook that changes a value, a layer whose
inner methods are overridden, a write through `.data` or `.numpy()`) would give another network without a word. So the
currents that the model's neurons got are compared with those that the network's synapses make of the spikes they sent.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hw_targets.emulation.currents import bias_of, through
from hw_targets.emulation.emulate import emulate
from hw_targets.emulation.reals import RealNeurons
from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import Network, Op, Population

#: What reduced precision may put between two ways of computing one current, as a part of the layer's largest: TF32 on
#: GPUs, and the halves.
TOLERANCE, HALF_TOLERANCE = 1e-2, 5e-2


class Recording:
    """What the neurons of a model got and sent on one sample, step after step."""

    def __init__(self, of: str = "the example") -> None:
        """`of` names the sample in messages."""
        self._of = of
        self._sent: dict[str, list[Tensor]] = {}
        self._driven: dict[str, list[Tensor]] = {}

    def sent(self, name: str, values: Tensor) -> None:
        """Note the spikes (t, *shape) of a population, or the values of the input, once if they never change."""
        self._sent.setdefault(name, []).append(values.detach().clone())

    def driven(self, name: str, current: Tensor) -> None:
        """Note the current (t, *shape) that drove a population."""
        self._driven.setdefault(name, []).append(current.detach().clone())

    def check_steps(self, network: Network) -> None:
        """Refuse populations that ran for another number of steps than a sample has.

        Raises:
            UnsupportedModel: the first of them.
        """
        for name, parts in self._sent.items():
            steps = sum(len(part) for part in parts)
            if steps != network.time_steps and not network[name].is_input:
                raise UnsupportedModel(
                    f"from_torch: on {self._of} {name} ran in {steps} of {network.time_steps} steps; call it once in"
                    " every step"
                )

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
            noted = None
            if name in self._sent:
                values = torch.cat(self._sent[name]).double().cpu().reshape(-1, *population.shape)
                noted = _spikes(name, values, max(1, population.neuron.most_sent))
            drive = _drive(network, population, sent if noted is None else {**sent, name: noted})
            current = drive + bias_of(population, drive)
            if name in self._driven:
                model = torch.cat(self._driven[name]).reshape(current.shape)
                _compare(name, model, current, self._of)
            if noted is not None:
                sent[name] = noted
                _compare_spikes(population, drive, noted, _tolerance(torch.cat(self._sent[name])), self._of)
            elif (lif := population.lif) is not None:
                # A product of spikes, which no module computes: its neurons forget in every step.
                sent[name] = (current >= lif.v_threshold).double()
        if network.in_integers:
            _compare_integers(network, sent, self._of)

    def _shown(self, name: str) -> Tensor:
        """The input in every step that any population took."""
        steps = max(sum(len(part) for part in parts) for parts in self._sent.values())
        values = torch.cat(self._sent[name]).double().cpu()
        return values.expand(steps, *values.shape[1:])


def _spikes(name: str, values: Tensor, most: int) -> Tensor:
    odd = values[(values != values.round()) | (values < 0) | (values > most)]
    if len(odd):
        raise UnsupportedModel(
            f"from_torch: {name} sends {float(odd[0]):.4g}, which is no spike; let its neurons send 0 and 1 (with"
            " SpikingJelly a surrogate function with spiking=True)"
        )
    return values


def _drive(network: Network, population: Population, sent: Mapping[str, Tensor]) -> Tensor:
    """Σ op(spikes), (T, *shape); what a population sends itself comes a step later."""
    steps = len(next(iter(sent.values())))
    total = torch.zeros(steps, *population.shape, dtype=torch.float64)
    for op, sources in _seen_alike(network, population.name):
        spikes = sum((sent[name] for name in sources[1:]), sent[sources[0]])
        if sources == [population.name]:
            spikes = torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]])
        total += _through(op, spikes).reshape(total.shape)
    return total


def _seen_alike(network: Network, name: str) -> list[tuple[Op, list[str]]]:
    """Ops that end in a population, each with all that is seen through it: the terms of a SEW ADD share one."""
    groups: dict[Hashable, tuple[Op, list[str]]] = {}
    for s in network.incoming(name):
        key = id(s.op), s.is_recurrent, network[s.source].shape
        groups.setdefault(key, (s.op, []))[1].append(s.source)
    return list(groups.values())


def _through(op: Op, spikes: Tensor) -> Tensor:
    return through(op, torch.from_numpy(np.ascontiguousarray(op.weight, np.float64)), spikes)


def _tolerance(model: Tensor) -> float:
    return HALF_TOLERANCE if model.dtype in (torch.float16, torch.bfloat16) else TOLERANCE


def _compare_spikes(population: Population, drive: Tensor, sent: Tensor, tolerance: float, of: str) -> None:
    """Refuse neurons that do not step as the network's, told from every step's state under the spikes they sent.

    Where a potential is too near the threshold for the model's precision either answer is right.
    """
    neuron = population.lif
    if neuron is None or neuron.unit is not None or len(sent) != len(drive):
        return
    neurons = RealNeurons(population, neuron, drive)
    for step, (current, spikes) in enumerate(zip(drive, sent.reshape(drive.shape), strict=True)):
        v = neurons.charge(current)
        near = tolerance * max(float(v.abs().max()), abs(neuron.v_threshold))
        wrong = (neurons.fired(v - near) > spikes) | (neurons.fired(v + near) < spikes)
        if bool(wrong.any()):
            raise UnsupportedModel(
                f"from_torch: on {of} {int(wrong.sum())} neurons of {population.name} answer step {step} in"
                " another way than their equation says: something changes their states or their spikes unseen; remove"
                " forward hooks, overridden methods, and writes to their states"
            )
        neurons.settle(v, spikes)


def _compare_integers(network: Network, sent: Mapping[str, Tensor], of: str) -> None:
    """Refuse neurons of a chip that sent another number of spikes than the chip's steps do.

    Biases may charge a layer before its input arrives, which the model knows nothing of: such networks are for
    `quantize` to refuse.
    """
    entry = network.inputs[0].name
    late = [p for p in network.populations if all(s.source != entry for s in network.incoming(p.name))]
    if any(p.bias is not None and p.bias.any() for p in late):
        return
    here = replace(network, time_steps=len(sent[entry]))
    for name, spikes in emulate(here, sent[entry].unsqueeze(1).round().long()).spikes.items():
        wrong = torch.from_numpy(spikes[:, 0]).double() != sent[name].reshape(spikes[:, 0].shape)
        if bool(wrong.any()):
            raise UnsupportedModel(
                f"from_torch: on {of} neurons of {name} answer {int(wrong.any(0).sum())} times in another way than the"
                " chip's integers do: something changes their states or their spikes unseen; remove forward hooks,"
                " overridden methods, and writes to their states"
            )


def _compare(name: str, model: Tensor, network: Tensor, of: str) -> None:
    tolerance = _tolerance(model)
    off = (model.double().cpu() - network).abs().flatten(1).amax(1)
    largest = float(network.abs().max())
    wrong = torch.nonzero(off > tolerance * max(largest, 1e-6)).flatten()
    if not len(wrong):
        return
    step = int(wrong[0])
    found = f"the current of {name} is up to {float(off.max()):.3g} from what the layers before it compute (largest"
    if step:
        raise UnsupportedModel(
            f"from_torch: on {of}, from step {step} on, {found} {largest:.3g}): what the model computes there changes"
            " from step to step, as a recurrence around these neurons or statistics of each step's own do; neurons'"
            " own spikes are read where a layer of the framework gives them back (lava-dl's Recurrent, snnTorch's"
            " RLeaky, SpikingJelly's recurrent containers): use one of these, or give all steps one set of statistics"
        )
    raise UnsupportedModel(
        f"from_torch: on {of} {found} {largest:.3g}): something changes values unseen; remove forward hooks, overridden"
        " methods of layers, and writes through .data or .numpy()"
    )

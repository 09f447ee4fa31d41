"""Whether a network that was read from a model computes what the model computed on the example.

Reading follows modules and tensor operations; what hides from both (a forward hook that changes a value, a layer whose
inner methods are overridden, a write through `.data` or `.numpy()`) would give another network without a word. So the
currents that the model's neurons got are compared with those that the network's synapses make of the spikes they sent.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hw_targets.emulation.currents import bias_of, through
from hw_targets.emulation.emulate import emulate
from hw_targets.emulation.reals import RealNeurons
from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.torch.projections import Group, Sums
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

    def check(self, network: Network, sums: Sums | None = None) -> None:
        """Compare every current that was noted with the network's.

        Args:
            network: that was read.
            sums: kept from one sample to another.

        Raises:
            UnsupportedModel: one differs; the message names the neurons.
        """
        sent, sums = dict[str, Tensor](), sums or Sums()
        for name in network.order:
            population = network[name]
            if population.is_input:
                sent[name] = self._shown(name)
                continue
            noted = None
            if name in self._sent:
                values = _exact(_joined(self._sent[name])).reshape(-1, *population.shape)
                noted = _spikes(name, values, max(1, population.neuron.most_sent))
            if noted is None and name not in self._driven and population.lif is None:
                continue  # a readout, which nothing was noted of
            heard = sent if noted is None else {**sent, name: noted}
            drive = self._checked_drive(network, population, heard, sums)
            if noted is not None:
                sent[name] = noted
                _compare_spikes(population, drive, noted, _tolerance(self._sent[name][0]), self._of)
            elif (lif := population.lif) is not None:
                # A product of spikes, which no module computes: its neurons forget in every step.
                sent[name] = (drive + bias_of(population, drive) >= lif.v_threshold).to(drive)
        if network.in_integers:
            _compare_integers(network, sent, self._of)

    def _checked_drive(
        self, network: Network, population: Population, sent: Mapping[str, Tensor], sums: Sums
    ) -> Tensor:
        """What drives a population (T, *shape), without its bias: the network's, which is the model's where noted.

        Raises:
            UnsupportedModel: the model's is another.
        """
        model = None
        if population.name in self._driven:
            model = _exact(_joined(self._driven[population.name])).reshape(-1, *population.shape)
            tolerance = _tolerance(self._driven[population.name][0])
            if sums.agree(population, model, _groups(network, population.name, sent), tolerance):
                return model - bias_of(population, model)
        drive = _drive(network, population, sent)
        if model is not None:
            network_current = drive + bias_of(population, drive)
            _compare(population.name, model.reshape(drive.shape), network_current, tolerance, self._of)
        return drive

    def _shown(self, name: str) -> Tensor:
        """The input in every step that any population took."""
        steps = max(sum(len(part) for part in parts) for parts in self._sent.values())
        values = _exact(_joined(self._sent[name]))
        return values.expand(steps, *values.shape[1:])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _exact(values: Tensor) -> Tensor:
    """Values on the CPU, in a precision that holds them and their small sums."""
    wide = values.dtype in (torch.float32, torch.float64)
    return values.cpu() if wide else values.double().cpu()


def _spikes(name: str, values: Tensor, most: int) -> Tensor:
    low, high = (float(v) for v in torch.aminmax(values))
    if not (low >= 0 and high <= most and torch.equal(values, values.round())):
        odd = values[(values != values.round()) | (values < 0) | (values > most)]
        raise UnsupportedModel(
            f"from_torch: {name} sends {float(odd[0]):.4g}, which is no spike; let its neurons send 0 and 1 (with"
            " SpikingJelly a surrogate function with spiking=True)"
        )
    return values


def _groups(network: Network, name: str, sent: Mapping[str, Tensor]) -> Iterator[Group]:
    """Ops that end in a population, and the spikes that are seen through each; its own are a step old."""
    for op, sources in _seen_alike(network, name):
        spikes = sum((sent[source] for source in sources[1:]), sent[sources[0]])
        if sources == [name]:
            spikes = torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]])
        yield op, spikes


def _drive(network: Network, population: Population, sent: Mapping[str, Tensor]) -> Tensor:
    """Σ op(spikes), (T, *shape)."""
    steps = len(next(iter(sent.values())))
    total = torch.zeros(steps, *population.shape, dtype=torch.float64)
    for op, spikes in _groups(network, population.name, sent):
        weight = torch.from_numpy(np.ascontiguousarray(op.weight, np.float64))
        total += through(op, weight, spikes.double()).reshape(total.shape)
    return total


def _seen_alike(network: Network, name: str) -> list[tuple[Op, list[str]]]:
    """Ops that end in a population, each with all that is seen through it: the terms of a SEW ADD share one."""
    groups: dict[Hashable, tuple[Op, list[str]]] = {}
    for s in network.incoming(name):
        key = id(s.op), s.is_recurrent, network[s.source].shape
        groups.setdefault(key, (s.op, []))[1].append(s.source)
    return list(groups.values())


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
        if torch.equal(neurons.fired(v).to(spikes.dtype), spikes):
            neurons.settle(v, spikes)
            continue
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


def _compare(name: str, model: Tensor, network: Tensor, tolerance: float, of: str) -> None:
    off = (model - network).abs().flatten(1).amax(1)
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

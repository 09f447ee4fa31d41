"""Quantization-aware fine-tuning: the values a model's parameters may take, so that a chip's integers hold them.

A population's real weights and biases are linear in the model's: what is between the two (batch-norm, pools, gains)
stays constant while the model is fine-tuned. So the model is read once for each parameter, that one all ones and the
others zero, and the network that is found holds the gain g that takes the parameter to its population. On the
population's scale s the integer of a weight w is then g·s·w, and weights that give whole numbers lie 1/(|g|·s) apart.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hw_targets.chips.chip import Chip
from hw_targets.errors import InvalidNetwork, UnsupportedModel
from hw_targets.frontends.torch.from_torch import from_torch, read
from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import Network, Population, Synapses
from hw_targets.quantization.lowering import lowered
from hw_targets.quantization.quantize import quantized
from hw_targets.quantization.rounding import Reals, rows_of
from neuroprune.pruning.rounding import Grid

#: What sums in single precision may be off by, relative to the threshold.
SINGLE = 2.0**-21
#: Gains of one channel may differ by so much, relative, and are one gain.
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class QATGrids:
    """What a model is fine-tuned on.

    Attributes:
        rounding: by parameter, the values it may take: for `SoftThresholdPruner(..., rounding=...)`, and, its keys, for
            the optimizer.
        scales: by population, the integer that stands for 1.0 of membrane potential: for `quantize(..., scales=...)`.
        notes: a sentence for each population of which a spike may still differ.
    """

    rounding: Mapping[nn.Parameter, Grid]
    scales: Mapping[str, float]
    notes: tuple[str, ...] = ()


def prepare_qat(
    model: nn.Module,
    example_input: Tensor,
    chip: Chip,
    calibration: npt.ArrayLike | None = None,
    *,
    time_steps: int | None = None,
    for_format: str | None = None,
    approximate: bool = False,
) -> QATGrids:
    """Find the grids on which to fine-tune a trained model, so that a chip's integers are its weights exactly.

        grids = prepare_qat(model, images, chip, calibration=images)
        optimizer = torch.optim.SGD(list(grids.rounding), lr=0.02, momentum=0.9)
        pruner = SoftThresholdPruner(optimizer, ConstantThreshold(0.0), rounding=grids.rounding)
        pruner.freeze()  # zeros stay zero
        with frozen_batch_norm(model):
            ...  # train as ever
        pruner.finalize()
        network = quantize(from_torch(model, images), chip, scales=grids.scales)

    Weights have one step per output channel. So have biases (a layer's own, or a batch-norm's β), and their integers
    are what batch-norm adds in all, β − μγ/σ. Neurons without leak then spike as on the chip, each of them, also where
    a potential equals the threshold (`bias_offset`); `notes` has the exceptions. Currents have room to double.

    The model is left as it is. Batch-norm's statistics and factor γ have no grid and must not move meanwhile.

    Args:
        model: as for `from_torch`, after pruning.
        example_input: likewise.
        chip: as for `quantize`, which finds the scales.
        calibration: likewise; the narrower the weights, the more it is worth.
        time_steps: as for `from_torch`.
        for_format: as for `quantize`.
        approximate: likewise.

    Raises:
        UnsupportedModel: as `from_torch`, or the network's weights are not the model's times a constant per channel.
        QuantizationError: as `quantize`.
    """

    network = from_torch(model, example_input, time_steps=time_steps, approximate=approximate)
    trained = [p.name for p in network.populations if p.neuron.fires and (p.lif is None or p.lif.unit)]
    if trained:
        raise UnsupportedModel(f"prepare_qat: {trained[0]} was trained on a chip's integers already; quantize it as is")
    family = chip.supported("prepare_qat")
    constraints = None if for_format is None else family.constraints(for_format)
    network = lowered(network, family.dynamics, approximate=approximate)
    formats = family.formats(chip)
    chosen = quantized(network, family.dynamics, _roomy(formats), calibration, constraints=constraints).scales
    joins = constraints is not None and constraints.joins_weights
    target = _Target(network, dict(chosen), formats, joins_weights=joins)
    again = partial(read, example_input=example_input, time_steps=time_steps, approximate=approximate, watched=False)
    probe, originals = _Probe(model, again), dict(model.named_parameters())
    rounding: dict[nn.Parameter, Grid] = {}
    constants = {p.name: probe.constant.biases[p.name] for p in network.populations if not p.is_input}
    weighted: set[str] = set()  # not so the neurons that stand for max-pools, say, which torch computes without sums
    for name, parameter in probe.parameters.items():
        gains = probe.gains(name)
        weighted |= {network.synapses[index].target for index in gains.weights}
        if parameter.dim() > 1:
            grid = target.weight_grid(name, parameter, gains.weights)
        else:
            grid = target.bias_grid(name, parameter, gains.biases, constants)
        if grid is not None:
            rounding[originals[name]] = grid
    return QATGrids(rounding, target.scales, tuple(_notes(network, target.scales, weighted & set(constants))))


def bias_offset(population: Population, steps: int) -> float:
    """How far above the whole number that stands for it a bias lies, in units: 1/(2T + 2).

    Over T steps that adds up to less than the half unit between two whole numbers, and in one it is above what sums in
    single precision are off by. So a potential that equals the threshold in integers is above it in such sums, too,
    where the neuron then fires; below it, by the negative offset, for neurons that fire only above their threshold.
    """
    if population.lif is None:
        return 0.0
    return (-1.0 if population.lif.strict else 1.0) / (2 * steps + 2)


class _Gains(NamedTuple):
    """Weights by position of the synapses, and biases by population, without those that are all zero."""

    weights: Mapping[int, Reals]
    biases: Mapping[str, Reals]


class _Probe:
    """A copy of a model with its weights and biases zero, to read what single ones do.

    `constant` is what the network holds without them: what batch-norms add, and the kernels of pools.
    """

    def __init__(self, model: nn.Module, read: Callable[[nn.Module], Network]) -> None:
        self._model, self._read = copy.deepcopy(model), read
        self.parameters = {name: p for name, p in self._model.named_parameters() if _is_linear(name, p)}
        for p in self.parameters.values():
            nn.init.zeros_(p)
        self.constant = self._network("")

    def gains(self, name: str) -> _Gains:
        """What a parameter of ones adds to the network."""
        nn.init.ones_(self.parameters[name])
        found, constant = self._network(name), self.constant
        nn.init.zeros_(self.parameters[name])
        weights = {i: w - constant.weights[i] for i, w in found.weights.items()}
        biases = {population: b - constant.biases[population] for population, b in found.biases.items()}
        return _Gains({i: w for i, w in weights.items() if w.any()}, {p: b for p, b in biases.items() if b.any()})

    def _network(self, name: str) -> _Gains:
        try:
            network = self._read(self._model)
        except InvalidNetwork as error:
            raise UnsupportedModel(
                f"prepare_qat: the model's weights do not follow from {name or 'its parameters'} by a factor alone"
                f" ({error}); remove parametrizations such as weight norm first"
            ) from error
        biases = {p.name: np.zeros(1) if p.bias is None else p.bias for p in network.populations}
        return _Gains({i: s.op.weight for i, s in enumerate(network.synapses)}, biases)


@dataclass(frozen=True, eq=False)
class _Target:
    """What parameters are taken to: a real network, and what its integers are to be."""

    network: Network
    scales: Mapping[str, float]
    formats: NumberFormats
    joins_weights: bool

    def weight_grid(self, name: str, parameter: Tensor, gains: Mapping[int, Reals]) -> Grid | None:
        """step = 1/(|g|·s), one per output channel; None for a parameter without effect."""
        uses = [self.network.synapses[index] for index in gains]
        units = [self.scales[s.target] / self.network[s.source].neuron.unit_sent for s in uses]
        steps = [_steps(_by_row(name, g, len(parameter)), u) for g, u in zip(gains.values(), units, strict=True)]
        if not steps:
            return None
        if any(not np.allclose(steps[0], other, rtol=TOLERANCE, atol=0.0) for other in steps):
            raise UnsupportedModel(f"prepare_qat: {name} is used on several scales; give each use a layer of its own")
        limit = min(self._limit(s) for s in uses)
        step = torch.from_numpy(steps[0]).view(-1, *(1,) * (parameter.dim() - 1))
        return Grid(step, -limit, limit)

    def bias_grid(
        self, name: str, parameter: Tensor, gains: Mapping[str, Reals], constants: dict[str, Reals]
    ) -> Grid | None:
        """b = (q − z)/(|g|·s), z = ±(s·c − offset), c being what the population gets without parameters.

        Of several parameters that are the bias of one population the first takes c up, and takes it out of `constants`.
        """
        if not gains:
            return None
        if len(gains) > 1:
            raise UnsupportedModel(f"prepare_qat: {name} is used by {sorted(gains)}; give each use a layer of its own")
        (population, found), limit = next(iter(gains.items())), self.formats.bias
        gain, scale = _by_row(name, found, len(parameter)), self.scales[population]
        zero_point = None
        if population in constants:
            constant = np.broadcast_to(constants.pop(population), found.shape).reshape(len(parameter), -1)[:, 0]
            offset = bias_offset(self.network[population], self.network.time_steps)
            zero_point = torch.from_numpy(np.where(gain < 0, -1.0, 1.0) * (constant * scale - offset))
        return Grid(torch.from_numpy(_steps(gain, scale)), -limit, limit, zero_point)

    def _limit(self, synapses: Synapses) -> int:
        """The largest integer of a synapse's weight."""
        rows = rows_of(self.network, self.network[synapses.target], self.formats, joins_weights=self.joins_weights)
        at = 0
        for group in [] if rows is None else rows.groups:
            if any(s is synapses for s in group):
                assert rows is not None
                return max(1, int(rows.limit[at]))
            at += int(np.prod(group[0].op.weight.shape[1:]))
        return self.formats.weight


def _roomy(formats: NumberFormats) -> NumberFormats:
    """With half the state left free currents may double while the model is fine-tuned."""
    return replace(formats, state=formats.state // 2)


def _steps(gain: Reals, unit: float) -> Reals:
    """1/(|g|·s); what has no effect at all may have any step."""
    return 1.0 / (np.where(gain == 0, 1.0, np.abs(gain)) * unit)


def _by_row(name: str, gain: Reals, rows: int) -> Reals:
    """The one gain of each output channel.

    Raises:
        UnsupportedModel: there are several.
    """
    flat = gain.reshape(rows, -1)
    largest = np.take_along_axis(flat, np.abs(flat).argmax(1)[:, None], 1)
    if ((np.abs(flat - largest) > TOLERANCE * np.abs(largest)) & (flat != 0)).any():
        raise UnsupportedModel(
            f"prepare_qat: {name} reaches the network's weights by several factors in one channel (pools whose windows"
            " overlap do that); leave the layer out of the fine-tuning, or pool without overlap"
        )
    return largest[:, 0]


def _notes(network: Network, scales: Mapping[str, float], unbiased: set[str]) -> Iterator[str]:
    """Why spikes of a population may differ; `unbiased` are those whose bias no parameter is."""
    for population in network.populations:
        neuron, name = population.lif, population.name
        if neuron is None:
            continue
        if name in unbiased:
            yield (
                f"{name}: no parameter is its bias, so what is added to it is rounded, and a potential that equals the"
                " threshold may fire in one and not in the other"
            )
        elif scales[name] * neuron.v_threshold * SINGLE > abs(bias_offset(population, network.time_steps)):
            level = round(scales[name] * neuron.v_threshold)
            yield f"{name}: its threshold is {level} units, which sums in single precision may miss by one"
        if neuron.v_decay not in (0.0, 1.0) or neuron.i_decay not in (0.0, 1.0):
            yield f"{name}: leaks, and the chip truncates potentials to 1/64 of a unit where torch does not"


def _is_linear(name: str, parameter: nn.Parameter) -> bool:
    """Weights of layers, and biases; not the factor of a batch-norm or what neurons learn."""
    if not parameter.is_floating_point():
        return False
    return parameter.dim() > 1 or (parameter.dim() == 1 and name.rpartition(".")[2] == "bias")

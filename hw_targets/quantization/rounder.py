"""A population's integers on a given scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hw_targets.ir.dynamics import Dynamics
from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import ChipNetwork, Network, Population
from hw_targets.quantization.calibration import Calibration
from hw_targets.quantization.rounding import Reals, Rows, rows_of, with_integers

Ints = npt.NDArray[np.int32]

#: Passes over the weights of a population; most of what there is to gain is gained in the first.
SWEEPS = 2
#: Samples that spikes are compared on to choose a scale, or biases.
BIAS_SAMPLES = 100


class Integers(NamedTuple):
    """Weights of a population by `id` of their synapses, and its bias."""

    weights: Mapping[int, Ints]
    bias: Ints | None


class Fitted(NamedTuple):
    """Integers of a population, how many of its spikes differ from the real ones for them, and how many it has."""

    integers: Integers
    differing: int
    spikes: int


@dataclass(frozen=True, eq=False)
class Rounder:
    """Rounds the populations of a network to a chip's formats, on calibration data if there are any."""

    network: Network
    formats: NumberFormats
    dynamics: Dynamics
    calibration: Calibration | None
    joins_weights: bool = False

    @cached_property
    def rows(self) -> Mapping[str, Rows]:
        """Weights as rows, of the populations that have such."""
        found = {
            p.name: rows_of(self.network, p, self.formats, joins_weights=self.joins_weights)
            for p in self.network.populations
            if not p.is_input
        }
        return {name: rows for name, rows in found.items() if rows is not None}

    @cached_property
    def grams(self) -> Mapping[str, Reals]:
        """Statistics of the inputs, of the populations for which they are known."""
        if self.calibration is None:
            return {}
        found = {name: self.calibration.gram(self.network[name], rows) for name, rows in self.rows.items()}
        return {name: gram for name, gram in found.items() if gram is not None}

    def integers(self, population: Population, scale: float) -> Integers:
        """Compensated where the inputs are known and no current outgrows the state, otherwise the nearest."""
        bias = None if population.bias is None else _nearest(population.bias * scale, self.formats.bias)
        rows, gram = self.rows.get(population.name), self.grams.get(population.name)
        if rows is None:
            # Nothing leads here, or several kinds of synapses side by side, which share no rows.
            incoming = self.network.incoming(population.name)
            units = {id(s): scale / self.network[s.source].neuron.unit_sent for s in incoming}
            return Integers({id(s): _nearest(s.op.weight * units[id(s)], self.formats.weight) for s in incoming}, bias)
        if gram is not None:
            weights, row_bias = rows.split(rows.compensated(scale, gram))
            found = Integers(weights, bias if row_bias is None else row_bias)
            if self.fits(population, scale, found):
                return found
        return Integers(rows.split(rows.nearest(scale))[0], bias)

    def population(self, population: Population, scale: float, integers: Integers) -> Population:
        """A population with the chip's neuron and bias."""
        neuron = population.neuron
        if population.lif is not None:
            neuron = self.dynamics.lower(population.lif, scale, self.formats)
        return replace(population, neuron=neuron, bias=integers.bias)

    def fitted(self, population: Population, scale: float, *, only_biases: bool) -> Fitted:
        """Integers that change few spikes of a population, given what its sources, settled before, send in integers.

        From `integers` on, biases and, unless `only_biases`, roundings are moved as long as fewer spikes differ
        (`Descent`): there are never more than with `integers`. To choose a scale, few samples and the biases are
        enough, and they must be where there are too many weights to try (`may_sweep`).
        """
        assert self.calibration is not None
        found = self.integers(population, scale)
        rows, here = self.rows.get(population.name), self.alone(population, scale, found)
        only_biases = only_biases or not self.may_sweep(population)
        samples = BIAS_SAMPLES if only_biases else self._samples_to_sweep(population)
        descent = None
        if rows is not None:
            descent = self.calibration.descent(here, population.name, rows, scale, samples)
        if rows is None or descent is None:
            differing = self.calibration.differing(here, population.name, samples)
            return Fitted(found, differing, self.calibration.spikes(population.name, samples))
        before = descent.differing
        descent.run(0 if only_biases else SWEEPS)
        weights, bias = rows.split(descent.integers)
        moved = Integers(weights, found.bias if bias is None else bias)
        if not self.fits(population, scale, moved):
            return Fitted(found, before, descent.spikes)
        return Fitted(moved, descent.differing, descent.spikes)

    def may_sweep(self, population: Population) -> bool:
        """Whether all weights of a population can be tried one by one in some seconds."""
        return self._samples_to_sweep(population) > 0

    def _samples_to_sweep(self, population: Population) -> int:
        rows = self.rows.get(population.name)
        columns = 1 if rows is None else rows.real.shape[1]
        return 0 if self.calibration is None else self.calibration.samples_to_sweep(population, columns)

    def settle(self, population: Population, scale: float, integers: Integers) -> None:
        """Let what a population sends be known to those it feeds; without calibration data nobody asks."""
        if self.calibration is not None and population.neuron.fires:
            self.calibration.settle(self.alone(population, scale, integers), population.name)

    def alone(self, population: Population, scale: float, integers: Integers) -> ChipNetwork:
        """A network of this population in integers, and what feeds it."""
        incoming = self.network.incoming(population.name)
        sources = {s.source for s in incoming} - {population.name}
        here = self.population(population, scale, integers)
        return ChipNetwork(
            (*(self.network[name] for name in sorted(sources)), here),
            tuple(with_integers(s, integers.weights[id(s)]) for s in incoming),
            time_steps=self.network.time_steps,
        )

    def fits(self, population: Population, scale: float, integers: Integers | None = None) -> bool:
        """Whether no input whatever makes the integer weights' sum leave the state's bits.

        The current of neurons that fire, at its largest; for accumulators the sum, bias included, of all steps of a
        sample. Without `integers`, of those rounded to the nearest.
        """
        if integers is None:
            # Rounding moves a weight by half a unit at most; that mostly decides, with no weight looked at again.
            largest, slack = self._reach(population, scale)
            if self._is_inside(population, scale, largest + slack, None):
                return True
            if not self._is_inside(population, scale, largest - slack, None):
                return False
        excitation, inhibition = 0.0, 0.0
        sums: dict[tuple[int, float], tuple[float, float]] = {}
        for s in self.network.incoming(population.name):
            unit, most = scale / self.network[s.source].neuron.unit_sent, self.network[s.source].neuron.most_sent
            key = (id(s.op.weight), unit)
            if integers is not None:
                up, down = _row_sums(integers.weights[id(s)].astype(np.float64))
            elif key in sums:
                up, down = sums[key]
            else:
                up, down = sums[key] = _row_sums(np.rint(s.op.weight * unit))
            excitation, inhibition = excitation + up * most, inhibition + down * most
        return self._is_inside(population, scale, max(excitation, inhibition), integers)

    def fits_clipped(self, population: Population, scale: float) -> bool:
        """As `fits`, with weights beyond the chip's largest cut off there before they are summed up."""
        units = {id(s): scale / self.network[s.source].neuron.unit_sent for s in self.network.incoming(population.name)}
        weights = {
            id(s): _nearest(s.op.weight * units[id(s)], self.formats.weight)
            for s in self.network.incoming(population.name)
        }
        return self.fits(population, scale, Integers(weights, None))

    def _is_inside(self, population: Population, scale: float, current: float, integers: Integers | None) -> bool:
        """Whether the state holds a current, lasting as long as it does, or, of a readout, a sample's steps of it."""
        if not population.neuron.fires:
            if population.bias is not None:
                bias = np.rint(population.bias * scale) if integers is None else integers.bias
                current += float(np.abs(np.asarray(bias)).max())
            current *= self.network.time_steps
        return current * population.neuron.lasting(self.network.time_steps) < self.formats.state - 1

    def _reach(self, population: Population, scale: float) -> tuple[float, float]:
        """The largest current before its weights are rounded, and by how much rounding may change it."""
        excitation, inhibition, slack = 0.0, 0.0, 0.0
        for s in self.network.incoming(population.name):
            weight, most = s.op.weight, self.network[s.source].neuron.most_sent
            if id(weight) not in self._sums:
                rows = weight.reshape(len(weight), -1)
                self._sums[id(weight)] = (*_row_sums(weight), int(np.count_nonzero(rows, axis=1).max(initial=0)))
            up, down, count = self._sums[id(weight)]
            unit = scale / self.network[s.source].neuron.unit_sent
            excitation, inhibition = excitation + up * unit * most, inhibition + down * unit * most
            slack += 0.5 * count * most
        return max(excitation, inhibition), slack

    @cached_property
    def _sums(self) -> dict[int, tuple[float, float, int]]:
        """By `id` of real weights: largest sum of a row's positive and negative weights, and of its non-zeros."""
        return {}


def _row_sums(weight: npt.NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Largest sum of a row's positive weights, and of its negative ones, without their sign."""
    rows = weight.reshape(len(weight), -1)
    positive = np.maximum(rows, 0).sum(1)
    return float(positive.max(initial=0.0)), float((positive - rows.sum(1)).max(initial=0.0))


def _nearest(values: npt.NDArray[np.generic], limit: int) -> Ints:
    return np.clip(np.rint(values), -limit, limit).astype(np.int32)

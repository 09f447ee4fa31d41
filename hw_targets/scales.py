"""One scale per population: the integer that stands for 1.0 of membrane potential.

It is the largest for which every integer fits the chip; or the one the network was trained on (`LIF.unit`), where that
fits. On calibration data it is the one whose integers change the fewest spikes of the population, given what its
sources send in the integers they got. That may clip a few weights far above the rest, which costs little: a neuron
fires no more than once a step, however far a weight lifts it. (The squared error of the drive, which weighs such
clipping in full, chose scales that changed more spikes.) Populations of one netx layer fire at one integer threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hw_targets.errors import QuantizationError
from hw_targets.network import LIF, GradedInput, Network, Population
from hw_targets.number_formats import NumberFormats
from hw_targets.rounder import Integers, Rounder, largest_value, lasting
from hw_targets.rounding import input_scale

#: Scales tried, in units of the largest one that clips nothing.
FACTORS = (0.7, 0.74, 0.78, 0.83, 0.88, 0.93, 0.98, 1.03, 1.09, 1.15, 1.22, 1.3, 1.4, 1.5, 1.75, 2.0)


class Scaled(NamedTuple):
    """A population's scale, and its integers on it."""

    scale: float
    integers: Integers


@dataclass(frozen=True, eq=False)
class ScaleChooser:
    """Scales for the populations of a network on a chip's integers; without calibration data nothing is searched."""

    rounder: Rounder

    @property
    def network(self) -> Network:
        """What is quantized."""
        return self.rounder.network

    @property
    def formats(self) -> NumberFormats:
        """The chip's."""
        return self.rounder.formats

    def layer(self, members: list[Population], *, has_relays: bool) -> dict[str, Scaled]:
        """Scales and integers of a netx layer, such that all firing neurons have the same integer threshold.

        With calibration data the layers are to be asked for one after the other: each is fitted to what those before
        it send in the integers they were given.

        Raises:
            QuantizationError: no scale fits; the message names the population.
        """
        firing = {p.name: p.neuron.v_threshold for p in members if isinstance(p.neuron, LIF)}
        limits = {p.name: self._largest(p) for p in members}
        scales = {p.name: self._readout_scale(p, limits[p.name]) for p in members if p.name not in firing}
        if firing and not has_relays and self._fits_as_trained(firing, limits):
            scales |= {name: float(_unit(self.network[name])) for name in firing}
        elif firing:
            level = self._level(firing, limits, has_relays=has_relays)
            scales |= {name: level / threshold for name, threshold in firing.items()}
        for name, scale in scales.items():
            self._check_weights_survive(self.network[name], scale)
        return {name: self._settled(self.network[name], scale) for name, scale in scales.items()}

    def _settled(self, population: Population, scale: float) -> Scaled:
        """A population's integers on its scale, known to the layers that follow."""
        if self.rounder.calibration is None or not isinstance(population.neuron, LIF):
            return Scaled(scale, self.rounder.integers(population, scale))
        integers = self.rounder.fitted(population, scale, only_biases=False).integers
        self.rounder.settle(population, scale, integers)
        return Scaled(scale, integers)

    def _level(self, firing: dict[str, float], limits: dict[str, float], *, has_relays: bool) -> int:
        """The integer threshold of a layer."""
        most = min(self.formats.threshold, self.formats.weight - 1) if has_relays else self.formats.threshold
        level = int(min(float(most), *(limits[name] * threshold for name, threshold in firing.items())))
        while level >= 1 and not self._all_fit(firing, level):
            level = min(level - 1, int(0.97 * level))
        if level < 1:
            raise _no_scale(min(firing, key=lambda n: limits[n] * firing[n]), self.formats)
        if self.rounder.calibration is None:
            return level
        if any(self._alone_enough(name, threshold) for name, threshold in firing.items()):
            most = min(most, self.formats.weight)  # so that a weight that alone makes a neuron fire still does
        levels = {int(level * factor) for factor in FACTORS} | {level}
        fitting = [x for x in levels if 1 <= x <= max(level, most) and self._all_fit(firing, x)]
        return min(fitting, key=lambda x: (sum(self._differing(n, x / t) for n, t in firing.items()), -x))

    def _readout_scale(self, population: Population, limit: float) -> float:
        """The scale of a readout: of those tried, the one that disturbs its sums least."""
        scale = limit
        while not self.rounder.fits(population, scale):
            scale *= 0.97
        name = population.name
        if name not in self.rounder.grams:
            return scale
        rows, gram = self.rounder.rows[name], self.rounder.grams[name]
        fitting = [scale, *(x for f in FACTORS if self.rounder.fits(population, x := f * scale))]
        return min(fitting, key=lambda x: rows.squared_error(rows.nearest(x), x, gram))

    def _differing(self, name: str, scale: float) -> int:
        """Spikes that differ from the real population's on this scale, its biases fitted."""
        return self.rounder.fitted(self.network[name], scale, only_biases=True).differing

    def _alone_enough(self, name: str, threshold: float) -> bool:
        """Whether one spike through one synapse reaches the threshold."""
        binary = [s for s in self.network.incoming(name) if not isinstance(self.network[s.source].neuron, GradedInput)]
        return any(float(s.op.weight.max(initial=0.0)) >= threshold for s in binary)

    def _all_fit(self, firing: dict[str, float], level: float) -> bool:
        return all(self.rounder.fits(self.network[name], level / t) for name, t in firing.items())

    def _largest(self, population: Population) -> float:
        """Largest scale for which weights and bias fit; groups from one source may have to share a synapse in netx."""
        weights: dict[str, float] = {}
        for s in self.network.incoming(population.name):
            largest = float(np.abs(s.op.weight).max(initial=0.0)) / input_scale(self.network[s.source])
            weights[s.source] = weights.get(s.source, 0.0) + largest
        weight = max(weights.values(), default=0.0)
        bias = 0.0 if population.bias is None else float(np.abs(population.bias).max())
        # With nothing to hold (all zero) any scale will do.
        return min(self.formats.weight / weight if weight else 1e6, self.formats.bias / bias if bias else 1e6, 1e6)

    def _fits_as_trained(self, firing: dict[str, float], limits: dict[str, float]) -> bool:
        """Whether all firing populations of a layer fit on the integers they were trained on, with one threshold."""
        units = {name: _unit(self.network[name]) for name in firing}
        levels = {round(units[name] * threshold) for name, threshold in firing.items()}
        fit = all(0 < u <= limits[name] and self.rounder.fits(self.network[name], u) for name, u in units.items())
        return fit and len(levels) == 1 and 1 <= max(levels) <= self.formats.threshold

    def _check_weights_survive(self, population: Population, scale: float) -> None:
        """Refuse a population whose weights all round to zero although they could make it fire, or are read out."""
        network, incoming = self.network, self.network.incoming(population.name)
        units = [scale / input_scale(network[s.source]) for s in incoming]
        if any(np.rint(s.op.weight * unit).any() for s, unit in zip(incoming, units, strict=True)):
            return
        drive = sum(
            float(np.maximum(s.op.weight, 0).reshape(len(s.op.weight), -1).sum(1).max(initial=0.0))
            * (largest_value(network[s.source]) / input_scale(network[s.source]))
            for s in incoming
        )
        drive *= lasting(population, network.time_steps)
        threshold = population.neuron.v_threshold if isinstance(population.neuron, LIF) else 0.0
        if any(s.op.weight.any() for s in incoming) and drive * network.time_steps >= threshold:
            raise _no_scale(population.name, self.formats)


def _unit(population: Population) -> int:
    return population.neuron.unit or 0 if isinstance(population.neuron, LIF) else 0


def _no_scale(name: str, formats: NumberFormats) -> QuantizationError:
    return QuantizationError(
        f"quantize: {name}'s threshold or all of its weights round to zero on every integer scale that fits: weights"
        f" within ±{formats.weight}, biases within ±{formats.bias}, thresholds up to {formats.threshold}, currents"
        f" below {formats.state}; its largest weight, bias or sum of weights is too far above the rest: train with"
        " weight decay, prune, or narrow the layer"
    )

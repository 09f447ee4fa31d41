"""One scale per population: the integer that stands for 1.0 of membrane potential.

It is the largest for which every integer fits the chip; or the one the network was trained on (`LIF.unit`), where that
fits. On calibration data it is the one whose integers change the fewest spikes of the population, given what its
sources send in the integers they got. That may clip a few weights far above the rest, which costs little: a neuron
fires no more than once a step, however far a weight lifts it. (The squared error of the drive, which weighs such
clipping in full, chose scales that changed more spikes.) Where the largest weights would leave the others next to no
integers, scales that clip them all the way down to the threshold are tried, too, and a sentence says what that changed.
Where a file is to be written, its format may ask for one threshold of several populations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hw_targets.errors import QuantizationError
from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import Network, Population
from hw_targets.quantization.rounder import Fitted, Integers, Rounder
from hw_targets.quantization.rounding import Rows

#: Scales tried, in units of the largest one that clips nothing.
FACTORS = (0.7, 0.74, 0.78, 0.83, 0.88, 0.93, 0.98, 1.03, 1.09, 1.15, 1.22, 1.3, 1.4, 1.5, 1.75, 2.0)
#: Integer threshold, as a part of the largest weight, up to which a layer's largest values are clipped further than
#: that if calibration data agree; and up to which a network without such data is given a note.
COARSE, VERY_COARSE = 1 / 4, 1 / 16
#: Where nothing fits unclipped: the part of a population's spikes that may differ for clipping.
TOLERATED = 0.05


class Scaled(NamedTuple):
    """A population's scale, its integers on it, and what is to be said about them."""

    scale: float
    integers: Integers
    notes: tuple[str, ...] = ()


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

    def together(self, members: list[Population], most: int | None) -> dict[str, Scaled]:
        """Scales and integers of populations whose firing neurons get one integer threshold, of at most `most`.

        With calibration data they are to be asked for sources first: each is fitted to what those before it send in
        the integers they were given.

        Raises:
            QuantizationError: no scale fits; the message names the population.
        """
        firing = {p.name: p.lif.v_threshold for p in members if p.lif is not None}
        limits = {p.name: self._largest(p) for p in members}
        scales = {p.name: self._readout_scale(p, limits[p.name]) for p in members if p.name not in firing}
        if firing and most is None and self._fits_as_trained(firing, limits):
            scales |= {name: float(_unit(self.network[name])) for name in firing}
        elif firing:
            level = self._level(firing, limits, self.formats.threshold if most is None else most)
            scales |= {name: level / threshold for name, threshold in firing.items()}
        for name, scale in scales.items():
            self._check_weights_survive(self.network[name], scale)
        return {name: self._settled(self.network[name], scale) for name, scale in scales.items()}

    def _settled(self, population: Population, scale: float) -> Scaled:
        """A population's integers on its scale, known to the layers that follow."""
        if self.rounder.calibration is None or population.lif is None:
            return Scaled(scale, self.rounder.integers(population, scale), self._coarse(population, scale))
        fitted = self.rounder.fitted(population, scale, only_biases=False)
        self.rounder.settle(population, scale, fitted.integers)
        return Scaled(scale, fitted.integers, tuple(self._notes(population, scale, fitted)))

    def _notes(self, population: Population, scale: float, fitted: Fitted) -> Iterator[str]:
        """Sentences on what is clipped by more than any of `FACTORS` does, and on weights that were not fitted."""
        rows = self.rounder.rows.get(population.name)
        if rows is None:
            return
        if not self.rounder.may_sweep(population):
            yield (
                f"{population.name}: {rows.real.size:,} weights and {population.size:,} neurons are too many to fit"
                " weight by weight to the calibration samples; its scale and biases were"
            )
        over = np.abs(rows.real) * scale / np.maximum(rows.limit, 1.0)
        if over.max() > 1.01 * FACTORS[-1]:
            yield (
                f"{population.name}: what is above the chip's integers is clipped, up to {over.max():.3g} times:"
                f" {_largest_row(rows)}; {fitted.differing} of {fitted.spikes} calibration spikes differ"
            )

    def _coarse(self, population: Population, scale: float) -> tuple[str, ...]:
        """A sentence on a population whose largest value leaves the others next to no integers."""
        neuron, rows = population.lif, self.rounder.rows.get(population.name)
        if rows is None or neuron is None:
            return ()
        level = round(neuron.v_threshold * scale)
        if level > VERY_COARSE * self.formats.weight:
            return ()
        return (
            f"{population.name}: the integer threshold is only {level}, since"
            f" {_largest_row(rows)}; calibration images show whether that may be clipped",
        )

    def _level(self, firing: dict[str, float], limits: dict[str, float], most: int) -> int:
        """The integer threshold of populations that share it."""
        most = min(self.formats.threshold, most)
        level = int(min(float(most), *(limits[name] * threshold for name, threshold in firing.items())))
        while level >= 1 and not self._all_fit(firing, level):
            level = min(level - 1, int(0.97 * level))
        if level < 1 and self.rounder.calibration is None:
            raise self._no_scale(min(firing, key=lambda n: limits[n] * firing[n]))
        if self.rounder.calibration is None:
            return level
        if any(self._alone_enough(name, threshold) for name, threshold in firing.items()):
            most = min(most, self.formats.weight)  # so that a weight that alone makes a neuron fire still does
        levels = {int(level * factor) for factor in FACTORS} | {level}
        fitting = [x for x in levels if 1 <= x <= max(level, most) and self._all_fit(firing, x)]
        fitting += self._clipping(firing, level, most)
        differing = {x: {n: self._with_biases(n, x / t)[1:] for n, t in firing.items()} for x in fitting}
        best = min(fitting, key=lambda x: (sum(count for count, _ in differing[x].values()), -x), default=0)
        if not best:
            raise self._no_scale(min(firing, key=lambda n: limits[n] * firing[n]))
        for name, (count, spikes) in differing[best].items():
            if level < 1 and count > TOLERATED * spikes:
                raise self._no_scale(name, (count, spikes))
        return best

    def _clipping(self, firing: dict[str, float], level: int, most: int) -> list[int]:
        """Thresholds above the largest that clips nothing by more than `FACTORS` reach, where that is small."""
        if level > COARSE * self.formats.weight:
            return []
        tried, x = [], max(1.0, 2.0 * level)
        while (x := 1.4 * x) <= most and x <= self.formats.weight:
            tried.append(int(x))
        return [x for x in tried if all(self.rounder.fits_clipped(self.network[n], x / t) for n, t in firing.items())]

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

    def _with_biases(self, name: str, scale: float) -> Fitted:
        """A population on this scale, its biases fitted."""
        return self.rounder.fitted(self.network[name], scale, only_biases=True)

    def _alone_enough(self, name: str, threshold: float) -> bool:
        """Whether one spike through one synapse reaches the threshold."""
        binary = [s for s in self.network.incoming(name) if not self.network[s.source].neuron.is_graded]
        return any(float(s.op.weight.max(initial=0.0)) >= threshold for s in binary)

    def _all_fit(self, firing: dict[str, float], level: float) -> bool:
        return all(self.rounder.fits(self.network[name], level / t) for name, t in firing.items())

    def _largest(self, population: Population) -> float:
        """Largest scale for which weights and bias fit; groups from one source may have to share a synapse."""
        weights: dict[object, float] = {}
        for s in self.network.incoming(population.name):
            largest = float(np.abs(s.op.weight).max(initial=0.0)) / self.network[s.source].neuron.unit_sent
            key: object = s.source if self.rounder.joins_weights else s
            weights[key] = weights.get(key, 0.0) + largest
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
        units = [scale / network[s.source].neuron.unit_sent for s in incoming]
        if any(np.rint(s.op.weight * unit).any() for s, unit in zip(incoming, units, strict=True)):
            return
        drive = sum(
            float(np.maximum(s.op.weight, 0).reshape(len(s.op.weight), -1).sum(1).max(initial=0.0))
            * (network[s.source].neuron.most_sent / network[s.source].neuron.unit_sent)
            for s in incoming
        )
        drive *= population.neuron.lasting(network.time_steps)
        threshold = 0.0 if population.lif is None else population.lif.v_threshold
        if any(s.op.weight.any() for s in incoming) and drive * network.time_steps >= threshold:
            raise self._no_scale(population.name)

    def _no_scale(self, name: str, differing: tuple[int, int] | None = None) -> QuantizationError:
        """Nothing fits; which row is to blame, and how many of how many spikes differ if it is clipped."""
        formats, rows = self.formats, self.rounder.rows.get(name)
        blame = "its largest weight, bias or sum of weights is too far above the rest"
        if rows is not None:
            blame = _largest_row(rows)
        tried = "pass calibration images, which show whether it may be clipped; or "
        if differing is not None:
            tried = f"clipped, {differing[0]} of {differing[1]} calibration spikes would differ; "
        return QuantizationError(
            f"quantize: {name}'s threshold or all of its weights round to zero on every integer scale that fits:"
            f" weights within ±{formats.weight}, biases within ±{formats.bias}, thresholds up to {formats.threshold},"
            f" currents below {formats.state}; {blame}: {tried}train with weight decay, prune, or narrow the layer"
        )


def _largest_row(rows: Rows) -> str:
    """Which output channel holds the value that needs the most of its integers, and the others' largest."""
    over = np.abs(rows.real) / np.maximum(rows.limit, 1.0)
    row, column = np.unravel_index(int(over.argmax()), over.shape)
    kind = "bias" if rows.has_bias and column == over.shape[1] - 1 else "weight"
    of_kind = rows.real[:, -1:] if kind == "bias" else rows.real[:, : len(rows.limit) - rows.has_bias]
    others = float(np.abs(np.delete(of_kind, row, 0)).max(initial=0.0))
    return f"output channel {row} has a {kind} of {rows.real[row, column]:.4g}, the others' reach {others:.4g}"


def _unit(population: Population) -> int:
    return 0 if population.lif is None else population.lif.unit or 0

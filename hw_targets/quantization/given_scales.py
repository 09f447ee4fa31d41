"""Integers on scales that a network was trained on, where rounding changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hw_targets.chips.target import Together
from hw_targets.errors import QuantizationError
from hw_targets.ir.network import Network, Population
from hw_targets.quantization.rounder import Rounder
from hw_targets.quantization.scales import Scaled

#: What single precision may put between a weight and its whole number, in units.
SLACK = 0.01


def on_scales(rounder: Rounder, scales: Mapping[str, float]) -> dict[str, Scaled]:
    """Every population's integers on its given scale.

    Raises:
        QuantizationError: a population without a scale, or weights, thresholds or currents that the integers of that
            scale do not hold.
    """
    found = {}
    for population in rounder.network.populations:
        if population.is_input:
            continue
        if not scales.get(population.name, 0.0) > 0:
            raise QuantizationError(
                f"quantize: scales has no number above 0 for {population.name}; give those of the network that was"
                f" trained on them, which has {sorted(scales)}"
            )
        scale = float(scales[population.name])
        _check_whole(rounder, population, scale)
        integers = rounder.integers(population, scale)
        if not rounder.fits(population, scale, integers):
            raise QuantizationError(
                f"quantize: on the given scale {scale:.6g} of {population.name} a current may reach"
                f" {rounder.formats.state}, where the chip's state ends; train with weight decay, or find new scales"
            )
        found[population.name] = Scaled(scale, integers)
    return found


def check_together(network: Network, scales: Mapping[str, float], groups: Sequence[Together]) -> None:
    """Refuse scales that are not those of a file format.

    Raises:
        QuantizationError: populations that the format gives one threshold have several, or too high a one.
    """
    for group in groups:
        firing = {name: lif for name in group.members if (lif := network[name].lif) is not None}
        levels = {name: round(lif.v_threshold * scales[name]) for name, lif in firing.items()}
        too_high = group.most is not None and any(level > group.most for level in levels.values())
        if len(set(levels.values())) > 1 or too_high:
            raise QuantizationError(
                f"quantize: on the given scales the integer thresholds are {levels}, but the file format needs one for"
                f" all of them{'' if group.most is None else f', of at most {group.most}'}: fine-tune for it,"
                ' prepare_qat(..., for_format=...) (in a recipe quantization.format = "netx"), or leave for_format out'
            )


def _check_whole(rounder: Rounder, population: Population, scale: float) -> None:
    """Refuse weights and thresholds that are no whole numbers on a scale, or too large."""
    network, formats = rounder.network, rounder.formats
    values = {
        f"weights of {s.name}": (s.op.weight * (scale / network[s.source].neuron.unit_sent), formats.weight)
        for s in network.incoming(population.name)
    }
    if population.lif is not None:
        values[f"threshold of {population.name}"] = np.array([population.lif.v_threshold * scale]), formats.threshold
    for what, (value, limit) in values.items():
        off, largest = float(np.abs(value - np.rint(value)).max(initial=0.0)), float(np.abs(value).max(initial=0.0))
        if off > SLACK or largest > limit + SLACK:
            raise QuantizationError(
                f"quantize: the {what} lie up to {off:.3g} from the whole numbers of the given scale {scale:.6g}, or"
                f" beyond them ({largest:.6g}, limit {limit}): they were not trained on it; keep batch-norm's factors"
                " and statistics still while training (frozen_batch_norm), or quantize without scales"
            )

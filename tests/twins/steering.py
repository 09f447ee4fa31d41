"""Slow twins of what steering measures, on plain numbers: one weight at a time, sorted lists, counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PlainLayer:
    """Magnitudes |θ| of one parameter, its threshold d, the pace of d, and the largest share of zeros it may have."""

    magnitudes: Sequence[float]
    threshold: float
    pace: float = 1.0
    cap: float = 1.0


def kept_below_cap(magnitudes: Sequence[float], cap: float) -> int:
    """How many of the weights a cap lets go."""
    return math.floor(cap * len(magnitudes))


def largest_allowed_threshold(magnitudes: Sequence[float], threshold: float, cap: float) -> float:
    """`threshold`, or the largest magnitude that zeroes no more than the cap allows when it is the threshold, or 0."""
    room = kept_below_cap(magnitudes, cap)
    if sum(m <= threshold for m in magnitudes) <= room:
        return threshold
    allowed = [m for m in magnitudes if sum(other <= m for other in magnitudes) <= room]
    return max(allowed, default=0.0)


def zeros(layers: Sequence[PlainLayer], x: float) -> int:
    """Weights that are zero when every threshold has grown by x·pace, caps kept to."""
    total = 0
    for layer in layers:
        limit = largest_allowed_threshold(layer.magnitudes, layer.threshold + x * layer.pace, layer.cap)
        total += sum(m <= limit for m in layer.magnitudes)
    return total


def slow_distance(layers: Sequence[PlainLayer], sparsity: float) -> float:
    """The smallest x of all that change anything for which enough weights are zero; ∞ if none is enough."""
    count = math.ceil(sparsity * sum(len(layer.magnitudes) for layer in layers))
    if count == 0:
        return -math.inf
    candidates = sorted({(m - layer.threshold) / layer.pace for layer in layers for m in layer.magnitudes})
    return next((x for x in candidates if zeros(layers, x) >= count), math.inf)


def weighted_line(gaps: Sequence[float], drifts: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept of the weighted least-squares line drift = slope·gap + intercept, by NumPy's solver."""
    root = np.sqrt(np.asarray(weights))
    columns = np.stack([np.asarray(gaps), np.ones(len(gaps))], axis=1)
    slope, intercept = np.linalg.lstsq(columns * root[:, None], np.asarray(drifts) * root, rcond=None)[0]
    return float(slope), float(intercept)

"""Weights and bias of one population as rows of integers, one row per output channel.

A column is one input of the row: one weight, and last the bias, whose input is always 1. Synapses that carry one and
the same kernel (the terms of a SEW ADD) share their columns, so that they stay one kernel in integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import Graph, Network, Population, Synapses

Reals = npt.NDArray[np.float64]

#: Passes over the columns; later ones move next to nothing.
SWEEPS = 4
#: What a product of reals may be off by before it is taken for no whole number, relative.
SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Rows:
    """What a population's neurons weigh their inputs with.

    `real` (rows, columns) is in membrane potential per unit of what a source sends (a spike, or one grey level).
    `limit` (columns,) bounds the integers. `groups` hold the synapses of consecutive columns; `has_bias`: of the last.
    """

    real: Reals
    limit: Reals
    groups: tuple[tuple[Synapses, ...], ...]
    has_bias: bool

    def nearest(self, scale: float) -> Reals:
        """q = clip(round(scale·w), ±limit), whole numbers."""
        result: Reals = self.real * scale
        np.rint(result, out=result)
        return np.clip(result, -self.limit, self.limit, out=result)

    def neighbours(self, scale: float) -> tuple[Reals, Reals]:
        """⌊scale·w⌋ and ⌈scale·w⌉ within the limits.

        Beyond a limit both are the limit; both of a whole number, zero among them, are the number.
        """
        target = self.real * scale
        slack = SLACK * np.maximum(1.0, np.abs(target))
        low = np.clip(np.floor(target + slack), -self.limit, self.limit)
        return low, np.clip(np.ceil(target - slack), -self.limit, self.limit)

    def squared_error(self, integers: Reals, scale: float, gram: Reals) -> float:
        """Σ over rows of δ·G·δᵀ with δ = q/scale − w: the drive's squared error, summed over what G sums over."""
        delta = integers / scale - self.real
        return float(np.vdot(delta @ gram, delta))

    def compensated(self, scale: float, gram: Reals) -> Reals:
        """Integers next to scale·w, up or down, such that the errors of a row cancel in its drive.

        Minimises δ·G·δᵀ (see `squared_error`) by coordinate descent: each weight in turn takes the better neighbour
        given all others, q_k ← clip(round(q_k − (δG)_k/G_kk), ⌊scale·w_k⌋, ⌈scale·w_k⌉), until none moves. The error is
        never above that of `nearest`; zeros, whole numbers and signs stay. Coordinate descent for quantization:
        Behdin et al., "QuantEase", 2023 (arXiv 2309.01885).
        """
        q, heard = self.nearest(scale), np.flatnonzero(np.diag(gram) > 0)
        part = self
        if len(heard) < len(gram):  # what nothing comes in through has no part in any error
            gram = gram[np.ix_(heard, heard)]
            part = replace(self, real=self.real[:, heard], limit=self.limit[heard])
        q[:, heard] = part._descended(scale, gram).T
        return q

    def _descended(self, scale: float, gram: Reals) -> Reals:
        """`compensated` where every column is heard of, column by column in memory, as they are looked at."""
        target = self.real * scale
        low, high = (np.ascontiguousarray(side.T) for side in self.neighbours(scale))
        q = np.minimum(np.maximum(np.rint(target.T), low), high)
        slope, diagonal = (q.T - target) @ gram, np.diag(gram)
        free = np.flatnonzero((low != high).any(1))
        for _ in range(SWEEPS):
            moved = False
            for k in free:
                best = np.minimum(np.maximum(np.rint(q[k] - slope[:, k] / diagonal[k]), low[k]), high[k])
                rows = np.flatnonzero(best != q[k])
                if len(rows):
                    slope[rows] += (best - q[k])[rows, None] * gram[k]
                    q[k] = best
                    moved = True
            if not moved:
                break
        return q

    def joined(self, weights: Mapping[int, npt.NDArray[np.int32]], bias: npt.NDArray[np.int32] | None) -> Reals:
        """The rows that `split` takes apart."""
        parts = [weights[id(group[0])].reshape(len(self.real), -1) for group in self.groups]
        if self.has_bias and bias is not None:
            parts.append(bias[:, None])
        result: Reals = np.concatenate(parts, 1).astype(np.float64)
        return result

    def split(self, integers: Reals) -> tuple[dict[int, npt.NDArray[np.int32]], npt.NDArray[np.int32] | None]:
        """The integers as weights by `id` of their synapses, and the bias."""
        weights, at = dict[int, npt.NDArray[np.int32]](), 0
        for group in self.groups:
            shape = group[0].op.weight.shape
            width = int(np.prod(shape[1:]))
            shared = integers[:, at : at + width].astype(np.int32).reshape(shape)
            weights |= {id(s): shared for s in group}
            at += width
        return weights, integers[:, at].astype(np.int32) if self.has_bias else None


def rows_of(
    network: Network, population: Population, formats: NumberFormats, *, joins_weights: bool = False
) -> Rows | None:
    """The rows of a population, or None where nothing leads to it, or matrices and kernels together.

    `joins_weights`: two groups from one source will end in one synapse and share its range.
    """
    groups = _shared(network, population.name)
    if len({len(group[0].op.weight) for group in groups}) != 1:
        return None
    parts = [g[0].op.weight.reshape(len(g[0].op.weight), -1) / network[g[0].source].neuron.unit_sent for g in groups]
    most = _shares(groups, parts, formats) if joins_weights else [float(formats.weight)] * len(groups)
    limits = [np.full(part.shape[1], limit) for part, limit in zip(parts, most, strict=True)]
    bias = population.bias
    has_bias = bias is not None and bias.shape == (len(parts[0]),)
    if has_bias and bias is not None:
        parts.append(bias[:, None])
        limits.append(np.full(1, float(formats.bias)))
    real = np.concatenate(parts, 1).astype(np.float64, copy=False)
    return Rows(real, np.concatenate(limits), tuple(groups), has_bias)


def _shared(graph: Graph, name: str) -> list[tuple[Synapses, ...]]:
    """Incoming synapses, those with one kernel on spikes together."""
    groups: dict[object, list[Synapses]] = {}
    for s in graph.incoming(name):
        source, op = graph[s.source], s.op
        alone = source.neuron.is_graded or s.is_recurrent or s.delay is not None or s.immediate
        key = id(s) if alone else (type(op), op.layout, source.shape, op.weight.shape, op.weight.tobytes())
        groups.setdefault(key, []).append(s)
    return [tuple(group) for group in groups.values()]


def _shares(groups: list[tuple[Synapses, ...]], parts: list[Reals], formats: NumberFormats) -> list[float]:
    """Largest integer per group, where two groups from one source end in one synapse and share its range."""
    largest = [float(np.abs(part).max(initial=0.0)) for part in parts]
    total: dict[str, float] = {}
    for group, top in zip(groups, largest, strict=True):
        for s in group:
            total[s.source] = total.get(s.source, 0.0) + top
    result = []
    for group, top in zip(groups, largest, strict=True):
        share = min((top / total[s.source] if total[s.source] else 1.0) for s in group)
        result.append(float(int(formats.weight * share * (1 + SLACK))))
    return result


def with_integers(synapses: Synapses, weight: npt.NDArray[np.int32]) -> Synapses:
    """The same synapses with the chip's weights."""
    return replace(synapses, op=replace(synapses.op, weight=weight))

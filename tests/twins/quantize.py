"""Slow twins of calibrated rounding: plain loops over positions, weights, steps and choices."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from hw_targets.ir.network import Conv2d, Op
from hw_targets.targets.loihi.neuron import CubaLIF

Reals = npt.NDArray[np.float64]


def inputs_of(op: Op, frame: npt.NDArray[np.generic]) -> list[list[float]]:
    """What each row of weights is multiplied with, position after position, for one source frame."""
    if not isinstance(op, Conv2d):
        return [[float(x) for x in frame.ravel()]]
    channels, height, width = frame.shape
    result = []
    _, rows, columns = op.output_shape(frame.shape)
    for y in range(rows):
        for x in range(columns):
            patch = []
            for c in range(channels):
                for i in range(op.weight.shape[2]):
                    for j in range(op.weight.shape[3]):
                        a = y * op.stride[0] + i * op.dilation[0] - op.padding[0]
                        b = x * op.stride[1] + j * op.dilation[1] - op.padding[1]
                        inside = 0 <= a < height and 0 <= b < width
                        patch.append(float(frame[c, a, b]) if inside else 0.0)
            result.append(patch)
    return result


def gram_of(vectors: list[list[float]]) -> Reals:
    """Mean of x·xᵀ, entries off the diagonal × n / (n + K)."""
    n, columns = len(vectors), len(vectors[0])
    gram = np.zeros((columns, columns))
    for i in range(columns):
        for j in range(columns):
            mean = sum(v[i] * v[j] for v in vectors) / n
            gram[i, j] = mean if i == j else mean * n / (n + columns)
    return gram


def error_of(q: Reals, target: Reals, gram: Reals) -> float:
    """(q − t)·G·(q − t)ᵀ of one row."""
    total = 0.0
    for i in range(len(q)):
        for j in range(len(q)):
            total += (q[i] - target[i]) * gram[i, j] * (q[j] - target[j])
    return float(total)


def best_rounding(target: Reals, limit: float, gram: Reals) -> tuple[Reals, float]:
    """The best of all ways to round each weight of one row up or down."""
    choices = []
    for t in target:
        low, high = np.floor(t + 1e-9), np.ceil(t - 1e-9)
        choices.append(sorted({float(min(max(c, -limit), limit)) for c in (low, high)}))
    candidates = [np.array(q) for q in product(*choices)]
    errors = [error_of(q, target, gram) for q in candidates]
    best = int(np.argmin(errors))
    return candidates[best], errors[best]


def differing_spikes(q: Reals, inputs: list[list[list[int]]], wanted: list[list[bool]], neuron: CubaLIF) -> int:
    """How many spikes of one neuron are not as wanted; `inputs[step][sample][column]`, potentials in 1/64."""
    count = 0
    for sample in range(len(inputs[0])):
        v = 0
        for step in range(len(inputs)):
            drive = sum(int(w) * x for w, x in zip(q, inputs[step][sample], strict=True))
            kept = abs(v) * (4096 - neuron.v_decay) // 4096
            v = (kept if v >= 0 else -kept) + 64 * drive
            fired = v > 64 * neuron.v_threshold
            count += fired != wanted[step][sample]
            if fired:
                v = 0
    return count


def descend(
    q: Reals,
    target: Reals,
    limit: Reals,
    inputs: list[list[list[int]]],
    wanted: list[list[bool]],
    neuron: CubaLIF,
    sweeps: int,
) -> tuple[Reals, int]:
    """One row's biases (the last column), then per sweep its weights and biases, each moved while that helps."""
    q = q.copy()
    best = differing_spikes(q, inputs, wanted, neuron)

    def attempt(column: int, steps: tuple[int, ...], low: float, high: float) -> None:
        nonlocal best
        for step in steps:
            moved = q.copy()
            moved[column] += step
            if low <= moved[column] <= high:
                count = differing_spikes(moved, inputs, wanted, neuron)
                if count < best:
                    q[column], best = moved[column], count

    def bias() -> None:
        reach = limit[-1] if target[-1] else 0.0
        attempt(len(q) - 1, (1, -1, 2, -2, 5, -5), -reach, reach)

    bias()
    for _ in range(sweeps):
        for column in range(len(q) - 1):
            bound = limit[column]
            low, high = np.floor(target[column] + 1e-9), np.ceil(target[column] - 1e-9)
            attempt(column, (1, -1), max(low, -bound), min(high, bound))
        bias()
    return q, best

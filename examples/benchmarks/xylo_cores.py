"""Xylo cores and their inputs, drawn at random: recurrent, aliased and saturating ones among them."""

from __future__ import annotations

import numpy as np

from hw_targets.targets.xylo.specification import Ints, Specification


def random_core(rng: np.random.Generator, largest: int = 24) -> Specification:
    """A core of up to `largest` hidden neurons, with or without recurrence, aliases, biases and a second current.

    Half of them have weights that drive states to the ends of their 16 bits.
    """
    inputs, hidden, outputs = (int(rng.integers(1, most + 1)) for most in (8, largest, 6))
    states, wide = int(rng.integers(1, 3)), bool(rng.integers(2))
    shifts = [int(shift) for shift in rng.integers(4 if wide else 0, 9 if wide else 5, 3)]
    recurrent = _weights(rng, (hidden, hidden, states)) * int(rng.integers(2))
    aliases = tuple(tuple(int(n) for n in rng.choice(hidden, 1)) if rng.random() < 0.3 else () for _ in range(hidden))
    return Specification(
        weights_in=_weights(rng, (inputs, hidden, states)),
        weights_rec=recurrent,
        weights_out=_weights(rng, (hidden, outputs)),
        dash_mem=rng.integers(0, 8, hidden),
        dash_mem_out=rng.integers(0, 8, outputs),
        dash_syn=rng.integers(0, 8, hidden),
        dash_syn_2=rng.integers(0, 8, hidden),
        dash_syn_out=rng.integers(0, 8, outputs),
        threshold=_thresholds(rng, hidden),
        threshold_out=_thresholds(rng, outputs),
        bias_hidden=_biases(rng, hidden),
        bias_out=_biases(rng, outputs),
        weight_shift_in=shifts[0],
        weight_shift_rec=shifts[1],
        weight_shift_out=shifts[2],
        aliases=aliases if rng.random() < 0.4 else (),
    )


def wide_core(rng: np.random.Generator, hidden: int, fan_out: int) -> Specification:
    """16 inputs to all of `hidden` neurons, each of which sends to `fan_out` others, and 8 outputs; one current."""
    mask = rng.random((hidden, hidden)).argsort(1) < fan_out

    def all_of(value: int, neurons: int) -> Ints:
        return np.full(neurons, value)

    return Specification(
        weights_in=rng.integers(-20, 60, (16, hidden, 1)),
        weights_rec=(rng.integers(-20, 20, (hidden, hidden)) * mask)[:, :, None],
        weights_out=rng.integers(-20, 60, (hidden, 8)),
        dash_mem=all_of(4, hidden),
        dash_mem_out=all_of(4, 8),
        dash_syn=all_of(3, hidden),
        dash_syn_2=all_of(3, hidden),
        dash_syn_out=all_of(3, 8),
        threshold=all_of(32000, hidden),
        threshold_out=all_of(3000, 8),
        bias_hidden=all_of(0, hidden),
        bias_out=all_of(0, 8),
        weight_shift_in=5,
        weight_shift_rec=5,
        weight_shift_out=5,
    )


def random_spikes(rng: np.random.Generator, spec: Specification, steps: int, samples: int) -> Ints:
    """(T, N, inputs) counts 0 … 15, mostly none or one."""
    shape = (steps, samples, spec.inputs)
    sparse = rng.random(shape) < rng.uniform(0.05, 0.6)
    counts: Ints = sparse * np.where(rng.random(shape) < 0.9, 1, rng.integers(1, 16, shape))
    return counts


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Ints:
    low = int(rng.choice([-128, -128, -40]))
    found: Ints = rng.integers(low, 128, shape) * (rng.random(shape) < rng.uniform(0.2, 1.0))
    return found


def _thresholds(rng: np.random.Generator, neurons: int) -> Ints:
    found: Ints = np.maximum(1, (2.0 ** rng.uniform(0, 15, neurons)).astype(np.int64))
    return found


def _biases(rng: np.random.Generator, neurons: int) -> Ints:
    if rng.integers(2):
        return np.zeros(neurons, np.int64)
    found: Ints = (2.0 ** rng.uniform(0, 14.9, neurons) * rng.choice([-1, 1], neurons)).astype(np.int64)
    return found

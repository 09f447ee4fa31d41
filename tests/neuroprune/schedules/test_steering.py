"""The equations of steering against integrators, NumPy's least squares, and slow twins that count weight by weight."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from neuroprune.pruning.magnitudes import Layer, capped_threshold, distance
from neuroprune.schedules import steering
from neuroprune.schedules.steering import STEEPEST, WALK, Trend, closing_scale, mean_drift_to_come, rise_exponent
from tests.twins.steering import (
    PlainLayer,
    kept_below_cap,
    largest_allowed_threshold,
    slow_distance,
    weighted_line,
    zeros,
)

# ------------------------------------------------------------------------------------------------------ the equations


@settings(max_examples=60, deadline=None)
@given(
    gap=st.floats(1e-3, 2.0), drift=st.floats(-0.5, 0.5), stiffness=st.floats(0.0, 20.0), growth=st.floats(0.05, 3.0)
)
@example(gap=1.0, drift=0.0, stiffness=0.0, growth=1.0)
@example(gap=1.0, drift=0.2, stiffness=1e-9, growth=1.0)
def test_closing_scale_closes_the_gap_when_the_growth_ends(
    gap: float, drift: float, stiffness: float, growth: float
) -> None:
    scale = closing_scale(gap, drift, stiffness, growth)
    assume(scale > 0)
    # y′ = q′ − c with q′ = f + H·(y₀ − y): what the docstring of the module says the weights do.
    solution = solve_ivp(
        lambda _, y: drift + stiffness * (gap - y) - scale, (0.0, growth), [gap], rtol=1e-10, atol=1e-12
    )
    assert solution.y[0, -1] == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(("gap", "drift", "growth"), [(0.3, 0.1, 2.0), (-0.01, 0.5, 0.1), (1e-6, 0.0, 1e3)])
def test_closing_scale_without_stiffness_is_a_straight_line(gap: float, drift: float, growth: float) -> None:
    exact = drift + gap / growth
    assert closing_scale(gap, drift, 0.0, growth) == pytest.approx(exact)
    near = [abs(closing_scale(gap, drift, h, growth) - exact) for h in (1e-2, 1e-4, 1e-5, 2e-6, 0.9e-6, 1e-9)]
    assert near == sorted(near, reverse=True)  # H → 0 has no jump where the limit is taken
    assert near[-1] < 1e-9 * abs(gap) + 1e-15


def test_closing_scale_never_takes_a_threshold_back() -> None:
    assert closing_scale(-1.0, 0.1, 0.5, 1.0) == 0.0
    assert closing_scale(-math.inf, 0.1, 0.5, 1.0) == 0.0
    assert closing_scale(0.1, -5.0, 0.0, 1.0) == 0.0


@settings(max_examples=50, deadline=None)
@given(
    drift=st.floats(1e-6, 10.0),
    exponent=st.sampled_from([0.0, 1e-9, 0.3, 0.5, 1.0, 2.0]),
    grown=st.floats(1e-3, 10.0),
    left=st.floats(1e-3, 10.0),
)
def test_mean_drift_is_the_integral_of_a_rise_that_goes_on_as_a_power(
    drift: float, exponent: float, grown: float, left: float
) -> None:
    area, _ = quad(lambda g: drift * (g / grown) ** (exponent - 1), grown, grown + left, epsabs=0, epsrel=1e-12)
    assert mean_drift_to_come(drift, exponent, grown, left) == pytest.approx(area / left, rel=1e-6)


@given(exponent=st.floats(0.1, 1.9), grown=st.floats(0.1, 10.0), factor=st.floats(0.1, 10.0))
def test_the_exponent_of_a_power_is_found_at_the_end_and_half_believed_half_way(
    exponent: float, grown: float, factor: float
) -> None:
    rise, drift = factor * grown**exponent, factor * exponent * grown ** (exponent - 1)
    assert rise_exponent(drift, rise, grown, 0.0) == pytest.approx(exponent)
    assert rise_exponent(drift, rise, grown, grown) == pytest.approx((exponent + WALK) / 2)


def test_an_exponent_stays_in_its_range() -> None:
    assert rise_exponent(0.3, 0.0, 1.0, 1.0) == rise_exponent(0.3, -1.0, 1.0, 1.0) == WALK
    assert rise_exponent(50.0, 1.0, 1.0, 0.0) == STEEPEST
    assert rise_exponent(-50.0, 1.0, 1.0, 0.0) == 0.0


def test_a_drift_inwards_lasts_and_none_is_known_at_the_start() -> None:
    assert mean_drift_to_come(-0.3, 0.5, 1.0, 5.0) == -0.3
    assert mean_drift_to_come(0.3, 0.5, 0.0, 5.0) == 0.0
    assert mean_drift_to_come(-0.3, 0.5, 0.0, 5.0) == -0.3


interval = st.tuples(st.floats(0.01, 1.0), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0), st.floats(0.05, 3.0))


def weights_of(intervals: list[tuple[float, float, float, float]]) -> list[float]:
    """Length of each interval, faded by those that came after it, each with its own window."""
    fades = [math.exp(-passed / window) for passed, _, _, window in intervals]
    return [passed * math.prod(fades[i + 1 :]) for i, (passed, *_) in enumerate(intervals)]


def filled(intervals: list[tuple[float, float, float, float]]) -> Trend:
    trend = Trend()
    for values in intervals:
        trend = trend.after(*values)
    return trend


@settings(max_examples=60, deadline=None)
@given(intervals=st.lists(interval, min_size=2, max_size=12), gap=st.floats(-2.0, 2.0))
def test_trend_is_the_weighted_least_squares_line(
    intervals: list[tuple[float, float, float, float]], gap: float
) -> None:
    gaps, drifts, weight = [i[1] for i in intervals], [i[2] for i in intervals], weights_of(intervals)
    mean = float(np.average(gaps, weights=weight))
    spread = float(np.cov(gaps, aweights=weight, ddof=0))
    assume(spread > 1e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steering, "RIDGE", 0.0)
        patch.setattr(steering, "BELIEF", 1.0)
        drift, stiffness = filled(intervals).fit(gap)
    slope, intercept = weighted_line(gaps, drifts, weight)
    assert stiffness == pytest.approx(max(0.0, -slope), abs=1e-6)
    line = slope * gap + intercept if slope < 0 else float(np.average(drifts, weights=weight))
    assert drift == pytest.approx(line, abs=1e-6)
    # As used: the ridge widens the spread, and only part of the slope is believed, through the same mean point.
    drift, stiffness = filled(intervals).fit(gap)
    ridge = spread / (spread + steering.RIDGE * mean**2)
    assert stiffness == pytest.approx(steering.BELIEF * ridge * max(0.0, -slope), abs=1e-6)
    assert drift == pytest.approx(float(np.average(drifts, weights=weight)) - stiffness * (gap - mean), abs=1e-6)


def test_a_trend_of_nothing_or_of_one_point_has_no_stiffness() -> None:
    assert Trend().fit(1.0) == (0.0, 0.0)
    assert Trend().after(0.5, 0.2, 0.3, 1.0).fit(7.0) == pytest.approx((0.3, 0.0))
    assert Trend().after(0.5, 0.0, 0.3, 1.0).fit(7.0) == pytest.approx((0.3, 0.0))  # no spread at all, not even a ridge


# ------------------------------------------------------------------------------ which threshold prunes how many weights

# Sixteenths, and paces that are powers of two: every sum and quotient is exact, in float32 too, and ties are frequent.
sixteenth = st.integers(0, 32).map(lambda n: n / 16)
share = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
layer_values = st.builds(
    PlainLayer, st.lists(sixteenth, min_size=1, max_size=12), sixteenth, st.sampled_from([0.25, 0.5, 1.0, 2.0]), share
)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


def tensor(magnitudes: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The magnitudes with alternating signs, as a matrix."""
    signs = [1.0 if i % 2 else -1.0 for i in range(len(magnitudes))]
    return torch.tensor([[m * s for m, s in zip(magnitudes, signs, strict=True)]], dtype=dtype)


def to_layer(layer: PlainLayer, dtype: torch.dtype = torch.float32) -> Layer:
    return Layer(tensor(list(layer.magnitudes), dtype), layer.threshold, layer.pace, layer.cap)


@settings(max_examples=150, deadline=None)
@given(magnitudes=st.lists(sixteenth, min_size=1, max_size=12), threshold=sixteenth, cap=share, dtype=dtypes)
@example(magnitudes=[1.0, 1.0, 1.0, 1.0], threshold=2.0, cap=0.5, dtype=torch.float32)
@example(magnitudes=[0.5, 1.0, 1.0, 2.0], threshold=2.0, cap=0.5, dtype=torch.float32)
@example(magnitudes=[0.0, 0.0, 0.0, 1.0], threshold=0.5, cap=0.5, dtype=torch.float32)
def test_capped_threshold_is_the_largest_magnitude_that_keeps_to_the_cap(
    magnitudes: list[float], threshold: float, cap: float, dtype: torch.dtype
) -> None:
    theta = tensor(magnitudes, dtype)
    found = capped_threshold(theta, threshold, cap)
    assert found == largest_allowed_threshold(magnitudes, threshold, cap)
    # What cannot be kept from zero: weights that are zero already.
    gone = int((theta.abs() <= found).sum())
    assert gone <= max(kept_below_cap(magnitudes, cap), int((theta == 0).sum()))


def test_capped_threshold_in_double_precision_tells_near_weights_apart() -> None:
    theta = torch.tensor([[0.1, 0.3, 0.3 + 1e-12, 0.9]], dtype=torch.float64)
    found = capped_threshold(theta, 1.0, 0.5)
    assert int((theta.abs() <= found).sum()) == 2


@settings(max_examples=150, deadline=None)
@given(layers=st.lists(layer_values, min_size=1, max_size=3), sparsity=share, dtype=dtypes)
def test_distance_is_that_of_the_slow_twin(layers: list[PlainLayer], sparsity: float, dtype: torch.dtype) -> None:
    found = distance([to_layer(layer, dtype) for layer in layers], sparsity)
    expected = slow_distance(layers, sparsity)
    if all(layer.cap == 1 for layer in layers) or math.isinf(expected):
        assert found == expected
    count = math.ceil(sparsity * sum(len(layer.magnitudes) for layer in layers))
    if math.isfinite(found):
        assert zeros(layers, found) >= count
        assert zeros(layers, found - 1 / 64) < count  # below the grid of all values: it is the smallest


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 10.0, width=32), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_distance_of_one_uncapped_layer_is_a_quantile(magnitudes: list[float], sparsity: float) -> None:
    found = distance([Layer(tensor(magnitudes), 0.0, 1.0)], sparsity)
    values = np.asarray(magnitudes, dtype=np.float32)
    # numpy's inverted_cdf is the ⌈pN⌉-th smallest.
    assert found == np.sort(values)[math.ceil(sparsity * len(values)) - 1]
    if (sparsity * len(values)) % 1 > 1e-6:
        assert found == np.quantile(values, sparsity, method="inverted_cdf")


def test_distance_where_a_layer_does_not_grow() -> None:
    still = Layer(torch.tensor([[0.1, 0.2, 0.9]]), 0.2, 0.0)  # two of three are zero whatever happens
    grows = Layer(torch.tensor([[0.5, 0.7, 0.9]]), 0.2, 1.0)
    assert distance([still, grows], 2 / 6) == -math.inf
    assert distance([still, grows], 3 / 6) == pytest.approx(0.3)
    assert distance([still, grows], 5 / 6) == pytest.approx(0.7)
    assert distance([still, grows], 1.0) == math.inf


def test_weights_pruned_for_another_reason_count() -> None:
    theta = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    pruned = torch.tensor([[False, False, True, False]])
    layer = Layer(theta, 0.0, 1.0, pruned=pruned)
    assert distance([layer], 0.25) == -math.inf
    assert distance([layer], 0.5) == pytest.approx(0.1)
    assert distance([layer], 1.0) == pytest.approx(0.4)
    capped = Layer(theta, 0.0, 1.0, max_sparsity=0.25, pruned=pruned)
    assert distance([capped], 0.25) == -math.inf
    assert distance([capped], 0.5) == pytest.approx(0.1)
    assert distance([capped], 0.75) == math.inf

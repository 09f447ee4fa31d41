"""Every schedule's implied L1 coefficient, recorded from a real optimizer, against the formula it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from neuroprune import (
    LATS,
    PGH,
    SLATS,
    ConstantThreshold,
    EpochLATS,
    Schedule,
    SoftThresholdPruner,
    STDSLinear,
    STDSSine,
)
from neuroprune.schedules import SCHEDULES

STEPS, EPOCHS, BATCHES, LR, D = 60, 12, 5, 0.3, 0.4


def per_step_cosine(step: int) -> float:
    return per_step_cosine_at(step)


def per_step_cosine_at(step: float) -> float:
    return LR * 0.5 * (1 + math.cos(math.pi * step / STEPS))


def per_epoch_cosine(step: int) -> float:
    return LR * 0.5 * (1 + math.cos(math.pi * (step // BATCHES) / EPOCHS))


def record(schedule: Schedule, rate: Callable[[int], float]) -> tuple[list[float], list[float]]:
    """Thresholds and L1 coefficients of a run of STEPS steps with zero gradients."""
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=LR)
    pruner = SoftThresholdPruner(optimizer, schedule)
    thresholds, coefficients = [], []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate(step)
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimizer.step()
        thresholds.append(pruner.threshold)
        coefficients.append(pruner.l1)
    return thresholds, coefficients


def test_lats_keeps_mu_constant_under_any_rate() -> None:
    _, mu = record(LATS(l1=0.7), per_epoch_cosine)
    assert mu == pytest.approx([0.7] * STEPS)


def test_slats_is_constant_under_a_per_step_cosine() -> None:
    # The closed form integrates the cosine that the optimizer takes step by step, here in the middle of each; near the
    # end, where the rate vanishes, the two differ relatively.
    thresholds, mu = record(SLATS(D, STEPS), lambda step: per_step_cosine_at(step + 0.5))
    assert mu[:55] == pytest.approx([D / (LR * STEPS / 2)] * 55, rel=1e-2)
    assert thresholds[-1] == pytest.approx(D, abs=1e-15)


def test_epoch_lats_is_constant_under_a_per_epoch_cosine() -> None:
    thresholds, mu = record(EpochLATS(D, EPOCHS, BATCHES), per_epoch_cosine)
    assert mu == pytest.approx([mu[0]] * STEPS, rel=1e-10)
    assert thresholds[-1] == pytest.approx(D, abs=1e-15)


def test_pgh_decays_mu_geometrically() -> None:
    _, mu = record(PGH(0.5, 0.1, STEPS), per_step_cosine)
    assert mu == pytest.approx([0.5 * 0.1 ** (s / STEPS) for s in range(STEPS)])


def test_the_linear_ramp_lets_mu_explode_as_the_rate_falls() -> None:
    thresholds, mu = record(STDSLinear(D, STEPS), per_step_cosine)
    assert thresholds == pytest.approx([D * (s + 1) / STEPS for s in range(STEPS)])
    assert mu == pytest.approx([D / STEPS / per_step_cosine(s) for s in range(STEPS)])


def test_the_sine_ramp_has_the_published_shape() -> None:
    thresholds, mu = record(STDSSine(D, STEPS), per_step_cosine)
    assert thresholds[STEPS // 2 - 1] == pytest.approx(D / 2)
    assert thresholds[-1] == pytest.approx(D)
    slopes = [D * 0.5 * math.pi / STEPS * math.cos(math.pi * ((s + 0.5) / STEPS - 0.5)) for s in range(STEPS)]
    assert mu == pytest.approx([slope / per_step_cosine(s) for s, slope in enumerate(slopes)], rel=1e-3)


def test_a_constant_threshold_prunes_before_the_first_step_and_never_moves() -> None:
    layer = nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    SoftThresholdPruner(torch.optim.SGD(layer.parameters(), lr=LR), ConstantThreshold(0.1))
    assert torch.equal(layer.weight != 0, before.abs() > 0.1)
    thresholds, mu = record(ConstantThreshold(0.1), per_step_cosine)
    assert thresholds == [0.1] * STEPS
    assert mu == [0.0] * STEPS


PLANNED = [SLATS(D, 3), EpochLATS(D, 1, 3), PGH(0.5, 0.1, 3), STDSLinear(D, 3), STDSSine(D, 3)]


@pytest.mark.parametrize("schedule", PLANNED, ids=lambda s: type(s).__name__)
def test_a_run_past_the_plan_is_stopped_and_keeps_its_weights(schedule: Schedule) -> None:
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=LR)
    pruner = SoftThresholdPruner(optimizer, schedule)
    layer.weight.grad = torch.zeros_like(layer.weight)
    for _ in range(3):
        optimizer.step()
    before, threshold = layer.weight.detach().clone(), pruner.threshold
    with pytest.raises(ValueError, match=r"planned for 3 steps, but the run takes step 4"):
        optimizer.step()
    assert torch.equal(layer.weight, before)
    assert pruner.threshold == threshold
    assert pruner.step == 3


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SLATS", {"final_threshold": -1.0, "steps": 5}),
        ("SLATS", {"final_threshold": 1.0, "steps": 0}),
        ("EpochLATS", {"final_threshold": 1.0, "epochs": 0, "steps_per_epoch": 1}),
        ("PGH", {"l1": float("nan"), "beta": 0.5, "steps": 5}),
        ("PGH", {"l1": 1.0, "beta": 0.0, "steps": 5}),
        ("PGH", {"l1": 1.0, "beta": 1.0, "steps": 5}),
        ("STDSLinear", {"final_threshold": float("inf"), "steps": 5}),
        ("STDSSine", {"final_threshold": 1.0, "steps": -5}),
        ("ConstantThreshold", {"threshold": -0.1}),
    ],
)
def test_values_out_of_range_are_named(name: str, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=name):
        SCHEDULES[name](**arguments)  # type: ignore[arg-type]  # the classes take different arguments

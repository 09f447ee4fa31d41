"""Finding the knob of a method without a target sparsity, from measured sparsities alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Close enough, as a fraction of the weights, and of those that are to be left: accuracy depends on the latter.
TOLERANCE, TOLERANCE_LEFT = 0.003, 0.03
#: Runs spent per target, at most.
MAX_RUNS = 6
#: Furthest step beyond what was tried, as a factor.
REACH = 8.0


@dataclass(frozen=True)
class Trial:
    """A knob tried at seed 0, and the sparsity it gave (1 if training diverged: the knob is too large)."""

    knob: float
    sparsity: float
    target: float


@dataclass(frozen=True)
class Decision:
    """What to do for a target: accept a knob, or try one."""

    knob: float
    accepted: bool


def tolerance(target: float) -> float:
    """How far from a target sparsity a calibrated run may end."""
    return min(TOLERANCE, TOLERANCE_LEFT * (1.0 - target))


def decide(trials: Sequence[Trial], target: float, start: float) -> Decision:
    """The next knob for `target`, assuming that sparsity rises with the knob.

    Trials made for other targets count too. A secant of log(s/(1 − s)) over log(knob), kept inside the tightest bracket
    of the target, or within `REACH` beyond the outermost trial; accepted once the sparsity is within `tolerance`, or
    the closest after `MAX_RUNS` runs for this target.
    """
    if not trials:
        return Decision(start, accepted=False)
    best = min(trials, key=lambda t: abs(t.sparsity - target))
    spent = sum(t.target == target for t in trials)
    if abs(best.sparsity - target) <= tolerance(target) or spent >= MAX_RUNS:
        return Decision(best.knob, accepted=True)
    below = [t for t in trials if t.sparsity < target]
    above = [t for t in trials if t.sparsity >= target]
    if below and above:
        low, high = max(below, key=lambda t: t.knob), min(above, key=lambda t: t.knob)
        return Decision(_between(low, high, target), accepted=False)
    return Decision(_beyond(trials, target), accepted=False)


def _between(low: Trial, high: Trial, target: float) -> float:
    """Secant in the bracket, at least a tenth of it away from both ends; the middle where noise crossed the ends."""
    share = 0.5
    if low.knob < high.knob:
        rise = _logit(high.sparsity) - _logit(low.sparsity)
        share = min(max((_logit(target) - _logit(low.sparsity)) / rise, 0.1), 0.9)
    return math.exp(math.log(low.knob) + share * (math.log(high.knob) - math.log(low.knob)))


def _beyond(trials: Sequence[Trial], target: float) -> float:
    """Along the slope of the two trials nearest the target, or a factor of 4 where there is one trial or no slope."""
    up = trials[0].sparsity < target
    ordered = sorted(trials, key=lambda t: t.knob, reverse=up)
    edge, sign = ordered[0], 1.0 if up else -1.0
    step = math.log(4.0)
    if len(ordered) > 1 and ordered[1].knob != edge.knob:
        inner = ordered[1]
        slope = (_logit(edge.sparsity) - _logit(inner.sparsity)) / math.log(edge.knob / inner.knob)
        if slope > 0:
            step = abs(_logit(target) - _logit(edge.sparsity)) / slope
    return edge.knob * math.exp(sign * min(max(step, math.log(1.2)), math.log(REACH)))


def _logit(sparsity: float) -> float:
    """log(s/(1 − s)), s clipped to 10⁻⁴ … 1 − 10⁻⁴."""
    s = min(max(sparsity, 1e-4), 1.0 - 1e-4)
    return math.log(s / (1.0 - s))

"""Schedules that may be asked for a sparsity instead of a coefficient: the scale of their growth is then steered.

Every growing threshold is d ← d + c·γ with a growth γ that the schedule fixes (η for LATS, the increment of a ramp) and
one scale c (the L1 coefficient μ, the final threshold D). Let the gap y be what d lacks to zero the wanted fraction of
the weights now, and G the growth still to come. The weights at that quantile drift outwards, q′ per unit of growth, and
the harder the closer the threshold comes: q′ = f + H·(y₀ − y) to first order, a drift f and a stiffness H that are
measured while training. Where the quantile has risen ∝ growthᵖ so far, f is taken to go on like that: p is ½ for
weights that walk at random (their drift fades) and 1 or more for those that the network needs and pushes out. The gap
then follows y′ = q′ − c, and

    c = f + H·y / (1 − e^(−H·G))        (for H → 0: c = f + y/G)

closes it exactly when the growth ends. In the first half of a run c follows this; in the second it moves only as far as
it must for the run to end within a tolerance of the target. In the last step, where nothing is guessed any more, a run
that would miss by more than that, and a weight or two, is moved by as much as it takes, backwards if weights moved
inwards. No weight is ever cut: zeros come from the threshold alone.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from neuroprune._numbers import check_whole
from neuroprune.schedules.base import Memory, Schedule, View, check_one_of, progress

#: By how much of the whole growth a run may differ from its plan, as steps that a GradScaler skips make it do.
STRAYED = 0.1
#: How far from its target a steered run may mean to end (a fraction of the weights) before its scale is moved: within a
#: band around the scale reached half-way, and beyond it.
INNER, OUTER = 2e-4, 5e-4
BAND = 0.2
#: The gap is measured when this fraction of the growth to come has passed; in between the scale stays.
MEASURE_EVERY = 1.0 / 64
#: The last step is the one that leaves no more growth than this times its own. A run is moved there only if it would
#: miss its target by more than this fraction: a little above `OUTER`, so that one that kept to it is left alone, and
#: with the weight by which zeros are rounded up within the tenth of a point that is promised.
LAST, LANDING = 1.01, 6e-4
#: Window over which drift and stiffness are fitted, as a fraction of the growth so far.
WINDOW = 0.15
#: Part of the fitted stiffness that is believed: gap and drift also change together because the network learns.
BELIEF = 0.25
#: A spread of the gap below this fraction of it (squared) says nothing about stiffness.
RIDGE = 0.01
#: Exponent of a random walk's spread, and the largest one that is believed.
WALK, STEEPEST = 0.5, 2.0


def closing_scale(gap: float, drift: float, stiffness: float, left: float) -> float:
    """c = f + H·y/(1 − e^(−H·G)) ≥ 0: the scale that closes the gap y in the growth G, both > 0 for c > f."""
    h = stiffness * left
    rate = 1.0 / left if h < 1e-12 else stiffness / -math.expm1(-h)
    return max(0.0, drift + gap * rate)


def clamp(value: float, bounds: tuple[float, float]) -> float:
    """The value, or the bound it is beyond."""
    return min(max(value, bounds[0]), bounds[1])


def rise_exponent(drift: float, rise: float, grown: float, left: float) -> float:
    """p of a quantile that has risen ∝ growthᵖ: its logarithmic slope f·grown/rise, in [0, `STEEPEST`].

    Early in a run that says little; p is then close to that of a random walk: ½ + (f·grown/rise − ½)·grown/(grown +
    left).
    """
    if rise <= 0.0:
        return WALK
    return clamp(WALK + (drift * grown / rise - WALK) * grown / (grown + left), (0.0, STEEPEST))


def mean_drift_to_come(drift: float, exponent: float, grown: float, left: float) -> float:
    """Mean of the drift f over the growth to come if the rise goes on ∝ growthᵖ: f·((1 + x)ᵖ − 1)/(p·x), x =
    left/grown.

    For p → 0: f·ln(1 + x)/x. A drift inwards is taken to last.
    """
    if drift <= 0.0 or grown <= 0.0:
        return min(drift, 0.0)
    x = left / grown
    if exponent < 1e-6:
        return drift * math.log1p(x) / x
    return drift * math.expm1(exponent * math.log1p(x)) / (exponent * x)


@dataclass(frozen=True)
class Trend:
    """Sums for the weighted regression of the quantile's drift on the gap, older measurements fading."""

    weight: float = 0.0
    gap: float = 0.0
    gap_squared: float = 0.0
    drift: float = 0.0
    product: float = 0.0

    def after(self, passed: float, gap: float, drift: float, window: float) -> Trend:
        """With one more interval, its mean gap and drift; what is older fades by e^(−passed/window)."""
        keep = math.exp(-passed / window)
        return Trend(
            keep * self.weight + passed,
            keep * self.gap + passed * gap,
            keep * self.gap_squared + passed * gap * gap,
            keep * self.drift + passed * drift,
            keep * self.product + passed * gap * drift,
        )

    def fit(self, gap: float) -> tuple[float, float]:
        """Drift f at this gap, and stiffness H ≥ 0."""
        if self.weight == 0.0:
            return 0.0, 0.0
        mean_gap, mean_drift = self.gap / self.weight, self.drift / self.weight
        spread = self.gap_squared / self.weight - mean_gap**2 + RIDGE * mean_gap**2
        together = self.product / self.weight - mean_gap * mean_drift
        stiffness = BELIEF * max(0.0, -together / spread) if spread > 0 else 0.0
        return mean_drift - stiffness * (gap - mean_gap), stiffness


class Steered(Schedule):
    """A growing threshold d ← d + c·γ whose scale c is given, or steered to a sparsity.

    `planned_growth` is γ of every planned step, where that depends on learning rates that were planned, too.
    """

    planned_growth: tuple[float, ...] | None = None

    @abstractmethod
    def growth(self, step: int, lr: float) -> float:
        """γ ≥ 0 of optimizer step number `step`."""

    @property
    @abstractmethod
    def total_growth(self) -> float:
        """Σγ over the planned steps."""

    @abstractmethod
    def share(self, step: int, grown: float) -> float:
        """Share of the planned run that is over before step number `step`, in [0, 1]."""

    @cached_property
    def _planned_sums(self) -> tuple[float, ...]:
        """Σγ before every planned step."""
        return (0.0, *accumulate(self.planned_growth or ()))

    def check_plan(self, step: int, memory: Memory) -> None:
        """Refuse a steered run that leaves its plan, or goes on when its growth is used up."""
        grown = memory.get("grown", 0.0)
        if self.target_sparsity is not None and self.planned_growth and step < len(self._planned_sums):
            planned = self._planned_sums[step]
            if abs(grown - planned) > STRAYED * self.total_growth:
                raise ValueError(
                    f"{type(self).__name__}: at step {step} the growth (the sum of the learning rate, for LATS) is"
                    f" {grown:.4g}, but {planned:.4g} was planned: the LR scheduler steps at other times; pass"
                    " steps_per_update, the optimizer steps between two scheduler.step() (the batches of an epoch, if"
                    " it steps once per epoch); or it never steps, or belongs to another optimizer"
                )
        if self.target_sparsity is not None and grown > self.total_growth * (1 + 1e-6):
            raise ValueError(
                f"{type(self).__name__}: planned for a growth (the sum of the learning rate, for LATS) of"
                f" {self.total_growth:g}, which is used up at step {step}; plan for more, or finalize() the pruner when"
                " its schedule ends"
            )

    def advance(self, view: View) -> tuple[list[float], Memory]:
        """The given scale's step, or the steered one's."""
        if self.target_sparsity is None:
            return super().advance(view)
        growths = [self.growth(view.step, lr) for lr in view.rates]
        lead = growths[view.lead]
        if lead <= 0:
            return list(view.thresholds), view.memory
        memory = self._steer(self.target_sparsity, growths, view)
        after = [max(0.0, d + memory["scale"] * g) for d, g in zip(view.thresholds, growths, strict=True)]
        return after, {**memory, "grown": memory["grown"] + lead}

    def _steer(self, target: float, growths: Sequence[float], view: View) -> dict[str, float]:
        """What to remember, with the scale for this step."""
        memory = {"grown": 0.0, **view.memory}
        grown, lead = memory["grown"], growths[view.lead]
        left = max(self.total_growth - grown, lead)
        if left > lead and grown - memory.get("measured", -math.inf) < MEASURE_EVERY * left:
            return memory
        pace = [g / lead for g in growths]
        gap = view.distance(target, pace) if target > 0 else -view.thresholds[view.lead]
        if not math.isfinite(gap):
            return self._rest(target, gap, view, memory)
        level = view.thresholds[view.lead] + gap
        rise = level - memory.setdefault("first_level", level)
        trend = Trend(*(memory.get(f"trend_{i}", 0.0) for i in range(5)))
        if grown > memory.get("measured", math.inf):
            passed = grown - memory["measured"]
            trend = trend.after(passed, (gap + memory["gap"]) / 2, (level - memory["level"]) / passed, WINDOW * grown)
        drift, stiffness = trend.fit(gap)
        drift = mean_drift_to_come(drift, rise_exponent(drift, rise, grown, left), grown, left)
        scale = closing_scale(gap, drift, stiffness, left)
        if self.share(view.step, grown) >= 0.5:
            outer, inner = (self._bracket(t, view, pace, drift, stiffness, left) for t in (OUTER, INNER))
            scale = clamp(memory.get("scale", scale), inner)
            center = memory.setdefault("center", scale)
            scale = clamp(clamp(scale, (center * (1 - BAND), center * (1 + BAND))), outer)
        if left <= LAST * lead:
            scale = clamp(scale, self._ends(view, pace, left))
        sums = (trend.weight, trend.gap, trend.gap_squared, trend.drift, trend.product)
        saved = {f"trend_{i}": value for i, value in enumerate(sums)}
        return {**memory, **saved, "measured": grown, "gap": gap, "level": level, "scale": scale}

    def _bracket(
        self, tolerance: float, view: View, pace: Sequence[float], drift: float, stiffness: float, left: float
    ) -> tuple[float, float]:
        """Scales that would end below and above the target by `tolerance`."""
        target = self.target_sparsity or 0.0
        ends = [view.distance(clamp(target + t, (0.0, 1.0)), pace) for t in (-tolerance, tolerance)]
        low, high = (closing_scale(end, drift, stiffness, left) for end in ends)
        return low, high

    def _ends(self, view: View, pace: Sequence[float], left: float) -> tuple[float, float]:
        """Scales of the last step that end below and above the target by `LANDING`: θ has moved, nothing is guessed.

        They may be below 0: where weights moved inwards and more than wanted are zero, the threshold steps back.
        """
        target = self.target_sparsity or 0.0
        low, high = (view.distance(clamp(target + t, (0.0, 1.0)), pace) / left for t in (-LANDING, LANDING))
        return low, high

    def _rest(self, target: float, gap: float, view: View, memory: dict[str, float]) -> dict[str, float]:
        """A gap of −∞: no weight waits for this threshold, all groups are switched off; measured anew when one does."""
        if gap > 0:
            raise ValueError(
                f"{type(self).__name__}: target_sparsity {target} is out of reach at step {view.step}: max_sparsity and"
                " learning rates of 0 leave too few weights to prune; raise them or lower the target"
            )
        kept = {key: value for key, value in memory.items() if key not in ("measured", "gap", "level")}
        return {**kept, "scale": 0.0}


@dataclass(frozen=True)
class ClosedForm(Steered):
    """A threshold given as a function of the progress x = t/T alone, whatever the learning rate: d = D·fraction(x).

    Args:
        final_threshold: D ≥ 0, the threshold after the last step.
        steps: planned optimizer steps T.
        target_sparsity: in place of `final_threshold`, the fraction of zeros to end at, in [0, 1); D is then steered.

    Raises:
        ValueError: values outside their range; a run that goes on past `steps`.
    """

    final_threshold: float | None = None
    steps: int = 0
    target_sparsity: float | None = None

    def __post_init__(self) -> None:
        check_one_of(self, "final_threshold", "target_sparsity")
        check_whole(self, "steps", self.steps)

    @abstractmethod
    def fraction(self, x: float) -> float:
        """d/D at x ∈ [0, 1]."""

    def check_plan(self, step: int, memory: Memory) -> None:  # noqa: ARG002 - Schedule's signature
        """Refuse a run past T."""
        progress(self, step, self.steps)

    @property
    def total_growth(self) -> float:
        """fraction(1) − fraction(0)."""
        return self.fraction(1.0) - self.fraction(0.0)

    def growth(self, step: int, lr: float) -> float:  # noqa: ARG002 - Steered's signature
        """fraction(x) − fraction(x − 1/T)."""
        x = progress(self, step, self.steps)
        return self.fraction(x) - self.fraction(step / self.steps)

    def share(self, step: int, grown: float) -> float:  # noqa: ARG002 - Steered's signature
        """In steps."""
        return step / self.steps

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """D·fraction(x)."""
        assert self.final_threshold is not None
        return self.final_threshold * self.fraction(progress(self, step, self.steps))

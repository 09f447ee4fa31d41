"""Thresholds by rank: the sparsity is given for every step, and the threshold is the quantile of |θ| that makes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from neuroprune._numbers import check_number, check_share, check_whole
from neuroprune.schedules.base import Memory, Schedule, View, progress


@dataclass(frozen=True)
class SparsityRamp(Schedule):
    """Gradual pruning: the sparsity rises as s(t) = S·(1 − (1 − t/(r·T))³) and stays at S from r·T on (Zhu & Gupta, "To
    prune, or not to prune", 2017); d is the quantile s of all |θ|.

    With `HardThreshold` it is gradual magnitude pruning in which pruned weights keep a latent value, get
    straight-through gradients and may come back; with `SoftThreshold` it is the ramp of ST-3. d follows the weights
    whatever their scale is, so that no optimizer and no normalization can run away from it, and the run ends at S to
    one weight (or to those of equal magnitude).

    Zhu & Gupta ramp over most of the run. Half of it, the default here, left more time to recover and was better at
    every sparsity that was tried (digits, AdamW and SGD): see `prune_to`.

    Args:
        target_sparsity: S, the fraction of zeros among the prunable weights to end at, in [0, 1).
        steps: planned optimizer steps T.
        ramp: r, the share of the steps after which S is reached, in (0, 1].
        exponent: 3 by default; more prunes earlier, 1 is a straight line.
        every: optimizer steps between two looks at the weights; in between d stays. By default a hundredth of T. d is
            always renewed at r·T and after the last step.

    Raises:
        ValueError: values outside their range; a run that goes on past T; a sparsity that caps put out of reach.
    """

    no_joining: ClassVar[str | None] = (
        "the threshold is a quantile of all weights, so that their zeros would jump with their number"
    )

    ranked: ClassVar[bool] = True

    target_sparsity: float | None = None
    steps: int = 0
    ramp: float = 0.5
    exponent: float = 3.0
    every: int | None = None

    def __post_init__(self) -> None:
        check_number(self, "target_sparsity", self.target_sparsity)
        if self.target_sparsity is None or self.target_sparsity >= 1:
            raise ValueError(
                "SparsityRamp: target_sparsity must lie in 0 … 1, 1 excluded (a fraction, not per cent), got"
                f" {self.target_sparsity}"
            )
        check_whole(self, "steps", self.steps)
        check_share(self, "ramp", self.ramp)
        check_number(self, "exponent", self.exponent, 1)
        if self.every is not None:
            check_whole(self, "every", self.every)

    def sparsity(self, taken: int) -> float:
        """s after that many optimizer steps."""
        left = 1.0 - min(1.0, taken / self._ramp_steps)
        return float((self.target_sparsity or 0.0) * (1.0 - left**self.exponent))

    def check_plan(self, step: int, memory: Memory) -> None:  # noqa: ARG002 - Schedule's signature
        """Refuse a run past T."""
        progress(self, step, self.steps)

    def advance(self, view: View) -> tuple[list[float], Memory]:
        """The quantile, in all groups, where it is due."""
        taken = view.step + 1
        every = self.every or max(1, self.steps // 100)
        if taken % every and taken not in (self._ramp_steps, self.steps):
            return list(view.thresholds), view.memory
        threshold = view.quantile(self.sparsity(taken))
        if not math.isfinite(threshold):
            raise ValueError(
                f"SparsityRamp: a sparsity of {self.sparsity(taken):.6g} is out of reach at step {view.step}:"
                " max_sparsity leaves too few weights to prune; raise it or lower the target"
            )
        return [threshold] * len(view.thresholds), view.memory

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """Unchanged: `advance` looks at the weights."""
        return threshold

    @property
    def _ramp_steps(self) -> int:
        return max(1, round(self.ramp * self.steps))

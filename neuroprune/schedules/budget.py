"""Pruning to a budget that is measured, such as synaptic operations, energy or cores, and not to a sparsity."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from neuroprune._numbers import check_number, check_share, check_whole
from neuroprune.schedules.base import Memory, Reached, Schedule, View, progress

#: Share of the weights that is left when a budget is tried for its reach, and below which none is looked for.
FEWEST = 1e-3
#: The last step looks for a measure between this share of the budget and the budget, in at most so many looks.
CLOSE, LOOKS = 0.99, 20


@dataclass(frozen=True)
class BudgetRamp(Schedule):
    """Gradual pruning until a measure of the network is within a budget.

    Thresholds are ranks, as in `SparsityRamp`; the sparsity follows from the measure m, which falls along
    m(t) = B + (m₀ − B)·(1 − t/(r·T))³ from what it is at the first look and stays at the budget B from r·T on: at every
    look the share of weights that is kept is multiplied by m(t)/m. After the last step the threshold is sought between
    two that bracket the budget, with the weights as they are then, so that the run ends within it.

    `measure` is called inside `optimizer.step()`, without gradients, while the parameters hold the weights that a
    threshold gives, and once more where the pruner is frozen or finalized early. It gets nothing and returns a number:
    whatever is to be reported of the network afterwards, for example `synops_per_sample(model, images)`, or
    `hw_targets.on_chip(...)` for energy, time and cores of a chip. It must leave the model in the mode it was in, and
    its neurons reset.

    A measure in whole numbers (cores) is met from below, as far as it goes. Over several processes all must measure the
    same.

    Args:
        budget: B > 0, in the measure's own unit; never exceeded at the end of the run.
        measure: as said.
        steps: planned optimizer steps T.
        ramp: r, the share of the steps after which B is reached, in (0, 1].
        exponent: 3 by default; more prunes earlier, 1 is a straight line.
        every: optimizer steps between two looks, each of which measures; by default a fortieth of T.

    Raises:
        ValueError: values outside their range; a run that goes on past T; a measure that is no number ≥ 0; a budget
            that even a thousandth of the weights exceeds, at the first look.
        RuntimeError: a measure that calls `optimizer.step()`.
    """

    no_joining: ClassVar[str | None] = (
        "the threshold is a quantile of all weights, so that their zeros would jump with their number"
    )
    no_copying: ClassVar[str | None] = (
        "its measure looks at the model it was made for, and would steer the copy by that; copy model and optimizer"
        " without the pruner, make a pruner for the copy with a measure of its own, and give it this one's state_dict()"
    )
    no_shards: ClassVar[str | None] = (
        "its measure runs the model inside the optimizer's step, when FSDP2 may still compute with the weights it"
        " gathered before; prune to a sparsity (SparsityRamp, prune_to)"
    )
    ranked: ClassVar[bool] = True

    budget: float
    measure: Callable[[], float]
    steps: int = 0
    ramp: float = 0.5
    exponent: float = 3.0
    every: int | None = None

    def __post_init__(self) -> None:
        check_number(self, "budget", self.budget)
        if self.budget == 0:
            raise ValueError("BudgetRamp: budget must be above 0, got 0")
        if not callable(self.measure):
            raise TypeError(
                f"BudgetRamp: measure must be a function without arguments, got {type(self.measure).__name__}"
            )
        check_whole(self, "steps", self.steps)
        check_share(self, "ramp", self.ramp)
        check_number(self, "exponent", self.exponent, 1)
        if self.every is not None:
            check_whole(self, "every", self.every)

    def check_plan(self, step: int, memory: Memory) -> None:  # noqa: ARG002 - Schedule's signature
        """Refuse a run past T."""
        progress(self, step, self.steps)

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """Unchanged: `advance` looks at the network."""
        return threshold

    def wanted(self, taken: int, first: float) -> float:
        """m(t) after that many optimizer steps; `first` is m₀."""
        left = 1.0 - min(1.0, taken / max(1, round(self.ramp * self.steps)))
        return float(self.budget + max(0.0, first - self.budget) * left**self.exponent)

    def measured(self, where: str) -> float:
        """What the measure says of the model as it is.

        Raises:
            ValueError: it is no finite number ≥ 0.
        """
        return check_number(self, f"what the measure gives {where}", self.measure())

    def reached(self, sparsity: float) -> Reached:
        """In the measure's unit."""
        found = self.measured(f"with {sparsity:.2%} of the weights zero")
        words = f"{super().reached(sparsity).found}, and {found:.6g} is measured"
        return Reached(words, f"a budget of {self.budget:.6g} was asked for", missed=found > self.budget)

    def advance(self, view: View) -> tuple[list[float], Memory]:
        """The quantile that the last look found, in all groups, where a look is due."""
        taken = view.step + 1
        every = self.every or max(1, self.steps // 40)
        if taken % every and taken != self.steps:
            return list(view.thresholds), view.memory
        memory = dict(view.memory) or self._first(view)
        if taken == self.steps:
            memory["kept"] = self._within(view, memory["kept"], memory["fewest"])
        else:
            measured = self._measured(view, memory["kept"])
            ratio = self.wanted(taken, memory["first"]) / measured if measured > 0 else math.inf
            memory["kept"] = min(1.0, max(memory["fewest"], memory["kept"] * min(2.0, max(0.5, ratio))))
        return [view.quantile(1.0 - memory["kept"])] * len(view.thresholds), memory

    def _first(self, view: View) -> dict[str, float]:
        """What is remembered: m₀, the share of weights that is kept, and the least that may be."""
        fewest = FEWEST
        while fewest < 1.0 and not math.isfinite(view.quantile(1.0 - fewest)):  # max_sparsity keeps some
            fewest = min(1.0, 1.25 * fewest)
        least = self._measured(view, fewest)
        if least > self.budget:
            raise ValueError(
                f"BudgetRamp: a budget of {self.budget:.6g} is out of reach at step {view.step}: with at most"
                f" {fewest:.1%} of the weights left, the least there may be, {least:.6g} is measured;"
                " raise the budget, or make the network smaller"
            )
        return {"first": self._measured(view, 1.0), "kept": 1.0, "fewest": fewest}

    def _within(self, view: View, kept: float, fewest: float) -> float:
        """Share of weights that keeps the budget, as large as a bisection finds it; the least there is, if none does.

        Invariant: `low` is within the budget, or the least there may be; `high` is not within.
        """
        if self._measured(view, 1.0) <= self.budget:
            return 1.0
        low, high, found, power = fewest, 1.0, None, 1
        for _ in range(LOOKS):
            measured = self._measured(view, kept)
            if measured > self.budget:
                high = kept
            else:
                low = found = kept
                if measured >= CLOSE * self.budget:
                    break
            if found is None or high == 1.0:
                # Near the budget the measure is about proportional to what is kept; where it is not, ever longer steps.
                guess = kept * (self.budget * (1 + CLOSE) / 2 / measured) ** power if measured > 0 else high
                power *= 2
            else:
                guess = math.sqrt(low * high)
            kept = guess if low < guess < high else math.sqrt(low * high)
        if found is not None:
            return found
        if (least := self._measured(view, fewest)) > self.budget:
            warnings.warn(
                f"BudgetRamp: the run ends at {least:.6g}, above the budget of {self.budget:.6g}, with the least"
                f" weights there may be, {fewest:.2%}; raise the budget, or make the network smaller",
                stacklevel=2,
            )
        return fewest

    def _measured(self, view: View, kept: float) -> float:
        where = f"at step {view.step}, with {kept:.4%} of the weights left,"
        return view.under(view.quantile(1.0 - kept), lambda: self.measured(where))

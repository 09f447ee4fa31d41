"""What every threshold schedule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from neuroprune._numbers import check_number

#: What a schedule remembers from one step to the next; the pruner keeps it, and saves it in its state_dict.
Memory: TypeAlias = Mapping[str, float]
#: A sparsity that is short by no more than this is reached: a tenth of a point.
ENOUGH = 1e-3


@dataclass(frozen=True)
class View:
    """What a schedule may look at when θ has moved and the thresholds have not yet.

    Args:
        step: number of the optimizer step just taken, from 0.
        rates: learning rate of each parameter group.
        thresholds: d of each group before this step.
        lead: index of the first group that is pruned.
        distance: distance(sparsity, pace) is the smallest x for which the thresholds d + x·pace (`pace` one number per
            group) would zero that fraction of the prunable weights.
        quantile: quantile(sparsity) is the smallest threshold, the same for all groups, that would zero that fraction
            of the prunable weights: 0 for none, ∞ where caps put it out of reach.
        under: under(threshold, look) is what look() returns while the parameters hold the weights that this threshold,
            the same for all groups, gives.
        memory: what the schedule remembered in the last step; empty in the first.
    """

    step: int
    rates: tuple[float, ...]
    thresholds: tuple[float, ...]
    lead: int
    distance: Callable[[float, Sequence[float]], float]
    quantile: Callable[[float], float]
    under: Callable[[float, Callable[[], float]], float]
    memory: Memory


@dataclass(frozen=True)
class Reached:
    """What a run has reached and what was asked for, in words; `missed`: the one is not the other yet."""

    found: str
    asked: str
    missed: bool


class Schedule(ABC):
    """A rule for the threshold. It holds no state, so that one schedule may serve many pruners.

    A new schedule defines `next_threshold`. One that needs to see the weights, or to remember something, overrides
    `advance` instead.
    """

    #: Why a pruner with this schedule cannot be copied; None where it can.
    no_copying: ClassVar[str | None] = None

    #: Why it cannot prune parameters in shards (FSDP2); None where it can.
    no_shards: ClassVar[str | None] = None

    #: The sparsity this schedule steers to, None if it steers to none.
    target_sparsity: float | None = None

    #: Whether thresholds are ranks of the present weights, and not grown.
    ranked: ClassVar[bool] = False

    #: Whether parameters may join a run in mid-way; where not, why not.
    no_joining: ClassVar[str | None] = None

    @property
    def planned_steps(self) -> int | None:
        """Optimizer steps this schedule is planned for, None if it does not say."""
        return getattr(self, "steps", None) or None

    @property
    def initial_threshold(self) -> float:
        """Threshold before the first step."""
        return 0.0

    @abstractmethod
    def next_threshold(self, threshold: float, step: int, lr: float) -> float:
        """Threshold after optimizer step number `step` (from 0), taken with learning rate `lr`."""

    def check_plan(self, step: int, memory: Memory) -> None:  # noqa: B027 - without a plan nothing is checked
        """Raise ValueError if optimizer step number `step` is past the planned run; by default there is no plan."""

    def reached(self, sparsity: float) -> Reached:
        """How far the present weights, of which that fraction is zero, are from what was asked for."""
        words = f"{100 * sparsity:.2f} % of the prunable weights are zero"
        if self.target_sparsity is None:
            return Reached(words, "", missed=False)
        asked = f"{100 * self.target_sparsity:.2f} % were asked for"
        return Reached(words, asked, missed=sparsity < self.target_sparsity - ENOUGH)

    def advance(self, view: View) -> tuple[list[float], Memory]:
        """Thresholds of all groups after a step, and what to remember."""
        pairs = zip(view.thresholds, view.rates, strict=True)
        return [self.next_threshold(d, view.step, lr) for d, lr in pairs], view.memory


def check_one_of(schedule: Schedule, *names: str) -> None:
    """Refuse a schedule unless exactly one of its fields is given, and that one a possible value.

    Raises:
        ValueError: it names the fields and their values.
    """
    given = {name: getattr(schedule, name) for name in names}
    found = [name for name, value in given.items() if value is not None]
    if len(found) != 1:
        values = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(f"{type(schedule).__name__}: give exactly one of {' or '.join(names)}, got {values}")
    check_number(schedule, found[0], given[found[0]])
    if found[0] == "target_sparsity" and given[found[0]] >= 1:
        raise ValueError(
            f"{type(schedule).__name__}: target_sparsity must lie in 0 … 1, 1 excluded (a fraction, not per cent), got"
            f" {given[found[0]]}"
        )


def progress(schedule: object, step: int, steps: int) -> float:
    """x = (step + 1)/steps ∈ (0, 1] after optimizer step number `step` (from 0).

    Raises:
        ValueError: the run goes on past the planned steps.
    """
    if step >= steps:
        raise ValueError(
            f"{type(schedule).__name__}: planned for {steps} steps, but the run takes step {step + 1}; plan for more,"
            " or finalize() the pruner when its schedule ends"
        )
    return (step + 1) / steps

"""neuroprune's own schedules, each through `SoftThresholdPruner`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch.optim import Optimizer

from examples.benchmarks.frontier.methods.base import Handle, Knob, Run
from neuroprune import (
    LATS,
    PGH,
    SLATS,
    STR,
    Schedule,
    SoftThresholdPruner,
    STDSLinear,
    STDSSine,
    prune_at_initialization,
    prune_to,
)
from neuroprune.training.loop import train

#: s before the first step of STR: σ(−10) = 4.5e-5 prunes next to nothing.
STR_INIT = -10.0
SCHEDULES: dict[str, Callable[[Run, int], Schedule]] = {
    "lats": lambda run, steps: LATS.for_sparsity(run.target, run.scheduler, steps),
    "pgh": lambda run, steps: PGH.for_sparsity(run.target, run.scheduler, steps, beta=0.1),
    "slats": lambda run, steps: SLATS(target_sparsity=run.target, steps=steps),
    "stds-linear": lambda run, steps: STDSLinear(target_sparsity=run.target, steps=steps),
    "stds-sine": lambda run, steps: STDSSine(target_sparsity=run.target, steps=steps),
    "str": lambda run, _: STR(s_init=STR_INIT, weight_decay=_knob(run)),
}


@dataclass(frozen=True)
class SoftThreshold:
    """A schedule of `SCHEDULES`, planned for the first `freeze_at` of the run; then the mask is frozen.

    After `freeze()` the weights that are left train on without threshold. `freeze_at` = 1 prunes to the last step.
    """

    name: str
    schedule: str
    freeze_at: float = 1.0
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Build the schedule and hook the pruner to the optimizer."""
        steps = max(1, round(self.freeze_at * run.steps))
        return _SoftThreshold(run, SCHEDULES[self.schedule](run, steps), steps if steps < run.steps else None)


class _SoftThreshold:
    def __init__(self, run: Run, schedule: Schedule, freeze_after: int | None) -> None:
        self.optimizer: Optimizer = run.optimizer
        self.pruner = SoftThresholdPruner(run.optimizer, schedule)
        self._freeze_after = freeze_after
        self._knob = run.knob
        # Hooks run in the order they were registered: the pruner has finished its step when this one counts it.
        self._hook = run.optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, *_: Any) -> None:
        if self.pruner.step == self._freeze_after and not self.pruner.frozen:
            self.pruner.freeze()

    def sparsity(self) -> float:
        """The pruner's."""
        return self.pruner.sparsity()

    def finish(self) -> dict[str, Any]:
        """Finalize, and record where the threshold ended."""
        extras: dict[str, Any] = {"final_threshold": self.pruner.threshold, "final_l1": self.pruner.l1}
        if self._freeze_after is not None:
            extras["frozen_after_step"] = self._freeze_after
        self._hook.remove()
        self.pruner.finalize()
        return extras


@dataclass(frozen=True)
class PruneTo:
    """`neuroprune.prune_to`, told the target and the steps and nothing else."""

    name: str = "prune_to"
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Hook it to the optimizer."""
        return _PruneTo(run.optimizer, prune_to(run.target, run.optimizer, steps=run.steps))


@dataclass
class _PruneTo:
    optimizer: Optimizer
    pruner: SoftThresholdPruner

    def sparsity(self) -> float:
        """The pruner's."""
        return self.pruner.sparsity()

    def finish(self) -> dict[str, Any]:
        """Finalize, and record where the threshold ended."""
        extras = {"final_threshold": self.pruner.threshold}
        self.pruner.finalize()
        return extras


@dataclass(frozen=True)
class PruneAtInitialization:
    """LATS for `search` of the run's steps, on top of them (a budget larger by as much), rewound, then trained."""

    search: float = 0.2
    name: str = "pai"
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Search the mask with an LR scheduler of its own."""
        epochs = max(1, round(self.search * run.hyper.epochs))
        images = min(len(run.data), round(self.search * run.steps * run.hyper.batch_size / epochs))
        data, hyper = run.data.subset(0, images), replace(run.hyper, epochs=epochs)

        def search(_: SoftThresholdPruner) -> None:
            train(run.model, data, run.optimizer, scheduler, hyper, run.predict, title="mask search")

        start = copy.deepcopy(run.optimizer.state_dict())
        scheduler = hyper.scheduler(run.optimizer, hyper.steps(images))
        schedule = LATS.for_sparsity(run.target, scheduler, hyper.steps(images))
        pruner = prune_at_initialization(run.model, run.optimizer, schedule, search)
        run.optimizer.load_state_dict(start)
        return _Frozen(run.optimizer, pruner, hyper.steps(images))


@dataclass
class _Frozen:
    optimizer: Optimizer
    pruner: SoftThresholdPruner
    searched: int

    def sparsity(self) -> float:
        """The pruner's."""
        return self.pruner.sparsity()

    def finish(self) -> dict[str, Any]:
        """Finalize, and record what the search took."""
        self.pruner.finalize()
        return {"search_steps": self.searched}


def _knob(run: Run) -> float:
    if run.knob is None:
        raise ValueError("str: needs weight_decay (knob=...), which calibration finds for a target sparsity")
    return run.knob

"""What a pruner says, once, when it sees a run go wrong."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import nn

from neuroprune.pruning.shards import WHOLE, Shards
from neuroprune.schedules import Schedule

#: Optimizer steps between two looks; the last planned step and `finalize()` look, too.
EVERY = 100


class Watch:
    """Warns of layers that became all zero, and of a plan that was stopped early."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._empty: set[int] = set()

    def is_due(self, step: int) -> bool:
        """Whether to look after so many steps."""
        return step % EVERY == 0 or step == self._schedule.planned_steps

    @torch.no_grad()
    def look(self, parameters: Iterable[nn.Parameter], step: int, shards: Shards = WHOLE) -> None:
        """Warn of parameters that are all zero, each once."""
        parameters = list(parameters)
        for index, (parameter, zeros) in enumerate(zip(parameters, shards.zeros(parameters), strict=True)):
            if index in self._empty or zeros < parameter.numel() or zeros == 0:
                continue
            self._empty.add(index)
            other = (
                ""
                if self._schedule.ranked
                else ", or use neuroprune.prune_to, whose threshold survivors do not pay for"
            )
            warnings.warn(
                f"SoftThresholdPruner: all {parameter.numel()} weights of pruned parameter {index}, of shape"
                f" {tuple(parameter.shape)}, are zero at step {step}: nothing passes this layer any more; give its"
                f" parameter group a max_sparsity below 1, ask for a lower sparsity{other}",
                UserWarning,
                stacklevel=2,
            )

    @torch.no_grad()
    def stopped(self, step: int, sparsity: float, *, frozen: bool = False) -> None:
        """Warn of a plan that was not carried out to its end; one that is `frozen`, if it has not reached its aim."""
        planned = self._schedule.planned_steps
        if planned is None or not 0 <= step < planned:
            return
        reached = self._schedule.reached(sparsity)
        if frozen and not reached.missed:
            return
        wanted = f", {reached.asked}" if reached.asked else ""
        warnings.warn(
            f"SoftThresholdPruner: {type(self._schedule).__name__} was planned for {planned} steps and"
            f" {'frozen' if frozen else 'stopped'} after {step}: {reached.found}{wanted}; train on to the end of the"
            " plan, or plan for the steps the run takes",
            UserWarning,
            stacklevel=3,
        )

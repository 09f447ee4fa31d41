"""The pruner that a recipe's table [pruning] describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from neuroprune.pruning.costs import Costs, SynapticCosts
from neuroprune.pruning.fan_in import Cap, Caps
from neuroprune.pruning.maps import PROXIMAL_MAPS, ProximalMap, SoftThreshold
from neuroprune.pruning.metric import Preconditioner
from neuroprune.pruning.pruner import SoftThresholdPruner
from neuroprune.pruning.recommended import prune_to
from neuroprune.schedules import LATS, SCHEDULES, Schedule, SparsityRamp
from neuroprune.training.toml import InvalidRecipe

#: What stands in a recipe for `neuroprune.prune_to`, in place of a schedule.
PRUNE_TO = "prune_to"
#: Costs of weights by what a recipe calls them, each made of the model.
COSTS: Mapping[str, Callable[[nn.Module], Costs]] = {"synops": SynapticCosts}


@dataclass(frozen=True)
class PruningTable:
    """The table [pruning].

    Attributes:
        recipe: name of the recipe, with which messages begin.
        schedule: a schedule's class name, or "prune_to".
        arguments: the schedule's fields, or `sparsity` for "prune_to"; sums of the learning rate come from a dry run,
            and a schedule that is planned for a number of `steps` gets the run's.
        proximal: a proximal map's class name, None for the soft threshold.
        damping: thresholds in the optimizer's metric with this damping (see `Preconditioner`), None for plain ones.
        fan_in: cap of the synapses that end in a neuron, None for no cap.
        fan_out: cap of those that start from one, in each parameter.
        costs: one of `COSTS` by which weights are told apart, None where all cost the same.
    """

    recipe: str
    schedule: str = "LATS"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    proximal: str | None = None
    damping: float | None = None
    fan_in: int | None = None
    fan_out: int | None = None
    costs: str | None = None

    def pruner(
        self,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        steps: int,
        model: nn.Module,
    ) -> SoftThresholdPruner:
        """Attach it to an optimizer of a model, for a run of `steps` under a learning-rate scheduler.

        Raises:
            InvalidRecipe: unknown names, arguments out of range, or such as do not go together.
        """
        if self.schedule == PRUNE_TO:
            return self._prune_to(optimizer, steps, model)
        schedule, proximal = self._schedule(scheduler, steps), self._map()
        caps, costs = self._caps(steps), self._costs(model)
        try:
            precondition = None if self.damping is None else Preconditioner(self.damping)
            return SoftThresholdPruner(
                optimizer,
                schedule,
                proximal=proximal,
                caps=caps,
                precondition=precondition,
                costs=costs,
            )
        except ValueError as error:
            raise InvalidRecipe(f"{self.recipe}: the table pruning cannot be used: {error}") from error

    def _prune_to(self, optimizer: torch.optim.Optimizer, steps: int, model: nn.Module) -> SoftThresholdPruner:
        for key, value in (("proximal", self.proximal), ("damping", self.damping)):
            if value is not None:
                raise InvalidRecipe(
                    f'{self.recipe}: pruning.{key} is chosen by schedule = "prune_to"; leave it out, or name a schedule'
                    " such as SparsityRamp"
                )
        if set(self.arguments) != {"sparsity"}:
            raise InvalidRecipe(
                f'{self.recipe}: schedule = "prune_to" needs pruning.sparsity, the fraction of zeros to end at, and'
                f" knows fan_in, fan_out and costs besides; got {sorted(self.arguments)}"
            )
        sparsity, caps, costs = self.arguments["sparsity"], self._caps(steps), self._costs(model)
        try:
            SparsityRamp(sparsity, steps)
        except ValueError as error:
            raise InvalidRecipe(f"{self.recipe}: pruning.sparsity cannot be used: {error}") from error
        try:
            return prune_to(sparsity, optimizer, steps=steps, caps=caps, costs=costs)
        except ValueError as error:
            raise InvalidRecipe(f"{self.recipe}: the table pruning cannot be used: {error}") from error

    def _caps(self, steps: int) -> Caps | None:
        found = dict[str, Cap]()
        for key, limit in (("fan_in", self.fan_in), ("fan_out", self.fan_out)):
            try:
                found |= {} if limit is None else {key: Cap(limit, steps)}
            except ValueError as error:
                raise InvalidRecipe(f"{self.recipe}: pruning.{key}: {error}") from error
        return Caps(**found) if found else None

    def _costs(self, model: nn.Module) -> Costs | None:
        if self.costs is None:
            return None
        if self.costs not in COSTS:
            raise InvalidRecipe(f"{self.recipe}: unknown pruning.costs {self.costs!r}; known are {sorted(COSTS)}")
        return COSTS[self.costs](model)

    def _map(self) -> ProximalMap:
        if self.proximal is None:
            return SoftThreshold()
        if self.proximal not in PROXIMAL_MAPS:
            raise InvalidRecipe(
                f"{self.recipe}: unknown pruning.proximal {self.proximal!r}; known are {sorted(PROXIMAL_MAPS)}"
            )
        return PROXIMAL_MAPS[self.proximal]()

    def _schedule(self, scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> Schedule:
        kind: Any = SCHEDULES.get(self.schedule)
        if kind is None:
            raise InvalidRecipe(
                f"{self.recipe}: unknown pruning.schedule {self.schedule!r}; known are {[*sorted(SCHEDULES), PRUNE_TO]}"
            )
        known = [f.name for f in dataclasses.fields(kind)]
        arguments = dict(self.arguments)
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise InvalidRecipe(f"{self.recipe}: {self.schedule} has no key pruning.{unknown[0]}; its keys are {known}")
        try:
            if self.schedule == "LATS" and set(arguments) == {"final_threshold"}:
                return LATS.from_dry_run(arguments["final_threshold"], scheduler, steps)
            if "target_sparsity" in arguments and hasattr(kind, "for_sparsity"):
                return cast(Schedule, kind.for_sparsity(scheduler=scheduler, steps=steps, **arguments))
            if "steps" in known:
                arguments.setdefault("steps", steps)
            schedule: Schedule = kind(**arguments)
        except (TypeError, ValueError) as error:
            raise InvalidRecipe(f"{self.recipe}: pruning.{error}; the keys of {self.schedule} are {known}") from error
        return schedule

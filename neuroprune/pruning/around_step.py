"""What a pruner does around an optimizer's step: θ goes into the parameters before it, and the weights after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from neuroprune.pruning.checks import attach, check_gradients, check_rates, check_thresholds, detach
from neuroprune.pruning.clipping import clip_pruned_
from neuroprune.pruning.closure import Arguments, evaluated
from neuroprune.pruning.learning import learn, take_true_gradients
from neuroprune.pruning.parameters import PrunedParameters
from neuroprune.pruning.resume import Beginning
from neuroprune.pruning.shards import local
from neuroprune.pruning.watch import Watch
from neuroprune.schedules import Memory, Schedule, View


@dataclass
class Progress:
    """How far a run has come, apart from the latent values.

    Attributes:
        step: optimizer steps taken (skipped ones not counted).
        thresholds: d of each parameter group, before caps.
        l1: Δd/η of the last step, of each group.
        memory: what the schedule remembers.
        frozen: whether zeros stay for good and nothing else is pruned.
    """

    step: int = 0
    thresholds: list[float] = field(default_factory=list)
    l1: list[float] = field(default_factory=list)
    memory: Memory = field(default_factory=dict)
    frozen: bool = False

    def saved(self) -> dict[str, Any]:
        """Plain values; whether it is frozen is seen by the masks that are saved beside them."""
        return {
            "step": self.step,
            "thresholds": list(self.thresholds),
            "l1": list(self.l1),
            "memory": dict(self.memory),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `saved` gave."""
        self.step = int(state["step"])
        self.thresholds = [float(d) for d in state["thresholds"]]
        self.l1 = [float(m) for m in state["l1"]]
        self.memory = {str(key): float(value) for key, value in state["memory"].items()}
        self.frozen = bool(state["masks"])


class AroundStep:
    """Hooks an optimizer's step: latent values move, thresholds advance, the parameters hold weights again.

    Args:
        optimizer: whose steps.
        schedule: rule for the thresholds.
        parameters: what is pruned, registered by `register` here.
        beginning: looks, until the first step, for a run that was resumed without its state.
        clip_pruned: see `clip_pruned_`; None clips nothing.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        parameters: PrunedParameters,
        beginning: Beginning,
        clip_pruned: float | None = None,
    ) -> None:
        self.progress = Progress()
        self.watch = Watch(schedule)
        self.clip_pruned = clip_pruned
        self._optimizer = optimizer
        self._schedule = schedule
        self._parameters = parameters
        self._beginning: Beginning | None = beginning
        self._inside = False
        self._looking = False
        self._handles: list[Any] = []

    @property
    def attached(self) -> bool:
        """Whether the optimizer's steps are hooked."""
        return bool(self._handles)

    def attach(self) -> None:
        """Hook the optimizer's steps."""
        assert self._beginning is not None
        self._beginning.attached(self._optimizer, self._parameters.latents)
        attach(self._optimizer)
        # A compiled step is compiled around the hooks: they exchange storage, which no graph may.
        eager: Any = torch.compiler.disable
        self._handles = [
            self._optimizer.register_step_pre_hook(eager(self._before)),
            self._optimizer.register_step_post_hook(eager(self._after)),
        ]

    def detach(self) -> None:
        """Leave the optimizer alone."""
        self.end_interrupted()
        self.begin()
        detach(self._optimizer)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def begin(self) -> None:
        """The run has begun, or was resumed: no more looking for one that was forgotten."""
        if self._beginning is not None:
            self._beginning.close()
            self._beginning = None

    @torch.no_grad()
    def register(self) -> None:
        """Give every new prunable parameter a latent value; also those of a group added since the last step."""
        progress = self.progress
        old_groups = len(progress.thresholds)
        initial = self._schedule.initial_threshold
        check_thresholds([initial], self._optimizer, self._schedule, "before the first step")
        for _ in range(old_groups, len(self._optimizer.param_groups)):
            progress.thresholds.append(initial)
            progress.l1.append(0.0)
        self._parameters.register(progress.thresholds, progress.step, old_groups)

    @torch.no_grad()
    def settle(self) -> None:
        """Between steps: everything prunable is known, and what was written from outside is adopted."""
        self.end_interrupted()
        self.register()
        for parameter, latent in self._parameters.held():
            latent.adopt_if_written(parameter)

    @torch.no_grad()
    def end_interrupted(self) -> None:
        """Take θ out of the parameters, where a step that raised an exception left it."""
        if self._inside:
            self._leave()

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        if self._looking:
            raise RuntimeError(
                f"{type(self._schedule).__name__}: the measure calls the step() of the optimizer inside whose step it"
                " is called itself; let it look at the model, and train nothing"
            )
        if self._inside:
            return None  # a step inside a step (a subclass that calls super().step()), or a new try after an exception
        # The optimizer would evaluate it at θ.
        arguments = evaluated(args, kwargs)
        progress = self.progress
        check_rates(optimizer, progress.step)
        if getattr(optimizer, "found_inf", None) is None:
            check_gradients(optimizer, progress.step, self._parameters.shards)
        if not progress.frozen:
            self._schedule.check_plan(progress.step, progress.memory)
        if self._beginning is not None and not progress.frozen:
            self._beginning.check(optimizer, self._parameters.latents)
        self.register()
        take_true_gradients(self._parameters, optimizer)
        self._clip()
        for parameter, latent in self._parameters.held():
            latent.enter(parameter)
        self._inside = True
        return arguments

    @torch.no_grad()
    def _after(self, _optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if not self._inside:
            return
        if self._is_skipped():
            self._leave(unchanged=True)
            return
        try:
            self._advance()
        finally:
            self._leave()
        self.begin()
        if self.watch.is_due(self.progress.step):
            self.watch.look(self._parameters.latents, self.progress.step, self._parameters.shards)

    def _clip(self) -> None:
        """Gradients of rows, while the parameters hold the weights they were taken at."""
        if self.clip_pruned is None or self.progress.frozen or self._is_skipped():
            return
        shards, scale = self._parameters.shards, getattr(self._optimizer, "grad_scale", None)
        for _, parameter, latent in self._parameters:
            if parameter.grad is not None:
                whole = partial(shards.whole, parameter=parameter)
                gradient, weight = local(parameter.grad), local(parameter)
                latent.usual = clip_pruned_(gradient, weight, self.clip_pruned, latent.usual, scale=scale, whole=whole)

    def _is_skipped(self) -> bool:
        """A fused optimizer under GradScaler decides inside its kernel to skip a step whose gradients overflowed."""
        found_inf = getattr(self._optimizer, "found_inf", None)
        return found_inf is not None and bool(found_inf.item())

    def _leave(self, *, unchanged: bool = False) -> None:
        for parameter, latent in self._parameters.held():
            latent.leave(parameter, unchanged=unchanged)
        self._inside = False

    def _advance(self) -> None:
        progress = self.progress
        rates = tuple(float(group["lr"]) for group in self._optimizer.param_groups)
        if progress.frozen:
            progress.l1 = [0.0] * len(rates)
            progress.step += 1
            return
        # Before the schedule looks: it ranks weights by the costs that its threshold is then scaled by.
        if self._parameters.costs is not None:
            self._parameters.costs.advance()
        looked = False

        def quantile(sparsity: float) -> float:
            nonlocal looked
            looked = True
            return self._parameters.quantile(sparsity, progress.step + 1)

        view = View(
            progress.step,
            rates,
            tuple(progress.thresholds),
            self._parameters.first_group(),
            self._distance,
            quantile,
            self._under,
            progress.memory,
        )
        after, memory = self._schedule.advance(view)
        after = learn(self._parameters, self._schedule, after, rates)
        check_thresholds(
            after, self._optimizer, self._schedule, f"at step {progress.step}, with learning rates {rates}"
        )
        before = progress.thresholds
        moves = zip(after, before, rates, strict=True)
        progress.l1 = [(new - old) / lr if lr > 0 else 0.0 for new, old, lr in moves]
        progress.thresholds, progress.memory = after, memory
        progress.step += 1
        self._parameters.put_in_force(after, progress.step, before, renewed=looked)

    def look(self, look: Callable[[], float]) -> float:
        """What a measure says of the weights; meanwhile the optimizer takes no step."""
        self._looking = True
        try:
            return look()
        finally:
            self._looking = False

    def _under(self, threshold: float, look: Callable[[], float]) -> float:
        """See `View.under`: in the middle of a step the parameters hold θ, and do so again afterwards."""
        progress = self.progress
        before = progress.thresholds
        self._parameters.put_in_force([threshold] * len(before), progress.step + 1, before, renewed=True)
        self._leave()
        try:
            return self.look(look)
        finally:
            for parameter, latent in self._parameters.held():
                latent.enter(parameter)
            self._inside = True

    def _distance(self, sparsity: float, pace: Sequence[float]) -> float:
        return self._parameters.distance(self.progress.thresholds, sparsity, pace)

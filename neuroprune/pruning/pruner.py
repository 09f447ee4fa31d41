"""Soft threshold pruning inside the optimizer step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import nn
from torch.optim import Optimizer

from neuroprune.pruning.around_step import AroundStep, Progress
from neuroprune.pruning.checks import (
    check_arguments,
    check_costs,
    check_precondition,
    check_rounding,
    check_sharded,
    is_attached,
    nothing_to_prune,
    release,
)
from neuroprune.pruning.clipping import check_multiple
from neuroprune.pruning.costs import Costs
from neuroprune.pruning.fan_in import Cap, Caps, ChipLimits, limits_of
from neuroprune.pruning.maps import ProximalMap, SoftThreshold
from neuroprune.pruning.metric import Preconditioner
from neuroprune.pruning.parameters import PrunedParameters, first_shards
from neuroprune.pruning.resume import Beginning, note_finished
from neuroprune.pruning.rounding import Grid
from neuroprune.pruning.state import check_state, restore_costs, restore_latents, saved_latents
from neuroprune.pruning.wrappers import check_wrappers
from neuroprune.schedules import Schedule


class SoftThresholdPruner:
    """Prunes the parameters of an optimizer while it trains them: w = S_d(θ), the threshold d following a schedule.

    The optimizer moves the latent parameters θ with the gradient taken at w, ∂L/∂θ := ∂L/∂w (straight-through), so a
    pruned weight can come back; weight decay, momentum and other optimizer state act on θ. After each step the
    threshold of every parameter group advances with that group's own learning rate, and the parameters hold
    w = S_d(θ) again. The model is never touched: no wrapped modules, no extra keys in its state_dict. This equals
    training with w = S_d(θ) in the forward pass and identity gradient (Chen et al., ICLR 2023), at the cost of one
    elementwise kernel and one copy of the weights.

        pruner = SoftThresholdPruner(optimizer, LATS(l1=5e-4))
        ...                      # train as before; optimizer.step() prunes
        pruner.finalize()        # the model keeps w, with true zeros

    Prunable are parameters of two or more dimensions that require gradients; a parameter group with `prune=False` is
    left alone, and in one with `max_sparsity=0.9` no parameter loses more than that fraction of its weights: its own
    threshold stops growing there. Save `pruner.state_dict()` beside the optimizer's.

    A step whose gradients hold NaN or infinity, or whose learning rate does, is refused before anything changes.

    Weights changed from outside between steps (`load_state_dict`, an EMA swap) are noticed through the tensor's version
    counter or its storage and adopted: θ moves to the nearest latent value that gives them. A write that hides from
    both, `param.data.copy_(...)`, must be followed by `pruner.adopt_weights()`.

    Parameters in shards (FSDP2's `fully_shard`, called before) are pruned as whole ones, bit for bit: every process
    works on its rows and takes the same decisions as all others; `sparsity()`, `state_dict()` and `finalize()` ask all.

    With `rounding`, the weights it names are rounded to a chip's integers, w = Q(S_d(θ)), and what else it names, such
    as biases, is rounded alone: quantization-aware training by the same hook, still straight-through. Usually a pruned
    network is fine-tuned so, its zeros frozen; the grids come from `hw_targets.prepare_qat`:

        pruner = SoftThresholdPruner(optimizer, ConstantThreshold(0.0), rounding=rounding)
        pruner.freeze()
        ...                      # fine-tune, with batch-norm held still by `frozen_batch_norm(model)`

    Rounding makes more zeros than the threshold does; `max_sparsity` and `target_sparsity` count the threshold's alone.

    Args:
        optimizer: any optimizer that evaluates the gradient before `step()`.
        schedule: rule for the threshold, for example `LATS(l1=...)`.
        proximal: how θ and d become w: `SoftThreshold()` as published, `HardThreshold()`, `Garrote()`. All that is said
            here of S_d holds for each, except that μ = Δd/η is an L1 coefficient for the soft threshold alone.
        fan_in: limit on the synapses that end in a neuron, for example `Cap(4096)`.
        fan_out: limit on those that start from one in each parameter; a parameter group may say its own,
            `fan_out=Cap(...)`, or False, as for weights of the network's inputs.
        caps: instead of both, the chip that says them, `hw_targets.load_chip(name)`, or `Caps(...)`.
        rounding: the grids of the parameters to round; all of them must be the optimizer's.
        costs: scales the threshold of every weight by what it costs on a chip, for example `SynapticCosts(model)`.
        precondition: scales the threshold of every weight by what an adaptive optimizer divides its step by, for
            example `Preconditioner()`; `thresholds` are then in that metric, and `l1` in units of the loss.
        clip_pruned: most that gradients at pruned weights may have, as a multiple of what surviving ones have (see
            `clip_pruned_`): 3 keeps rows that are pruned whole from being blown up by a batch-norm behind them.

    Raises:
        TypeError: an argument is something else, or the optimizer re-evaluates the model (LBFGS).
        ValueError: nothing to prune, a cap without planned steps, the optimizer or one of its parameters already has a
            pruner, a sparsity that the groups' `max_sparsity` puts out of reach, or grids that do not fit the
            optimizer's parameters or a learned threshold, a learned threshold under a map without a true gradient, or
            an optimizer or schedule that cannot be preconditioned.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        *,
        proximal: ProximalMap = SoftThreshold(),  # noqa: B008 - frozen and without state
        fan_in: Cap | None = None,
        fan_out: Cap | None = None,
        caps: Caps | ChipLimits | None = None,
        rounding: Mapping[nn.Parameter, Grid] | None = None,
        precondition: Preconditioner | None = None,
        costs: Costs | None = None,
        clip_pruned: float | None = None,
    ) -> None:
        check_arguments(optimizer, schedule, proximal)
        check_multiple(clip_pruned)
        limits = limits_of(fan_in, fan_out, caps)
        check_precondition(precondition, optimizer, schedule, limits)
        check_costs(costs, schedule, limits)
        check_rounding({} if rounding is None else rounding, optimizer, schedule)
        if is_attached(optimizer):
            raise ValueError("SoftThresholdPruner: this optimizer already has a pruner; call its finalize() first")
        self._optimizer = optimizer
        self._schedule = schedule
        check_wrappers(optimizer)
        shards = first_shards(optimizer)
        check_sharded(shards, schedule, costs, rounding or {})
        beginning = Beginning(optimizer, shards)
        self._parameters = PrunedParameters(
            optimizer, self, schedule, proximal, limits, dict(rounding or {}), precondition, costs, shards
        )
        self._around = AroundStep(optimizer, schedule, self._parameters, beginning, clip_pruned)
        try:
            self._around.register()
            if not self._parameters.latents:
                raise ValueError(nothing_to_prune(optimizer))
        except ValueError:
            release(self._parameters.everything())
            raise
        self._around.attach()

    @property
    def schedule(self) -> Schedule:
        """The rule for the threshold."""
        return self._schedule

    @property
    def proximal(self) -> ProximalMap:
        """How latent values and thresholds become weights."""
        return self._parameters.proximal

    @property
    def precondition(self) -> Preconditioner | None:
        """How thresholds are scaled by the optimizer's metric, None if they are not."""
        return self._parameters.precondition

    @property
    def costs(self) -> Costs | None:
        """What weights cost, None where all cost the same."""
        return self._parameters.costs

    @property
    def step(self) -> int:
        """Optimizer steps taken (skipped ones not counted)."""
        return self._progress.step

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Threshold d of each parameter group, in the unit of the weights: before caps, the mean of learned ones."""
        return tuple(self._progress.thresholds)

    @property
    def threshold(self) -> float:
        """Threshold d of the first parameter group that is pruned."""
        return self._progress.thresholds[self._parameters.first_group()]

    @property
    def l1(self) -> float:
        """L1 coefficient μ = Δd/η of the last step, in the first parameter group that is pruned (of d before any cap).

        0 before any step, and after a step whose learning rate was 0. After the last step of a run that is steered to a
        sparsity and would have missed it, it says how far that step went, and may be any number.
        """
        return self._progress.l1[self._parameters.first_group()]

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """The parameters that are pruned."""
        return tuple(parameter for _, parameter, _ in self._parameters)

    def sparsity(self) -> float:
        """Fraction of the prunable weights that are zero, in [0, 1]; of those in shards every process must ask."""
        self._around.end_interrupted()
        parameters = list(self._parameters.latents)
        zeros = sum(self._parameters.shards.zeros(parameters))
        return zeros / max(1, sum(p.numel() for p in parameters))

    @property
    def attached(self) -> bool:
        """Whether it prunes: `finalize()` has not been called."""
        return self._around.attached

    @property
    def frozen(self) -> bool:
        """Whether `freeze()` was called."""
        return self._progress.frozen

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the present zeros for good and stop pruning: the other weights train on, without threshold.

        This ends the search of early pruning and of pruning at initialization; the latent copy is freed. Not so of
        weights that are rounded: it holds what they are before rounding, and what rounding made zero may come back.

        Warns if the schedule's plan is not at its end, and the sparsity or the budget that was asked for not reached.
        """
        self._check_attached("freeze")
        self._around.settle()
        if not self.frozen:
            self._around.watch.stopped(self.step, self.sparsity(), frozen=True)
        for _, parameter, latent in self._parameters:
            if latent.mask is None:
                latent.freeze(parameter)
        self._progress.frozen = True

    def finalize(self) -> None:
        """Detach from the optimizer and free the latent copy. The model keeps its weights, with true zeros.

        Warns of layers that are all zero, and if the schedule's plan is not at its end.
        """
        self._around.end_interrupted()
        try:
            if self._around.attached and self.step > 0:
                note_finished(self._optimizer)
                self._around.watch.look(self._parameters.latents, self.step, self._parameters.shards)
                if not self.frozen:
                    self._around.watch.stopped(self.step, self.sparsity())
        finally:  # whatever a budget's measure does
            self._detach()

    def _detach(self) -> None:
        self._around.detach()
        release(self._parameters.everything())
        for latent in self._parameters.everything().values():
            latent.theta, latent.mask = torch.empty(0), None

    @torch.no_grad()
    def adopt_weights(self) -> None:
        """Take the parameters' present values as the weights, whoever wrote them; θ moves as little as possible."""
        self._check_attached("adopt_weights")
        self._around.end_interrupted()
        for parameter, latent in self._parameters.held():
            latent.adopt(parameter)

    def __deepcopy__(self, memo: dict[int, Any]) -> SoftThresholdPruner:
        """A pruner of the optimizer's copy: copy model, optimizer and pruner together, `deepcopy((m, o, p))`.

        Raises:
            TypeError: the schedule looks at the model itself (`BudgetRamp`).
        """
        if not self._around.attached:
            new = object.__new__(SoftThresholdPruner)
            memo[id(self)] = new
            new.__dict__.update(copy.deepcopy(self.__dict__, memo))
            return new
        if self._schedule.no_copying is not None:
            raise TypeError(
                f"SoftThresholdPruner: a pruner with {type(self._schedule).__name__} cannot be copied:"
                f" {self._schedule.no_copying}"
            )
        saved = copy.deepcopy(self.state_dict())
        optimizer, (caps, rounding) = copy.deepcopy(self._optimizer, memo), self._parameters.given
        grids = {copy.deepcopy(parameter, memo): grid for parameter, grid in rounding.items()}
        new = memo[id(self)] = SoftThresholdPruner(
            optimizer,
            self._schedule,
            proximal=self.proximal,
            caps=caps,
            rounding=grids,
            precondition=self.precondition,
            costs=copy.deepcopy(self.costs, memo),
            clip_pruned=self._around.clip_pruned,
        )
        new.load_state_dict(saved)
        return new

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always; a pruner is nothing without its optimizer.
        """
        raise TypeError("SoftThresholdPruner cannot be pickled; save pruner.state_dict() beside the optimizer's")

    def state_dict(self) -> dict[str, Any]:
        """State to resume from bit for bit: `step`, `thresholds` and `l1` by group, `latents` by parameter index.

        `applied` holds the thresholds in force by parameter index (caps and learned ones differ from their group's),
        `learned` what learned ones come from, `memory` what the schedule remembers. Once frozen, `masks` holds the
        masks by index, and `latents` the weights. `grids` holds what is rounded to what; a resumed run goes on with
        these, whatever `rounding` it was given. `proximal` names the map, `precondition` what scales thresholds,
        `costs_kind` the costs, of which `costs` holds what they remember, `usual` what `clip_pruned` measured, `away`
        the indices of what is not pruned for now, whose weights are the model's and not those that θ implies.

        Indices count the optimizer's parameters over all groups, as its own state_dict does. Tensors are references.

        Of parameters in shards (FSDP2) every process must ask, and gets whole tensors, in memory of its own: one of
        them saves it, all load it, on as many processes as then, on others, or on one without shards.
        """
        self._check_attached("state_dict")
        self._around.settle()
        return {**self._progress.saved(), **saved_latents(self._parameters)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore θ, thresholds and step, and write the weights w = S_d(θ) they imply into the parameters.

        Raises:
            ValueError: the state belongs to another model or optimizer; nothing is changed then.
        """
        self._check_attached("load_state_dict")
        self._around.settle()
        check_state(state, self._parameters, len(self._progress.thresholds))
        restore_costs(state, self._parameters)
        self._progress.restore(state)
        self._around.begin()
        restore_latents(state, self._parameters)

    @property
    def _progress(self) -> Progress:
        return self._around.progress

    def _check_attached(self, call: str) -> None:
        if not self._around.attached:
            raise RuntimeError(
                f"SoftThresholdPruner.{call}: the pruner was finalized and has no state left; save it before finalize()"
            )

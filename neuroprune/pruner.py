"""Soft threshold pruning inside the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuroprune._latent import Latent
from neuroprune._state import check_state
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
    left alone. Save `pruner.state_dict()` beside the optimizer's.

    Weights changed from outside between steps (`load_state_dict`, an EMA swap) are noticed through the tensor's version
    counter or its storage and adopted: θ moves to the nearest latent value that gives them. A write that hides from
    both, `param.data.copy_(...)`, must be followed by `pruner.adopt_weights()`.

    Args:
        optimizer: any optimizer that evaluates the gradient before `step()`.
        schedule: rule for the threshold, for example `LATS(l1=...)`.

    Raises:
        TypeError: `optimizer` or `schedule` is something else, or the optimizer re-evaluates the model (LBFGS).
        ValueError: nothing to prune, or the optimizer already has a pruner.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        _check_arguments(optimizer, schedule)
        self._optimizer = optimizer
        self._schedule = schedule
        self._step = 0
        self._thresholds: list[float] = []
        self._l1: list[float] = []
        self._latents: dict[nn.Parameter, Latent] = {}
        self._default: dict[nn.Parameter, bool] = {}
        self._inside_step = False
        self._frozen = False
        self._register()
        if not self._latents:
            raise ValueError(
                "SoftThresholdPruner: no prunable parameter among the optimizer's: prunable are floating-point"
                " parameters of two or more dimensions that require gradients, in groups without prune=False"
            )
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    @property
    def schedule(self) -> Schedule:
        """The rule for the threshold."""
        return self._schedule

    @property
    def step(self) -> int:
        """Optimizer steps taken (skipped ones not counted)."""
        return self._step

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Threshold d of each parameter group, in the unit of the weights."""
        return tuple(self._thresholds)

    @property
    def threshold(self) -> float:
        """Threshold d of the first parameter group that is pruned."""
        return self._thresholds[self._first_group()]

    @property
    def l1(self) -> float:
        """L1 coefficient μ = Δd/η of the last step, in the first parameter group that is pruned.

        0 before any step, and after a step whose learning rate was 0.
        """
        return self._l1[self._first_group()]

    def sparsity(self) -> float:
        """Fraction of the prunable weights that are zero, in [0, 1]."""
        self._end_interrupted_step()
        parameters = list(self._latents)
        zeros = sum(p.numel() - int(torch.count_nonzero(p)) for p in parameters)
        return zeros / max(1, sum(p.numel() for p in parameters))

    @property
    def frozen(self) -> bool:
        """Whether `freeze()` was called."""
        return self._frozen

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the present zeros for good and stop pruning: the other weights train on, without threshold.

        This ends the search of early pruning and of pruning at initialization; the latent copy is freed.
        """
        self._check_attached("freeze")
        self._settle()
        for _, parameter, latent in self._pruned():
            if latent.mask is None:
                latent.freeze(parameter)
        self._frozen = True

    def finalize(self) -> None:
        """Detach from the optimizer and free the latent copy. The model keeps its weights, with true zeros."""
        self._end_interrupted_step()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for latent in self._latents.values():
            latent.theta, latent.mask = torch.empty(0), None

    @torch.no_grad()
    def adopt_weights(self) -> None:
        """Take the parameters' present values as the weights, whoever wrote them; θ moves as little as possible."""
        self._check_attached("adopt_weights")
        self._end_interrupted_step()
        for index, parameter, latent in self._pruned():
            if latent.mask is None:
                latent.adopt(parameter, self._thresholds[index])

    def state_dict(self) -> dict[str, Any]:
        """State to resume from bit for bit: `step`, `thresholds` and `l1` by group, `latents` by parameter index.

        Once frozen, `masks` holds the masks by index, and `latents` the weights.

        Indices count the optimizer's parameters over all groups, as its own state_dict does. Tensors are references.
        """
        self._check_attached("state_dict")
        self._settle()
        position = self._positions()
        return {
            "step": self._step,
            "thresholds": list(self._thresholds),
            "l1": list(self._l1),
            "latents": {position[p]: latent.saved(p) for p, latent in self._latents.items()},
            "masks": {position[p]: latent.mask for p, latent in self._latents.items() if latent.mask is not None},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore θ, thresholds and step, and write the weights w = S_d(θ) they imply into the parameters.

        Raises:
            ValueError: the state belongs to another model or optimizer; nothing is changed then.
        """
        self._check_attached("load_state_dict")
        self._settle()
        position = self._positions()
        by_index = {position[p]: p for p in self._latents}
        check_state(state, by_index, len(self._thresholds))
        self._step = int(state["step"])
        self._thresholds = [float(d) for d in state["thresholds"]]
        self._l1 = [float(m) for m in state["l1"]]
        masks = {int(index): mask for index, mask in state.get("masks", {}).items()}
        self._frozen = bool(masks)
        group_of = {p: i for i, group in enumerate(self._optimizer.param_groups) for p in group["params"]}
        for index, saved in state["latents"].items():
            parameter = by_index[int(index)]
            threshold = self._thresholds[group_of[parameter]]
            self._latents[parameter].restore(parameter, saved, masks.get(int(index)), threshold)

    def _check_attached(self, call: str) -> None:
        if not self._handles:
            raise RuntimeError(
                f"SoftThresholdPruner.{call}: the pruner was finalized and has no state left; save it before finalize()"
            )

    def _first_group(self) -> int:
        return next((index for index, _, _ in self._pruned()), 0)

    def _positions(self) -> dict[nn.Parameter, int]:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        return {p: index for index, p in enumerate(parameters)}

    def _pruned(self) -> Iterator[tuple[int, nn.Parameter, Latent]]:
        for index, group in enumerate(self._optimizer.param_groups):
            for parameter in group["params"]:
                if parameter in self._latents and self._is_on(group, parameter):
                    yield index, parameter, self._latents[parameter]

    def _is_on(self, group: dict[str, Any], parameter: nn.Parameter) -> bool:
        # A group that lost the key (optimizer.load_state_dict replaces groups by the saved ones) stays what it was.
        return bool(group.get("prune", self._default[parameter]))

    @torch.no_grad()
    def _register(self) -> None:
        """Give every prunable parameter a latent value; also those of a group added since the last step."""
        for index, group in enumerate(self._optimizer.param_groups):
            if index == len(self._thresholds):
                self._thresholds.append(self._schedule.initial_threshold)
                self._l1.append(0.0)
            for parameter in group["params"]:
                self._default.setdefault(parameter, bool(group.get("prune", True)))
                if parameter in self._latents or not (self._is_on(group, parameter) and _is_prunable(parameter)):
                    continue
                self._latents[parameter] = Latent(parameter)
                if self._thresholds[index] > 0:
                    self._latents[parameter].write(parameter, self._thresholds[index])

    @torch.no_grad()
    def _settle(self) -> None:
        """Between steps: everything prunable is known, and what was written from outside is adopted."""
        self._end_interrupted_step()
        self._register()
        for index, parameter, latent in self._pruned():
            latent.adopt_if_written(parameter, self._thresholds[index])

    @torch.no_grad()
    def _end_interrupted_step(self) -> None:
        """Take θ out of the parameters, where a step that raised an exception left it."""
        if self._inside_step:
            self._leave()

    @torch.no_grad()
    def _before_step(self, _: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if (len(args) > 1 and args[1] is not None) or kwargs.get("closure") is not None:
            raise RuntimeError(
                "SoftThresholdPruner: optimizer.step(closure) would evaluate the model at the latent parameters instead"
                " of the weights; compute the loss, call loss.backward(), then optimizer.step() without a closure"
            )
        if self._inside_step:
            return  # a step inside a step (a subclass that calls super().step()), or one more try after an exception
        self._register()
        for index, parameter, latent in self._pruned():
            latent.enter(parameter, self._thresholds[index])
        self._inside_step = True

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if not self._inside_step:
            return
        # A fused optimizer under GradScaler decides inside its kernel to skip a step whose gradients overflowed.
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and bool(found_inf.item()):
            self._leave(unchanged=True)
            return
        try:
            self._advance()
        finally:
            self._leave()

    def _leave(self, *, unchanged: bool = False) -> None:
        for index, parameter, latent in self._pruned():
            latent.leave(parameter, self._thresholds[index], unchanged=unchanged)
        self._inside_step = False

    def _advance(self) -> None:
        rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        if self._frozen:
            self._l1 = [0.0] * len(rates)
            self._step += 1
            return
        after = [
            self._schedule.next_threshold(d, self._step, lr) for d, lr in zip(self._thresholds, rates, strict=True)
        ]
        bad = [d for d in after if not (math.isfinite(d) and d >= 0)]
        if bad:
            raise ValueError(
                f"SoftThresholdPruner: {self._schedule} gives the threshold {bad[0]} at step {self._step}, it must be a"
                f" finite number >= 0 (learning rates {rates})"
            )
        moves = zip(after, self._thresholds, rates, strict=True)
        self._l1 = [(new - old) / lr if lr > 0 else 0.0 for new, old, lr in moves]
        self._thresholds = after
        self._step += 1


def _is_prunable(parameter: Tensor) -> bool:
    return parameter.requires_grad and parameter.dim() >= 2 and parameter.is_floating_point()


def _check_arguments(optimizer: Optimizer, schedule: Schedule) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"SoftThresholdPruner: expected a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError(
            "SoftThresholdPruner: LBFGS re-evaluates the model inside step(), where it would see the latent parameters"
            " instead of the weights; use a first-order optimizer such as SGD or AdamW"
        )
    if not isinstance(schedule, Schedule):
        raise TypeError(f"SoftThresholdPruner: expected a schedule such as LATS(l1=...), got {type(schedule).__name__}")
    for hook in optimizer._optimizer_step_pre_hooks.values():
        if isinstance(getattr(hook, "__self__", None), SoftThresholdPruner):
            raise ValueError("SoftThresholdPruner: this optimizer already has a pruner; call its finalize() first")

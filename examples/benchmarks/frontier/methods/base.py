"""What a pruning method is to the harness, and what the baselines share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neuroprune import SoftThresholdPruner
from neuroprune.training.data.images import ImageSet
from neuroprune.training.loop import Hyperparameters, Predict


@dataclass(frozen=True)
class Run:
    """One training run, before its first step. `target` is the sparsity to reach, `knob` what calibration found."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    steps: int
    target: float
    data: ImageSet
    predict: Predict
    hyper: Hyperparameters
    time_steps: int = 1
    knob: float | None = None


@dataclass(frozen=True)
class Knob:
    """A number that decides the sparsity of a method without a target: more of it, more zeros."""

    name: str
    start: float


class Handle(Protocol):
    """A method at work on one run."""

    @property
    def optimizer(self) -> Optimizer:
        """What the training loop steps."""
        ...

    @property
    def pruner(self) -> SoftThresholdPruner | None:
        """Whose threshold and L1 coefficient are recorded."""
        ...

    def sparsity(self) -> float:
        """Fraction of the prunable weights that are zero, in [0, 1]."""
        ...

    def finish(self) -> dict[str, Any]:
        """Detach, leaving a plain model with true zeros; what is worth recording, as JSON values."""
        ...


class Method(Protocol):
    """A frozen dataclass; its fields are the method's own settings."""

    @property
    def name(self) -> str:
        """As in tables and on the command line."""
        ...

    @property
    def knob(self) -> Knob | None:
        """None where the method reaches the target by itself."""
        ...

    def attach(self, run: Run) -> Handle:
        """Start pruning; the work is done inside `optimizer.step()`."""
        ...


def prunable(optimizer: Optimizer) -> list[nn.Parameter]:
    """Parameters of two or more dimensions, in groups without prune=False: the library's default, for all methods."""
    groups = (g for g in optimizer.param_groups if g.get("prune", True))
    return [p for g in groups for p in g["params"] if p.dim() >= 2 and p.requires_grad]


def sparsity_of(parameters: Sequence[Tensor]) -> float:
    """Fraction of exact zeros."""
    zeros = sum(p.numel() - int(torch.count_nonzero(p)) for p in parameters)
    return zeros / max(1, sum(p.numel() for p in parameters))


class Attached:
    """A handle that counts optimizer steps (from 0) and acts before and after each. Without a method: dense."""

    pruner: SoftThresholdPruner | None = None

    def __init__(self, run: Run) -> None:
        self.optimizer = run.optimizer
        self.parameters = prunable(run.optimizer)
        self._step = 0
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._before),
            self.optimizer.register_step_post_hook(self._after),
        ]

    def before_step(self, step: int) -> None:
        """Between the gradient and the optimizer's use of it."""

    def after_step(self, step: int) -> None:
        """After the optimizer moved the parameters."""

    def sparsity(self) -> float:
        """Fraction of the prunable weights that are zero."""
        return sparsity_of(self.parameters)

    def finish(self) -> dict[str, Any]:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        return {}

    @torch.no_grad()
    def _before(self, *_: Any) -> None:
        self.before_step(self._step)

    @torch.no_grad()
    def _after(self, *_: Any) -> None:
        self.after_step(self._step)
        self._step += 1


@dataclass(frozen=True)
class Dense:
    """No pruning."""

    name: str = "dense"
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Only measures."""
        return Attached(run)

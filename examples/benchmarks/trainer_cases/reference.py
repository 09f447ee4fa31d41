"""Soft threshold pruning written by hand in a plain loop: no pruner, no hooks; and how others are compared with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from neuroprune import LATS, SoftThresholdPruner

#: μ of the runs, their optimizer steps, and the steps of one pass over the data.
L1, STEPS, EPOCH = 0.5, 24, 12
BATCH = 4


@dataclass(frozen=True)
class Outcome:
    """What a run ends with: weights, θ of those that are pruned (by position), d, and the optimizer's state."""

    weights: Mapping[str, Tensor]
    latents: Mapping[int, Tensor]
    threshold: float
    state: Mapping[int, Any]

    def zeros(self) -> int:
        """How many weights of two or more dimensions are zero."""
        return sum(int((w == 0).sum()) for w in self.weights.values() if w.dim() > 1)


@dataclass(frozen=True)
class Verdict:
    """What became of a loop: "exact", "refused" with the message, or "wrong" with the difference."""

    status: str
    message: str = ""


def network() -> nn.Sequential:
    """The same one each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2))


def data() -> tuple[Tensor, Tensor]:
    """Inputs and targets of one pass, in the order in which they are used."""
    generator = torch.Generator().manual_seed(1)
    size = EPOCH * BATCH
    return torch.randn(size, 8, generator=generator), torch.randn(size, 2, generator=generator)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """What optimizer step number `step` sees."""
    inputs, targets = data()
    rows = slice(step % EPOCH * BATCH, (step % EPOCH + 1) * BATCH)
    return inputs[rows], targets[rows]


def criterion(scores: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error."""
    return F.mse_loss(scores, targets)


def adamw(model: nn.Module) -> tuple[Optimizer, LRScheduler]:
    """AdamW under half a cosine."""
    optimizer = AdamW(model.parameters(), lr=5e-3)
    return optimizer, CosineAnnealingLR(optimizer, STEPS)


def lats(optimizer: Optimizer, *_: Any) -> SoftThresholdPruner:
    """The pruner that the loops get."""
    return SoftThresholdPruner(optimizer, LATS(l1=L1))


def mean_loss(model: nn.Module, step: int) -> Tensor:
    """The loss of a step's batch."""
    inputs, targets = batch(step)
    return criterion(model(inputs), targets)


@torch.no_grad()
def prune_by_hand(theta: Mapping[Tensor, Tensor], threshold: float) -> None:
    """θ ← what the optimizer made of it, w ← S_d(θ)."""
    for parameter, latent in theta.items():
        latent.copy_(parameter)
        parameter.copy_(F.softshrink(latent, threshold))


def by_hand(
    steps: int = STEPS,
    *,
    model: nn.Module | None = None,
    loss: Callable[[nn.Module, int], Tensor] = mean_loss,
    make_step: Callable[[Optimizer], Callable[[], Any]] = lambda optimizer: optimizer.step,
) -> Outcome:
    """The loop: backward at w, the optimizer's step at θ, d ← d + μ·η, w ← S_d(θ), the scheduler's step."""
    model = network() if model is None else model
    optimizer, scheduler = adamw(model)
    step_optimizer = make_step(optimizer)
    theta: dict[Tensor, Tensor] = {p: p.detach().clone() for p in model.parameters() if p.dim() > 1}
    threshold = 0.0
    for step in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(loss(model, step))
        with torch.no_grad():
            for parameter, latent in theta.items():
                parameter.copy_(latent)
        threshold += L1 * optimizer.param_groups[0]["lr"]
        step_optimizer()
        prune_by_hand(theta, threshold)
        scheduler.step()
    position = {p: index for index, p in enumerate(model.parameters())}
    latents = {position[p]: latent for p, latent in theta.items()}  # type: ignore[index] # the same objects
    return Outcome(dict(model.state_dict()), latents, threshold, optimizer.state_dict()["state"])


def outcome(model: nn.Module, optimizer: Any, pruner: SoftThresholdPruner) -> Outcome:
    """Of a run with a pruner; copies."""
    state = copy.deepcopy(pruner.state_dict())
    weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    return Outcome(weights, state["latents"], state["thresholds"][0], copy.deepcopy(optimizer.state_dict()["state"]))


def compare(found: Outcome, wanted: Outcome) -> Verdict:
    """ "exact" if every bit of both is the same, and something was pruned at all."""
    if wanted.zeros() < 10:
        return Verdict("wrong", f"only {wanted.zeros()} weights were pruned: that shows nothing")
    for what in ("weights", "latents", "threshold", "state"):
        if not same(getattr(found, what), getattr(wanted, what)):
            return Verdict("wrong", f"{what} differ")
    return Verdict("exact")


def same(a: Any, b: Any) -> bool:
    """Equality of nested values, tensors bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)

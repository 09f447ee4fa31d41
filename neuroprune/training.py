"""One training loop for spiking and ordinary networks; pruning rides on the optimizer it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.backends import backend_of
from neuroprune.data import ImageSet, as_input
from neuroprune.pruner import SoftThresholdPruner

#: Maps a model and images (N, C, H, W) to class scores (N, classes).
Predict: TypeAlias = Callable[[nn.Module, Tensor], Tensor]
#: Receives one record per optimizer step: step, epoch, loss, lr, threshold, l1.
Record: TypeAlias = Callable[[dict[str, float]], None]


def predictor(model: nn.Module, time_steps: int) -> Predict:
    """How to get class scores from a model: through its backend if it spikes, by a plain call if it does not."""
    backend = backend_of(model)
    if backend is None:
        return lambda network, images: network(images)
    return lambda network, images: backend.predict(network, images, time_steps)


@dataclass(frozen=True)
class Hyperparameters:
    """Budget of a run: SGD with Nesterov momentum, linear warm-up, then a cosine to zero, both per step.

    Raises:
        ValueError: a value out of range; the message begins with its name.
    """

    epochs: int = 2
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for key, low in (("epochs", 1), ("batch_size", 1), ("lr", 0.0), ("momentum", 0.0), ("weight_decay", 0.0)):
            if not (math.isfinite(getattr(self, key)) and getattr(self, key) >= low):
                raise ValueError(f"{key} must be a finite number of at least {low}, got {getattr(self, key)}")
        for key in ("warmup_fraction", "label_smoothing"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ValueError(f"{key} must lie in 0 … 1, got {getattr(self, key)}")

    def steps(self, images: int) -> int:
        """Optimizer steps of the run (incomplete batches are dropped)."""
        return self.epochs * (images // self.batch_size)

    def optimizer(self, model: nn.Module) -> torch.optim.SGD:
        """SGD over all parameters; weight decay on those of two or more dimensions only."""
        parameters = list(model.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0, "prune": False},
        ]
        return torch.optim.SGD(
            [g for g in groups if g["params"]], lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0
        )

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """Per-step learning rate; call `step()` after every optimizer step."""
        warmup = max(1, round(self.warmup_fraction * steps))
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0 / warmup, total_iters=warmup)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps - warmup))
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup])


def train(
    model: nn.Module,
    data: ImageSet,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    hyper: Hyperparameters,
    predict: Predict,
    *,
    pruner: SoftThresholdPruner | None = None,
    record: Record | None = None,
    title: str = "training",
    bar_position: int = 0,
) -> None:
    """Train in place for `hyper.epochs` over shuffled `data`.

    A pruner attached to the optimizer does its work inside `optimizer.step()`; it is an argument only to be recorded.
    `bar_position` is the terminal line of the progress bar, for runs side by side.

    Raises:
        FloatingPointError: the loss is NaN or infinite; the model is left as it was before that step.
    """
    generator = torch.Generator().manual_seed(hyper.seed)
    loss_of = nn.CrossEntropyLoss(label_smoothing=hyper.label_smoothing)
    device = next(model.parameters()).device
    model.train()
    with progress_bar(hyper.steps(len(data)), title, bar_position) as bar:
        for step, (epoch, chosen) in enumerate(_batches(len(data), hyper, generator)):
            images, labels = as_input(data.images[chosen].to(device)), data.labels[chosen].to(device)
            loss = loss_of(predict(model, images), labels)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{title}: the loss is {loss.item()} at step {step}; lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            lr = float(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
            if record is not None:
                row = {"step": step, "epoch": epoch, "loss": loss.item(), "lr": lr}
                if pruner is not None:
                    row |= {"threshold": pruner.threshold, "l1": pruner.l1}
                record(row)
            bar.update()


@torch.no_grad()
def accuracy(
    model: nn.Module, data: ImageSet, predict: Predict, *, batch_size: int = 500, title: str = "test"
) -> float:
    """Fraction of images classified correctly, in evaluation mode."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    correct = 0
    with progress_bar(len(data), title) as bar:
        for start in range(0, len(data), batch_size):
            part = data.subset(start, min(start + batch_size, len(data)))
            scores = predict(model, as_input(part.images.to(device)))
            correct += int((scores.argmax(1).cpu() == part.labels).sum())
            bar.update(len(part))
    model.train(was_training)
    return correct / len(data)


def progress_bar(total: int | None, title: str, position: int = 0) -> Any:
    """A tqdm bar that vanishes when done; quiet where standard error is not a terminal. `total` None: unknown."""
    options = {"leave": False, "disable": None, "dynamic_ncols": True, "position": position}
    return require("tqdm", "train").tqdm(total=total, desc=title, **options)


def _batches(images: int, hyper: Hyperparameters, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
    for epoch in range(hyper.epochs):
        order = torch.randperm(images, generator=generator)
        for batch in range(images // hyper.batch_size):
            yield epoch, order[batch * hyper.batch_size : (batch + 1) * hyper.batch_size]

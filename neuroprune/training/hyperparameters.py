"""The budget of a training run: optimizer, learning-rate schedule, batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from neuroprune._numbers import number_of, shown

#: What a tensor in single precision can be multiplied by.
LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Hyperparameters:
    """SGD with momentum, or AdamW; linear warm-up, then a cosine to zero. A recipe's table [training] has these keys.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per forward pass.
        accumulate: forward passes whose gradients are averaged for one optimizer step, as several GPUs would do;
            batch-norm sees one batch at a time.
        lr: learning rate after the warm-up.
        momentum: of SGD; β₁ of AdamW.
        nesterov: Nesterov's form of momentum, of SGD alone.
        weight_decay: L2 coefficient on parameters of two or more dimensions; AdamW's decoupled decay.
        decay_all: weight decay on all others (batch-norm, biases), too.
        warmup_fraction: part of the steps in which the learning rate rises.
        warmup_epochs: the same in epochs; used instead of `warmup_fraction` where given.
        update: the learning rate changes every "step" or every "epoch".
        label_smoothing: of the cross-entropy (Szegedy et al., CVPR 2016, section 7).
        amp: mixed precision: float16 with scaled gradients on CUDA, bfloat16 on the CPU.
        seed: of the initial weights, the order of the images and their augmentation.
        adamw: AdamW with β₂ = 0.999 and ε = 1e-8 (Loshchilov & Hutter, ICLR 2019) in place of SGD.

    Raises:
        ValueError: a value out of range; the message begins with its name.
    """

    epochs: int = 2
    batch_size: int = 128
    accumulate: int = 1
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    decay_all: bool = False
    warmup_fraction: float = 0.1
    warmup_epochs: float | None = None
    update: str = "step"
    label_smoothing: float = 0.0
    amp: bool = False
    seed: int = 0
    adamw: bool = False

    def __post_init__(self) -> None:
        lowest = {"epochs": 1, "batch_size": 1, "accumulate": 1, "lr": 0.0, "momentum": 0.0, "weight_decay": 0.0}
        for key, low in lowest.items():
            found = number_of(getattr(self, key))
            if found is None or not (math.isfinite(found) and found >= low):
                raise ValueError(f"{key} must be a finite number of at least {low}, got {shown(getattr(self, key))}")
            if found > LARGEST:
                raise ValueError(f"{key} must be a number that single precision holds, got {found:g}")
        if self.adamw and self.momentum >= 1:
            raise ValueError(f"momentum is AdamW's β₁ and must be below 1, got {self.momentum}")
        for key in ("warmup_fraction", "label_smoothing"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ValueError(f"{key} must lie in 0 … 1, got {shown(getattr(self, key))}")
        if self.warmup_epochs is not None and not 0.0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(f"warmup_epochs must lie in 0 … {self.epochs} (epochs), got {shown(self.warmup_epochs)}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must lie in 0 … 2^63 - 1, got {shown(self.seed)}")
        if self.update not in ("step", "epoch"):
            raise ValueError(f'update must be "step" or "epoch", got {self.update!r}')

    def steps(self, images: int) -> int:
        """Optimizer steps of the run (incomplete batches are dropped)."""
        return self.epochs * (images // (self.batch_size * self.accumulate))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """SGD or AdamW over all parameters; those of fewer than two dimensions are never pruned."""
        parameters = list(model.parameters())
        decay = self.weight_decay if self.decay_all else 0.0
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": decay, "prune": False},
        ]
        groups = [g for g in groups if g["params"]]
        if self.adamw:
            return torch.optim.AdamW(groups, lr=self.lr, betas=(self.momentum, 0.999))
        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=nesterov)

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rate of a run of `steps`; call `step()` after every optimizer step, whatever `update` is."""
        if self.update == "epoch":
            warmup = self.warmup_fraction * self.epochs if self.warmup_epochs is None else self.warmup_epochs
            rate = EpochCosine(self.epochs, warmup, max(1, steps // self.epochs))
            return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        fraction = self.warmup_fraction if self.warmup_epochs is None else self.warmup_epochs / self.epochs
        rising = max(1, round(fraction * steps))
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0 / rising, total_iters=rising)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps - rising))
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[rising])


@dataclass(frozen=True)
class FineTuning:
    """Quantization-aware fine-tuning after the training. A recipe's table [quantization] has these keys.

    Attributes:
        chip: name of a chip, or a chip file (.toml), whose integers the weights become.
        epochs: passes over the training images.
        lr: learning rate after the warm-up; low, since batch-norm holds still. All else is as in the training.
        format: a file format in which the integers will be written and which asks for more than the chip does, such as
            "netx" for a network with skip connections; empty for none.

    Raises:
        ValueError: a value out of range; the message begins with its name.
    """

    chip: str
    epochs: int = 1
    lr: float = 0.02
    format: str = ""

    def __post_init__(self) -> None:
        self.budget(Hyperparameters())

    def budget(self, training: Hyperparameters) -> Hyperparameters:
        """The training's budget with this one's epochs and learning rate."""
        return replace(training, epochs=self.epochs, lr=self.lr, warmup_epochs=None)


@dataclass(frozen=True)
class EpochCosine:
    """Learning rate of a step relative to the peak, constant within an epoch.

    Epoch e of E with W of warm-up: (e + 1) / W before W, then ½·(1 + cos(π·(e − W) / (E − W))): the schedule of the
    published ImageNet runs of STR (Kusupati et al., ICML 2020) and LATS (Chen et al., ICLR 2023); with W = 0 it is
    `CosineAnnealingLR(T_max=E)` stepped once an epoch.

    Attributes:
        epochs: E.
        warmup: W.
        per_epoch: optimizer steps of an epoch.
    """

    epochs: int
    warmup: float
    per_epoch: int

    def __call__(self, step: int) -> float:
        """The factor at an optimizer step, counted from 0."""
        epoch = min(step // self.per_epoch, self.epochs)
        if epoch < self.warmup:
            return min(1.0, (epoch + 1) / self.warmup)
        if self.warmup >= self.epochs:
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * (epoch - self.warmup) / (self.epochs - self.warmup)))

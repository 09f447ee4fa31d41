"""Quantization-aware fine-tuning: the values a chip's integers can take, and batch-norm that holds still meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True, eq=False)
class Grid:
    """What a parameter may be on a chip: (q − zero_point)·step for the whole numbers quant_min ≤ q ≤ quant_max.

    The names are those of `torch.fake_quantize_per_channel_affine`, except that its `scale` is the `step` here.

    Args:
        step: above 0, of a shape that broadcasts to the parameter: (out, 1, 1, 1) is one step for each output channel
            of a convolution.
        quant_min: smallest integer.
        quant_max: largest integer.
        zero_point: what 0.0 is in steps, a whole number or not, of a shape that broadcasts likewise; None is 0, as all
            weights that are pruned need.

    Raises:
        ValueError: steps that are not finite numbers above 0, or no room between the integers.
    """

    step: Tensor
    quant_min: int
    quant_max: int
    zero_point: Tensor | None = None

    def __post_init__(self) -> None:
        if not bool((torch.isfinite(self.step) & (self.step > 0)).all()):
            raise ValueError(f"Grid: step must be finite and above 0, got a minimum of {float(self.step.min())}")
        if self.zero_point is not None and not bool(torch.isfinite(self.zero_point).all()):
            raise ValueError("Grid: zero_point must be finite; leave it out for 0")
        if self.quant_min >= self.quant_max:
            raise ValueError(f"Grid: quant_min {self.quant_min} must be below quant_max {self.quant_max}")

    @property
    def holds_zero(self) -> bool:
        """Whether 0.0 stays 0.0."""
        return self.zero_point is None and self.quant_min <= 0 <= self.quant_max

    def round_(self, values: Tensor) -> Tensor:
        """Q(x) = (clamp(rint(x/step + zero_point), quant_min, quant_max) − zero_point)·step, in place.

        Fake quantization (Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018); rint takes a half to the even neighbour.

        Args:
            values: the parameter's shape, dtype and device.
        """
        values.div_(self.step)
        if self.zero_point is None:
            return values.round_().clamp_(self.quant_min, self.quant_max).mul_(self.step)
        values.add_(self.zero_point).round_().clamp_(self.quant_min, self.quant_max)
        return values.sub_(self.zero_point).mul_(self.step)

    def to(self, like: Tensor) -> Grid:
        """The same grid on the device and in the dtype of `like`."""
        if self.step.device == like.device and self.step.dtype == like.dtype:
            return self
        zero_point = None if self.zero_point is None else self.zero_point.to(like)
        return Grid(self.step.to(like), self.quant_min, self.quant_max, zero_point)

    def state_dict(self) -> dict[str, Any]:
        """The arguments that make it again; tensors are references."""
        return {name: getattr(self, name) for name in ("step", "quant_min", "quant_max", "zero_point")}


@contextmanager
def frozen_batch_norm(model: nn.Module) -> Iterator[None]:
    """Keep every batch-norm's statistics, whatever `model.train()` says meanwhile; the rest of the model trains.

    Batch-norm folds into the weights on a chip: were it to move during a fine-tuning on the chip's integers, so would
    the grid. (Its own factor γ must be left out of the optimizer for the same reason; β may train.)

        with frozen_batch_norm(model):
            ...  # a training loop
    """
    norms = [module for module in model.modules() if isinstance(module, _NORMS)]
    modes = [norm.training for norm in norms]
    handles = [norm.register_forward_pre_hook(_evaluate) for norm in norms]
    try:
        yield
    finally:
        for norm, mode, handle in zip(norms, modes, handles, strict=True):
            handle.remove()
            norm.training = mode


def _evaluate(norm: nn.Module, _inputs: Any) -> None:
    norm.training = False

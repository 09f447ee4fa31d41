"""The weight that a layer with a forward of its own computes with, which need not be its `weight`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuroprune.frameworks import Framework

_PRODUCTS: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d, F.linear)
_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def has_own_forward(layer: nn.Module, framework: Framework | None) -> bool:
    """Whether a layer may compute something else than torch's layer with its `weight` (standardised, quantized, …)."""
    if framework is not None and framework.is_plain_layer(layer):
        return False
    return not any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in _KINDS)


class ComputedWeight(TorchFunctionMode):
    """Notes the weights of the products that are computed while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _PRODUCTS:
            self.weights.append(args[1] if len(args) > 1 else given["weight"])
        return func(*args, **given)

    def weight_of(self, layer: nn.Module) -> Tensor | None:
        """The one weight of the layer's shape that it multiplied with; None where that cannot be said."""
        own: Any = layer.weight
        alike = len(self.weights) == 1 and self.weights[0].shape == own.shape
        return self.weights[0] if alike else None

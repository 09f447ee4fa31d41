"""One sample without its batch, as models that flatten from axis 1 on cannot take it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

#: Axes of one sample, by the layer that a model begins with.
_AXES: tuple[tuple[type[nn.Module], int], ...] = (
    (nn.Conv1d, 2),
    (nn.Conv2d, 3),
    (nn.ConvTranspose1d, 2),
    (nn.ConvTranspose2d, 3),
    (nn.Linear, 1),
)


def with_batch(model: nn.Module, inputs: Any) -> Tensor | None:
    """A tensor as a batch of one, where it has the axes of one sample of the model's first layer; None otherwise."""
    if not isinstance(inputs, Tensor):
        return None
    layers = (axes for module in model.modules() for kind, axes in _AXES if isinstance(module, kind))
    return inputs.unsqueeze(0) if next(layers, None) == inputs.dim() else None

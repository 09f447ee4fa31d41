"""A small ordinary (non-spiking) network, for the same data and the same training loop."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class SmallCNN(nn.Sequential):
    """3×3 convolution, batch-norm, ReLU and 2×2 max-pool per width, then a linear classifier. Takes (N, C, 28, 28).

    Args:
        widths: channels of the convolutions; each halves the resolution.
        in_channels: image channels.
        classes: outputs.
    """

    def __init__(self, widths: Sequence[int] = (16, 32), *, in_channels: int = 1, classes: int = 10) -> None:
        layers: list[nn.Module] = []
        side = 28
        for before, width in zip((in_channels, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            side //= 2
        super().__init__(*layers, nn.Flatten(), nn.Linear(side * side * widths[-1], classes))

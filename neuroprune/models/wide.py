"""A spiking network with one convolution too wide for a core's input axons, for the fan-in cap."""

from __future__ import annotations

from typing import Any

from torch import nn

from neuroprune.models.sew_resnet import functional, layer, neuron, surrogate


class WideConvNet(nn.Sequential):
    """Three convolutions of IF neurons with batch-norm, the last from `width` channels to as many, and a readout.

    Takes (T, N, 1, 28, 28). With 512 channels each neuron of the last convolution receives 9·512 = 4608 synapses.

    Args:
        width: channels of the last two convolutions.
        classes: outputs.
    """

    def __init__(self, width: int = 512, *, classes: int = 10) -> None:
        def neurons() -> nn.Module:
            node: nn.Module = neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True)
            return node

        def convolution(before: int, after: int, **options: Any) -> list[nn.Module]:
            return [layer.Conv2d(before, after, 3, bias=False, **options), layer.BatchNorm2d(after), neurons()]

        super().__init__(
            *convolution(1, 8, stride=2, padding=1),
            layer.MaxPool2d(2),
            *convolution(8, width, stride=2, padding=1),
            *convolution(width, width),
            layer.Flatten(),
            layer.Linear(width * 4, classes),
        )
        functional.set_step_mode(self, "m")

"""A spiking multilayer perceptron, the smallest of the three networks that are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from neuroprune.frameworks.spikingjelly import functional, layer
from neuroprune.frameworks.spikingjelly_equations import neuron
from neuroprune.models.sew_resnet import surrogate


class SpikingMLP(nn.Sequential):
    """Linear layer, batch-norm and IF neurons per hidden width, then a linear readout. Takes (T, N, C, H, W).

    Args:
        widths: hidden neurons, layer by layer.
        inputs: (C, H, W) of an image.
        classes: outputs.
    """

    def __init__(
        self, widths: Sequence[int] = (256,), *, inputs: tuple[int, int, int] = (1, 28, 28), classes: int = 10
    ) -> None:
        modules: list[nn.Module] = [layer.Flatten()]
        before = math.prod(inputs)
        for width in widths:
            modules += [
                layer.Linear(before, width, bias=False),
                layer.BatchNorm1d(width),
                neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True),
            ]
            before = width
        super().__init__(*modules, layer.Linear(before, classes))
        functional.set_step_mode(self, "m")


class LeNet(nn.Sequential):
    """Two 5×5 convolutions with batch-norm and pooling, a hidden layer, a readout, as LeNet-5 (LeCun et al., 1998).

    Most of its weights are in the hidden layer, as in the networks pruning methods are usually compared on.

    Args:
        widths: channels of the convolutions, neurons of the hidden layer.
        classes: outputs.
    """

    def __init__(self, widths: Sequence[int] = (8, 16, 128), *, classes: int = 10) -> None:
        first, second, hidden = widths
        super().__init__(
            nn.Conv2d(1, first, 5, padding=2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5, padding=2, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * 49, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

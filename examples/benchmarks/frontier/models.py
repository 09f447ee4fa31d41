"""Small networks that are compared: a spiking multilayer perceptron, a LeNet, a transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class PatchTransformer(nn.Module):
    """A small vision transformer (Dosovitskiy et al., ICLR 2021): 16 patches of 7×7 pixels, pre-norm, mean of tokens.

    Positions are sinusoids (Vaswani et al., 2017), which are no weights.

    Args:
        widths: features of a token, hidden features of its perceptrons; one more for every further layer.
        heads: attention heads, which divide the features.
        classes: outputs.
    """

    position: Tensor

    def __init__(self, widths: Sequence[int] = (64, 128, 128), *, heads: int = 4, classes: int = 10) -> None:
        super().__init__()
        width, *hidden = widths
        self.embed = nn.Linear(49, width)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, one, dropout=0.0, batch_first=True, norm_first=True)
                for one in hidden
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        self.register_buffer("position", _sinusoids(16, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) → (N, classes)."""
        patches = F.unfold(x, 7, stride=7).transpose(1, 2)  # (N, 16, 49)
        tokens: Tensor = self.layers(self.embed(patches) + self.position)
        return self.head(self.norm(tokens).mean(1))  # type: ignore[no-any-return]  # a module's call is Any


def _sinusoids(tokens: int, width: int) -> Tensor:
    """sin and cos of t·10000^(−2i/width): (tokens, width)."""
    rates = 10000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(tokens)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)

"""Convolutional networks of snnTorch's tutorials and examples, as they are written there.

Source: github.com/jeshraghian/snntorch, MIT.
Constants that the tutorials keep in variables stand in their places, and batch sizes are taken from the data. What the
refusals advise is beside a network that is refused (`behind`, `mended`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import snntorch as snn
import torch
from snntorch import surrogate, utils
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from examples.benchmarks.coverage.judge import Case, image, spikes

SPIKE_GRAD = surrogate.fast_sigmoid(slope=25)


class Convolutional(nn.Module):
    """Tutorial 6's module, which takes one step; `behind`: max-pools behind the neurons, in a loop."""

    def __init__(
        self, *, channels: tuple[int, int, int] = (1, 12, 64), classes: int = 10, behind: bool = False
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.conv1, self.lif1 = nn.Conv2d(first, second, 5), snn.Leaky(beta=0.5, spike_grad=SPIKE_GRAD)
        self.conv2, self.lif2 = nn.Conv2d(second, third, 5), snn.Leaky(beta=0.5, spike_grad=SPIKE_GRAD)
        self.fc1, self.lif3 = nn.Linear(third * 4 * 4, classes), snn.Leaky(beta=0.5, spike_grad=SPIKE_GRAD)
        self.pool, self.behind = nn.MaxPool2d(2), behind

    def forward(self, x: Tensor) -> Any:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        if not self.behind:
            spk1, mem1 = self.lif1(F.max_pool2d(self.conv1(x), 2), mem1)
            spk2, mem2 = self.lif2(F.max_pool2d(self.conv2(spk1), 2), mem2)
            return self.lif3(self.fc1(spk2.view(len(x), -1)), mem3)
        spk3_rec = []
        for _ in range(10):
            spk1, mem1 = self.lif1(self.conv1(x), mem1)
            spk2, mem2 = self.lif2(self.conv2(self.pool(spk1)), mem2)
            spk3, mem3 = self.lif3(self.fc1(self.pool(spk2).flatten(1)), mem3)
            spk3_rec.append(spk3)
        return torch.stack(spk3_rec)


class EventConvolutional(nn.Module):
    """Derrick Lee's module for events (T, N, 2, 32, 32); `behind`: max-pools behind the neurons, all steps returned."""

    def __init__(self, *, behind: bool = False) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(2, 12, 5), snn.Leaky(beta=0.5)
        self.conv2, self.lif2 = nn.Conv2d(12, 32, 5), snn.Leaky(beta=0.5)
        self.fc1, self.lif3 = nn.Linear(800, 11), snn.Leaky(beta=0.5)
        self.pool, self.behind = nn.MaxPool2d(2), behind

    def forward(self, x: Tensor) -> Any:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spk_rec = []
        for step in range(len(x)):
            if self.behind:
                spk1, mem1 = self.lif1(self.conv1(x[step]), mem1)
                spk2, mem2 = self.lif2(self.conv2(self.pool(spk1)), mem2)
                spk3, mem3 = self.lif3(self.fc1(self.pool(spk2).flatten(1)), mem3)
            else:
                spk1, mem1 = self.lif1(F.max_pool2d(self.conv1(x[step]), 2), mem1)
                spk2, mem2 = self.lif2(F.max_pool2d(self.conv2(spk1), 2), mem2)
                spk3, mem3 = self.lif3(self.fc1(spk2.flatten(1)), mem3)
            spk_rec.append(spk3)
        return torch.stack(spk_rec) if self.behind else (spk3, mem3)


def hidden(*layers: nn.Module, beta: float = 0.5, threshold: float = 1.0) -> nn.Sequential:
    """A sequence in which `nn.Identity` stands for neurons with hidden states; the last returns its potential, too."""
    last = max(i for i, layer in enumerate(layers) if type(layer) is nn.Identity)
    options: dict[str, Any] = {"beta": beta, "spike_grad": SPIKE_GRAD, "init_hidden": True, "threshold": threshold}
    made = [snn.Leaky(output=i == last, **options) if type(m) is nn.Identity else m for i, m in enumerate(layers)]
    return nn.Sequential(*made)


def pooled(
    channels: tuple[int, int, int], features: int, classes: int, *, before: bool, beta: float = 0.5
) -> nn.Module:
    """conv-pool-neurons twice, or conv-neurons-pool (tutorials 6 and 7, the quickstart, two data sets' tutorials)."""
    first, second, third = channels
    parts = [[nn.MaxPool2d(2), nn.Identity()] if before else [nn.Identity(), nn.MaxPool2d(2)] for _ in range(2)]
    return hidden(
        *(nn.Conv2d(first, second, 5), *parts[0], nn.Conv2d(second, third, 5), *parts[1]),
        *(nn.Flatten(), nn.Linear(features, classes), nn.Identity()),
        beta=beta,
    )


class Autoencoder(nn.Module):
    """The spiking autoencoder, 32×32, 5 steps: as written all steps are encoded before the first is decoded.

    `mended`: the last neurons never reset, as a threshold of 20000 meant, and the last potential is returned.
    """

    def __init__(self, *, mended: bool = False, latent: int = 32, steps: int = 5) -> None:
        super().__init__()
        self.steps, self.mended = steps, mended
        down = [(1, 32), (32, 64), (64, 128)]
        layers = [(nn.Conv2d(a, b, 3, padding=1, stride=2), nn.BatchNorm2d(b), nn.Identity()) for a, b in down]
        self.encoder = hidden(
            *(m for part in layers for m in part), nn.Flatten(1, 3), nn.Linear(128 * 4 * 4, latent), nn.Identity()
        )
        self.linearNet = hidden(nn.Linear(latent, 128 * 4 * 4), nn.Identity())
        back = [(128, 64), (64, 32)]
        ups = [
            (nn.ConvTranspose2d(a, b, 3, padding=1, stride=2, output_padding=1), nn.BatchNorm2d(b), nn.Identity())
            for a, b in back
        ]
        options: dict[str, Any] = {"threshold": 20000, "reset_mechanism": "none" if mended else "subtract"}
        self.decoder = nn.Sequential(
            *(nn.Unflatten(1, (128, 4, 4)), snn.Leaky(beta=0.5, init_hidden=True)),
            *list(hidden(*(m for part in ups for m in part)))[:-1],
            snn.Leaky(beta=0.5, init_hidden=True),
            nn.ConvTranspose2d(32, 1, 3, padding=1, stride=(2, 2), output_padding=1),
            snn.Leaky(beta=0.5, init_hidden=True, output=True, **options),
        )

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.encoder, self.decoder, self.linearNet):
            utils.reset(part)
        encoded = torch.stack([self.encoder(x)[0] for _ in range(self.steps)], dim=2)
        decoded = [self.decoder(self.linearNet(encoded[..., step])[0])[1] for step in range(self.steps)]
        return decoded[-1] if self.mended else torch.stack(decoded, dim=4)[:, :, :, :, -1]


class Sign(nn.Module):
    """The binary network's weights, −1 or 1."""

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)


class BinaryConv2d(nn.Conv2d):
    """A convolution with the signs of its weights, as written: without its padding."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, Sign()(self.weight))


class BinaryLinear(nn.Linear):
    """A linear layer with the signs of its weights."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, Sign()(self.weight), self.bias)


class Binary(nn.Module):
    """The binary SNN; `mended`: its weights as torch parametrizations, pools behind the neurons."""

    def __init__(self, *, mended: bool = False) -> None:
        super().__init__()
        self.mended, beta = mended, 0.44154740154430405
        if mended:
            convolutions: list[nn.Conv2d] = [nn.Conv2d(1, 16, 3, bias=False), nn.Conv2d(16, 32, 3, bias=False)]
            linear = nn.Linear(32 * 5 * 5, 10)
            for layer in (*convolutions, linear):
                parametrize.register_parametrization(layer, "weight", Sign())
        else:
            options: dict[str, Any] = {"kernel_size": 3, "padding": "same", "bias": False}
            convolutions, linear = (
                [BinaryConv2d(1, 16, **options), BinaryConv2d(16, 32, **options)],
                BinaryLinear(800, 10),
            )
        (self.conv1, self.conv2), self.fc = convolutions, linear
        self.norm1, self.norm2, self.pool = nn.BatchNorm2d(16), nn.BatchNorm2d(32), nn.MaxPool2d(2)
        self.lif1, self.lif2, self.lif3 = (
            snn.Leaky(beta=beta, threshold=t) for t in (2.3599835635698114, 7.985043705972782, 3.849629060468402)
        )
        self.dropout = nn.Dropout(0.3276864426153669)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spike3_rec, mem3_rec = [], []
        for _ in range(10):
            current1, current2 = self.norm1(self.conv1(x)), None
            if self.mended:
                spike1, mem1 = self.lif1(current1, mem1)
                spike2, mem2 = self.lif2(self.norm2(self.conv2(self.pool(spike1))), mem2)
                spike2 = self.pool(spike2)
            else:
                spike1, mem1 = self.lif1(self.pool(current1), mem1)
                current2 = self.pool(self.norm2(self.conv2(spike1)))
                spike2, mem2 = self.lif2(current2, mem2)
            spike3, mem3 = self.lif3(self.dropout(self.fc(spike2.flatten(1))), mem3)
            spike3_rec.append(spike3)
            mem3_rec.append(mem3)
        return torch.stack(spike3_rec, dim=0), torch.stack(mem3_rec, dim=0)


class AveragePooled(nn.Module):
    """The NIR tutorial's: an average pool before the neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(1, 16, 3, stride=1, padding=1), snn.Leaky(beta=0.9, init_hidden=True)
        self.fc1 = nn.Linear(28 * 28 * 16 // 4, 500)
        self.lif2 = snn.Leaky(beta=0.9, init_hidden=True, output=True)

    def forward(self, x: Tensor) -> Any:
        x = F.avg_pool2d(self.conv1(x), kernel_size=2, stride=2)
        x = x.view(-1, 28 * 28 * 16 // 4)
        return self.lif2(self.fc1(self.lif1(x)))


def _stmnist() -> nn.Module:
    return hidden(
        *(nn.Conv2d(2, 32, kernel_size=4), nn.Identity(), nn.Conv2d(32, 64, kernel_size=3), nn.Identity()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 2 * 2, 10), nn.Identity()),
        beta=0.95,
    )


def _population(outputs: int) -> nn.Module:
    return hidden(nn.Flatten(), nn.Linear(784, 128), nn.Identity(), nn.Linear(128, outputs), nn.Identity(), beta=0.9)


def _before(
    name: str,
    channels: tuple[int, int, int],
    features: int,
    classes: int,
    example: Callable[[], Tensor],
    beta: float = 0.5,
) -> Case:
    """A network with its max-pools before the neurons; behind them instead."""
    return Case(
        name,
        lambda: pooled(channels, features, classes, before=True, beta=beta),
        example,
        steps=10,
        instead=lambda: pooled(channels, features, classes, before=False, beta=beta),
    )


CONVOLUTIONAL: tuple[Case, ...] = (
    Case("tutorial 6: Net", Convolutional, image(2, 1, 28, 28), instead=lambda: Convolutional(behind=True)),
    _before("tutorial 6: net", (1, 12, 64), 1024, 10, image(2, 1, 28, 28)),
    Case("tutorial 7: net", lambda: pooled((2, 12, 32), 800, 10, before=False), spikes(2, 2, 34, 34), steps=10),
    _before("quickstart: net", (1, 8, 16), 256, 10, image(2, 1, 28, 28), beta=0.9),
    Case("population coding: net", lambda: _population(10), image(2, 1, 28, 28), steps=1),
    Case("population coding: net_pop", lambda: _population(500), image(2, 1, 28, 28), steps=1),
    Case("spiking autoencoder: SAE", Autoencoder, image(2, 1, 32, 32), instead=lambda: Autoencoder(mended=True)),
    Case("binary SNN: BSNN", Binary, image(2, 1, 28, 28), instead=lambda: Binary(mended=True)),
    Case("snnTorch to NIR: NetWithAvgPool", AveragePooled, image(2, 1, 28, 28), steps=10),
    Case("ST-MNIST: scnn_net", _stmnist, spikes(2, 2, 10, 10), steps=20),
    Case(
        "DVS gestures (Austin): net", lambda: pooled((2, 12, 32), 800, 4, before=False), spikes(2, 2, 32, 32), steps=10
    ),
    _before("DVS gestures (Lee): net", (2, 12, 32), 800, 11, spikes(2, 2, 32, 32)),
    Case(
        "DVS gestures (Lee): Net",
        EventConvolutional,
        spikes(8, 2, 2, 32, 32),
        instead=lambda: EventConvolutional(behind=True),
    ),
)

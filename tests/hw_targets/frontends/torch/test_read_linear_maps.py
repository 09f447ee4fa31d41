"""All that is linear between neurons is read: pools of any windows, paddings, chains, constants, concatenation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from hw_targets import from_torch
from hw_targets.errors import UnsupportedModel
from tests.builders.torch_models import Net, T, assert_same, classifier, conv, prepared, spiking


def after(*parts: nn.Module, features: int) -> nn.Module:
    """conv → neurons (3, 6, 6) → what is tried → flatten → linear."""
    return nn.Sequential(conv(2, 3), spiking(0.5), *parts, layer.Flatten(), layer.Linear(features, 3))


def body(forward: Callable[[Any, Tensor], Any], *, features: int = 108, **parts: nn.Module) -> nn.Module:
    return Net(forward, c1=conv(2, 3), s1=spiking(), fc=layer.Linear(features, 3), **parts)


def front(m: Any, x: Tensor) -> Tensor:
    spikes: Tensor = m.s1(m.c1(x))
    return spikes


POOLS: dict[str, Callable[[], nn.Module]] = {
    "max-pool, ceil_mode": lambda: after(layer.MaxPool2d(4, ceil_mode=True), features=12),
    "max-pool, padded, dilated, ceil_mode": lambda: after(
        layer.MaxPool2d(2, stride=2, padding=1, dilation=2, ceil_mode=True), features=48
    ),
    "average pool, ceil_mode": lambda: after(layer.AvgPool2d(4, ceil_mode=True), features=12),
    "average pool, padded, ceil_mode": lambda: after(layer.AvgPool2d(3, 2, 1, ceil_mode=True), features=48),
    "average pool without its padding": lambda: after(
        layer.AvgPool2d(2, padding=1, count_include_pad=False), features=48
    ),
    "average pool, ceil_mode without its padding": lambda: after(
        layer.AvgPool2d(4, 3, 1, ceil_mode=True, count_include_pad=False), features=27
    ),
    "average pool with a divisor": lambda: after(layer.AvgPool2d(2, divisor_override=3), features=27),
    "unequal adaptive pool": lambda: after(layer.AdaptiveAvgPool2d(4), features=48),
    "adaptive pool to more than there was": lambda: after(layer.AdaptiveAvgPool2d((7, 9)), features=189),
    "adaptive pool of one axis": lambda: after(layer.AdaptiveAvgPool2d((None, 4)), conv(3, 2), spiking(), features=48),
    "nearest upsampling": lambda: after(layer.Upsample(scale_factor=2), conv(3, 2), spiking(), features=288),
    "nearest upsampling to a size": lambda: after(layer.Upsample(size=(7, 9)), features=189),
    "two average pools": lambda: after(
        layer.AvgPool2d(2), layer.AvgPool2d(3), conv(3, 2, 1), spiking(0.02), features=2
    ),
    "average pool of padded currents": lambda: nn.Sequential(
        conv(2, 3), layer.AvgPool2d(2, padding=1), spiking(0.2), layer.Flatten(), layer.Linear(48, 3)
    ),
    "overlapping pool before a padded conv": lambda: after(
        layer.AvgPool2d(3, stride=1, padding=1), conv(3, 3), spiking(), features=108
    ),
    "pool that leaves a border before a padded conv": lambda: after(
        layer.AvgPool2d(4), conv(3, 3), spiking(0.2), features=3
    ),
    "pools on odd maps": lambda: after(layer.AvgPool2d(2, padding=1, stride=3), conv(3, 3), spiking(0.2), features=27),
    "max-pool of an odd map": lambda: nn.Sequential(
        layer.Conv2d(2, 3, 2), spiking(), layer.MaxPool2d(2), layer.Flatten(), layer.Linear(12, 3)
    ),
}

PADDINGS: dict[str, Callable[[], nn.Module]] = {
    mode: lambda mode=mode: classifier(
        conv(2, 3), spiking(), layer.Conv2d(3, 3, 3, padding=(1, 2), padding_mode=mode), features=144
    )
    for mode in ("reflect", "circular", "replicate")
} | {
    "circular and strided on an image": lambda: classifier(
        layer.Conv2d(2, 3, 3, stride=2, padding=2, padding_mode="circular"), features=48
    ),
    "unequal 'same'": lambda: classifier(layer.Conv2d(2, 3, 2, padding="same"), features=108),
    "unequal and dilated 'same'": lambda: classifier(
        layer.Conv2d(2, 3, (2, 4), padding="same", dilation=(3, 1)), features=108
    ),
    "zero padding of its own": lambda: classifier(
        Lifted(nn.ZeroPad2d((1, 2, 0, 3))), layer.Conv2d(2, 3, 4, stride=2), features=27
    ),
    "a grid cut by its padding": lambda: classifier(Lifted(nn.ZeroPad2d((-1, 0, 2, -2))), conv(2, 3), features=90),
}


class Lifted(nn.Module):
    """A torch layer on all steps at once."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])


CHAINS: dict[str, Callable[[], nn.Module]] = {
    "two linear layers": lambda: after(layer.Flatten(), layer.Linear(108, 5), features=5),
    "convolution, then a linear layer": lambda: after(conv(3, 4, stride=2), features=36),
    "two convolutions": lambda: classifier(conv(2, 3), conv(3, 3), features=108, threshold=0.2),
    "two convolutions, the first unpadded": lambda: classifier(
        conv(2, 4, padding=0, stride=2, groups=2), layer.Conv2d(4, 3, 2, dilation=1), features=3, threshold=0.1
    ),
    "depthwise and pointwise": lambda: classifier(conv(2, 4, groups=2, dilation=2), conv(4, 3, 1), features=48),
    "pointwise and depthwise": lambda: classifier(conv(2, 4, 1, bias=False), conv(4, 4, groups=4), features=144),
    "grouped, then grouped": lambda: classifier(
        conv(2, 4, 1, groups=2), conv(4, 4, 3, groups=2), features=144, threshold=0.2
    ),
    "batch-norm of spikes before a padded convolution": lambda: after(
        layer.BatchNorm2d(3), conv(3, 3), spiking(), features=108
    ),
    "average pool of a convolution before another": lambda: classifier(
        conv(2, 3), layer.AvgPool2d(2), conv(3, 3), features=27, threshold=0.1
    ),
    "batch-norm over flattened currents": lambda: nn.Sequential(
        conv(2, 3), layer.Flatten(), layer.BatchNorm1d(108), spiking(), layer.Linear(108, 3)
    ),
    "a linear layer laid out as a grid": lambda: Net(
        lambda m, x: m.fc(m.s2(m.c2(m.f1(m.s1(m.c1(x)).flatten(2)).view(*x.shape[:2], 2, 3, 4))).flatten(2)),
        c1=conv(2, 3), s1=spiking(), f1=layer.Linear(108, 24), c2=conv(2, 3), s2=spiking(0.2), fc=layer.Linear(36, 3),
    ),
}  # fmt: skip

FORWARDS: dict[str, Callable[[Any, Tensor], Any]] = {
    "a constant factor": lambda m, x: m.fc((front(m, x) * 2).flatten(2)),
    "a factor of each channel": lambda m, x: m.fc((front(m, x) * torch.tensor([0.5, 1, 3]).view(3, 1, 1)).flatten(2)),
    "a factor of each neuron": lambda m, x: m.fc((front(m, x) * torch.arange(108.0).view(3, 6, 6)).flatten(2)),
    "division and negation": lambda m, x: -m.fc((front(m, x) / 0.3).flatten(2)),
    "a constant added": lambda m, x: m.fc((front(m, x) + 1.0).flatten(2)),
    "a constant of each row added": lambda m, x: m.fc((front(m, x) + torch.arange(6.0).view(6, 1)).flatten(2)),
    "a constant taken away": lambda m, x: m.fc((front(m, x) - 0.5).flatten(2)),
    "taken from a constant": lambda m, x: m.fc((2 - front(m, x)).flatten(2)),
    "the image taken from currents": lambda m, x: m.fc(m.s2(m.c1(x) - x[:, :, :1]).flatten(2)),
    "rows cut off": lambda m, x: m.fc(F.pad(front(m, x)[:, :, :, 1:5], (0, 0, 1, 1)).flatten(2)),
    "channels chosen": lambda m, x: m.fc(torch.cat([(s := front(m, x))[:, :, 2:], s[:, :, :2]], 2).flatten(2)),
    "channels split": lambda m, x: m.fc(torch.cat(front(m, x).chunk(3, 2)[::-1], 2).flatten(2)),
    "means over the grid": lambda m, x: m.fc(front(m, x).mean((3, 4), keepdim=True).repeat(1, 1, 1, 6, 6).flatten(2)),
    "a transposition and back": lambda m, x: m.fc(front(m, x).transpose(0, 1).permute(1, 0, 2, 3, 4).flatten(2)),
    "one thing returned in a tuple": lambda m, x: (m.fc(front(m, x).flatten(2)),)[0],
}


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("build", [*POOLS.values(), *CHAINS.values()], ids=[*POOLS, *CHAINS])
def test_pools_and_chains(build: Callable[[], nn.Module], mode: str) -> None:
    torch.manual_seed(1)
    model = build()
    if mode == "s" and isinstance(model, Net):
        pytest.skip("its forward is written for all steps at once")
    assert_same(model, mode=mode, slow=mode == "m")


@pytest.mark.parametrize("build", PADDINGS.values(), ids=PADDINGS.keys())
def test_paddings(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    assert_same(build())


@pytest.mark.parametrize("forward", FORWARDS.values(), ids=FORWARDS.keys())
def test_arithmetic_and_choices(forward: Callable[[Any, Tensor], Any]) -> None:
    torch.manual_seed(1)
    assert_same(body(forward, s2=spiking()))


FUNCTIONS: dict[str, tuple[Callable[[Any, Tensor], Tensor], int]] = {
    "max_pool2d": (lambda _, s: F.max_pool2d(s, 2), 27),
    "max_pool2d, overlapping": (lambda _, s: F.max_pool2d(s, 3, stride=2, padding=1, ceil_mode=True), 48),
    "two max-pools": (lambda _, s: F.max_pool2d(s, 2) + F.max_pool2d(s, kernel_size=3, stride=2, padding=1), 27),
    "avg_pool2d": (lambda _, s: F.avg_pool2d(s, kernel_size=2), 27),
    "avg_pool2d on an odd map": (lambda _, s: F.avg_pool2d(s[..., :5], 2, 2, ceil_mode=True), 27),
    "adaptive_avg_pool2d": (lambda _, s: F.adaptive_avg_pool2d(s, (4, 5)), 60),
    "conv2d": (lambda m, s: F.conv2d(s, m.k, stride=2, padding=1), 27),
    "interpolate": (lambda _, s: F.interpolate(s, scale_factor=2, mode="nearest"), 432),
    "batch_norm": (lambda _, s: F.batch_norm(s, torch.ones(3).double() / 3, torch.ones(3).double()), 108),
}


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize(("function", "features"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_layers_called_as_functions(function: Callable[[Any, Tensor], Tensor], features: int, mode: str) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        spikes = front(m, x)
        folded = spikes.flatten(0, 1) if mode == "m" else spikes
        y = function(m, folded)
        y = y.view(*x.shape[:2], *y.shape[1:]) if mode == "m" else y
        return m.fc(m.s2(y.flatten(-3)))

    torch.manual_seed(1)
    model = body(forward, features=features, s2=spiking(0.4))
    model.register_buffer("k", torch.randn(3, 3, 3, 3))
    assert_same(model, mode=mode)


@pytest.mark.parametrize("mode", ["m", "s"])
def test_spikes_times_a_positive_number_are_max_pooled_by_neurons_too(mode: str) -> None:
    """max(g·s + b) = g·max(s) + b, for g > 0."""
    torch.manual_seed(1)
    model: Any = nn.Sequential(
        conv(2, 3), spiking(0.5), layer.BatchNorm2d(3), layer.MaxPool2d(2), layer.Flatten(), layer.Linear(27, 3)
    )
    assert_same(model, mode=mode)
    model[2].weight.data[1] *= -1
    with pytest.raises(UnsupportedModel, match=r"3 max-pools .* do it straight after neurons"):
        from_torch(model, torch.rand(T, 2, 2, 6, 6).double() if mode == "m" else torch.rand(2, 2, 6, 6).double())


def test_a_pool_along_features_is_a_matrix() -> None:
    torch.manual_seed(1)
    assert_same(
        Net(
            lambda m, x: m.boost(m.fc(m.s1(m.c1(x)).flatten(1)).unsqueeze(1)).squeeze(1),
            c1=conv(2, 3), s1=spiking(), fc=layer.Linear(108, 12), boost=nn.AvgPool1d(4, 4),
        ),
        mode="s",
    )  # fmt: skip


def test_a_concatenation_of_spikes_is_max_pooled_by_neurons() -> None:
    torch.manual_seed(1)
    model = Net(
        lambda m, x: m.fc(m.pool(torch.cat([m.s1(m.c1(x)), m.s2(m.c2(x))], 2)).flatten(2)),
        c1=conv(2, 3), s1=spiking(0.5), c2=conv(2, 2), s2=spiking(0.5), pool=layer.MaxPool2d(2),
        fc=layer.Linear(45, 3),
    )  # fmt: skip
    network = assert_same(model)
    assert {s.source for s in network.incoming("pool")} == {"s1", "s2"}


def test_a_concatenation_is_the_sum_of_two_convolutions() -> None:
    """The weights are those of the one convolution, cut at the channels of the two."""
    torch.manual_seed(1)
    model: Any = Net(
        lambda m, x: m.s3(m.c3(torch.cat([m.s1(m.c1(x)), m.s2(m.c2(x))], 2))),
        c1=conv(2, 3), s1=spiking(), c2=conv(2, 2), s2=spiking(), c3=conv(5, 4), s3=spiking(),
    )  # fmt: skip
    network = assert_same(model)
    weight = model.c3.weight.detach().numpy()
    for source, channels in (("s1", slice(0, 3)), ("s2", slice(3, 5))):
        (synapses,) = [s for s in network.incoming("s3") if s.source == source]
        np.testing.assert_array_equal(synapses.op.weight, weight[:, channels])


def test_a_pool_before_a_padded_convolution_stays_one_convolution_where_it_is_one() -> None:
    """An odd map, whose last row no window and no tap sees."""
    torch.manual_seed(1)
    model = nn.Sequential(
        layer.Conv2d(2, 3, 4), spiking(), layer.AvgPool2d(2), conv(3, 2, 3, stride=2), spiking(0.2),
        layer.Flatten(), layer.Linear(32, 3),
    )  # fmt: skip
    network = assert_same(model, (2, 2, 20, 20))
    assert network.incoming("4")[0].op.weight.shape == (2, 3, 6, 6)


def test_a_matrix_that_would_be_too_large_is_refused_with_what_to_do() -> None:
    model = prepared(after(layer.Upsample(scale_factor=40), conv(3, 8), spiking(), features=460800))
    with pytest.raises(UnsupportedModel, match=r"3 is no single convolution .* put neurons in between"):
        from_torch(model, torch.rand(T, 1, 2, 6, 6).double())

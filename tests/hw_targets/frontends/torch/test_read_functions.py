"""Functions between layers that are linear maps of a sample, each exact on fresh inputs; and what the others are told.

Every advice that a refusal gives is followed once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from hw_targets import emulate, from_torch, spike_difference
from hw_targets.errors import UnsupportedModel
from tests.builders.torch_models import Net, T, conv, images, prepared, spiking

Function = Callable[[Tensor], Tensor]


def drawn(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)).double()


ONE_PER_CHANNEL, ONE_PER_NEURON, ROWS, SIX, FOUR = drawn(4, 1, 1), drawn(4, 6, 6), drawn(6, 6), drawn(6, 6), drawn(4, 4)
WIDE, ORDER = drawn(144, 144) - 0.4, torch.randperm(144, generator=torch.Generator().manual_seed(0))

#: Of spikes (T, N, 4, 6, 6), before a convolution.
GRIDS: dict[str, Function] = {
    "channels by a list": lambda y: y[:, :, [1, 0, 3, 3]],
    "channels by a tensor": lambda y: y[:, :, torch.tensor([1, 0, 3, 2])],
    "channels by a mask": lambda y: F.pad(y[:, :, torch.tensor([True, False, True, True])], (0, 0, 0, 0, 0, 1)),
    "columns by an array": lambda y: y[..., np.array([5, 4, 3, 2, 1, 1])],
    "index_select": lambda y: torch.index_select(y, 3, torch.tensor([5, 0, 1, 2, 3, 4])),
    "flipped channels and columns": lambda y: y.flip(2, 4),
    "rolled": lambda y: torch.roll(y, (1, -2), (3, 4)),
    "channel_shuffle": lambda y: F.channel_shuffle(y.flatten(0, 1), 2).view_as(y),
    "padded channels": lambda y: F.pad(y, (0, 0, 0, 0, 1, 0))[:, :, :4],
    "padded, then cut": lambda y: F.pad(y, (-1, 2, 1, -1))[..., 1:],
    "circular": lambda y: F.pad(y.flatten(0, 1), (1, 0, 0, 0), mode="circular")[..., :6].view_as(y),
    "reflected": lambda y: F.pad(y.flatten(0, 1), (1, 1, 0, 2), mode="reflect")[..., 2:, 2:].view_as(y),
    "rows joined": lambda y: torch.cat([y[:, :, :, 3:], y[:, :, :, :3]], 3),
    "columns joined": lambda y: torch.cat((y[..., :2], y[..., :4]), -1),
    "joined with zeros": lambda y: torch.cat([y[:, :, :2], torch.zeros_like(y[:, :, :2])], 2),
    "hstack": lambda y: torch.hstack([y.flatten(0, 1)[:, :2], y.flatten(0, 1)[:, 2:]]).view_as(y),
    "dstack": lambda y: torch.dstack([y[:, :, :1], y[:, :, :3]]),
    "sum of channels, broadcast": lambda y: y - y.mean(2, keepdim=True),
    "sum of channels, expanded": lambda y: y.sum(2, keepdim=True).expand_as(y),
    "mean of positions, broadcast": lambda y: y - y.mean((3, 4), keepdim=True),
    "one minus spikes": lambda y: 1 - y,
    "one minus spikes, scaled": lambda y: (1 - y) * 0.5,
    "with alpha": lambda y: torch.add(y, y.flip(2), alpha=2) - torch.sub(0.25, y, alpha=0.5),
    "one number for each channel": lambda y: y * ONE_PER_CHANNEL + ONE_PER_CHANNEL,
    "one number for each neuron": lambda y: y * ONE_PER_NEURON - ONE_PER_NEURON / 4,
    "one number for each position": lambda y: y / (1 + ROWS) + ROWS,
    "channels last": lambda y: (y.permute(0, 1, 3, 4, 2) + ONE_PER_CHANNEL.flatten()).permute(0, 1, 4, 2, 3),
    "product of shifted spikes": lambda y: y * y[:, :, [1, 2, 3, 0]] + y * y.roll(1, 4),
    "product written in place": lambda y: y.clone().mul_(y.flip(2)),
    "and not, flipped": lambda y: (1 - y) * y.flip(3),
    "max-pool of flipped spikes": lambda y: F.max_pool2d(y.flatten(0, 1).flip(3), 2, 1, 1)[..., 1:, 1:].view_as(y),
    "relu, abs and clamp of spikes": lambda y: F.relu(y * 2).abs().clamp(min=0),
    "rows by a matrix": lambda y: SIX @ y,
    "columns by a matrix": lambda y: y @ SIX,
    "columns by einsum": lambda y: torch.einsum("...hw,vw->...hv", y, SIX),
    "channels by einsum": lambda y: torch.einsum("tnchw,dc->tndhw", y, FOUR),
    "channels by einsum, matrix first": lambda y: torch.einsum("cd,tn...chw->tn...dhw", FOUR, y),
}
#: Of features (T, N, 144), before a linear layer.
FEATURES: dict[str, Function] = {
    "features by a tensor": lambda y: y[..., ORDER],
    "features flipped and rolled": lambda y: y.flip(-1).roll(5, 2),
    "features padded": lambda y: F.pad(y, (2, -2)),
    "features by a matrix": lambda y: y @ WIDE,
    "features by mm": lambda y: torch.mm(y.flatten(0, 1), WIDE).view_as(y),
    "features by addmm": lambda y: torch.addmm(WIDE[0], y.flatten(0, 1), WIDE).view_as(y),
    "features by einsum": lambda y: torch.einsum("tnf,gf->tng", y, WIDE),
    "features joined": lambda y: torch.cat([y[..., 100:], y[..., :100]], -1),
}


def with_function(function: Function, *, features: bool) -> nn.Module:
    torch.manual_seed(0)
    between = Net(lambda _, y: function(y))
    parts = [conv(2, 4), spiking(), *([layer.Flatten(), between] if features else [between, conv(4, 4), spiking(0.1)])]
    parts += [] if features else [layer.Flatten()]
    return prepared(nn.Sequential(*parts, layer.Linear(144, 30), spiking(0.05), layer.Linear(30, 3)))


def assert_exact(model: nn.Module) -> None:
    """Read on one input, and compared spike for spike and score for score on another."""
    read = from_torch(model, images(T, 2, 2, 6, 6, spikes=True).double())
    fresh = images(T, 3, 2, 6, 6, seed=4, spikes=True).double()
    difference = spike_difference(model, read, fresh)
    assert (difference.total, min(difference.model.values()) > 0) == (0, True)
    with torch.no_grad():
        functional.reset_net(model)
        theirs = model(fresh).sum(0)
    np.testing.assert_allclose(emulate(read, fresh).output, theirs.numpy(), atol=1e-9)


@pytest.mark.parametrize("function", GRIDS.values(), ids=GRIDS.keys())
def test_linear_maps_of_a_grid(function: Function) -> None:
    assert_exact(with_function(function, features=False))


@pytest.mark.parametrize("function", FEATURES.values(), ids=FEATURES.keys())
def test_linear_maps_of_features(function: Function) -> None:
    assert_exact(with_function(function, features=True))


#: What is refused, a part of the message, and what the message advises instead.
REFUSED: dict[str, tuple[Function, str, Function]] = {
    "steps backwards": (lambda y: y.flip(0), "`flip` .* out of their order.*choose channels", lambda y: y.flip(2)),
    "steps shifted": (lambda y: y.roll(1, 0), "`roll` .* out of their order", lambda y: y.roll(1, 2)),
    "samples by a list": (lambda y: y[:, [1, 0]], r"`x\[…\]` .* out of their order", lambda y: y[:, :, [1, 0, 2, 3]]),
    "gather": (
        lambda y: torch.gather(y, 2, torch.tensor([1, 0, 3, 2]).view(1, 1, 4, 1, 1).expand_as(y)),
        "`gather` .* choose channels, rows or columns by one list",
        lambda y: y[:, :, [1, 0, 3, 2]],
    ),
    "square": (lambda y: y**2, r"`\*\*` .* leave it out where values are spikes already", lambda y: y),
    "clamp": (lambda y: y.clamp(0, 1), "`clamp` .* leave it out where values are spikes already", lambda y: y),
    "relu of currents": (lambda y: F.relu(y - 0.5), "`relu` .* put spiking neurons there", lambda y: F.relu(y)),
    "greater": (lambda y: (y > 0).double(), "`>` .* leave it out", lambda y: y),
    "attention": (lambda y: (y @ y.mT) @ y, "`matmul` .* as attention does, .* use convolutions", lambda y: y @ SIX),
    "batch by einsum": (
        lambda y: torch.einsum("tnchw,mn->tmchw", y, FOUR[:2, :2]),
        "`einsum` along an axis that holds more, or something else, than the channels",
        lambda y: torch.einsum("tnchw,dc->tndhw", y, FOUR),
    ),
    "samples joined": (
        lambda y: torch.cat([y, y], 1)[:, :2],
        "`cat` .* joins steps or samples.* join channels",
        lambda y: torch.cat([y, y], 2)[:, :, 2:6],
    ),
    "joined with ones": (
        lambda y: torch.cat([y[:, :, :2], torch.ones_like(y[:, :, :2])], 2),
        "concatenates spikes with constants; add these after the next layer, as its bias",
        lambda y: torch.cat([y[:, :, :2], torch.zeros_like(y[:, :, :2])], 2),
    ),
    "largest": (
        lambda y: y.amax(2, keepdim=True).expand_as(y),
        r"`amax` .* use a max-pool \(F.max_pool2d\) straight behind neurons",
        lambda y: F.max_pool2d(y.flatten(0, 1), 3, 1, 1).view_as(y),
    ),
    "own statistics": (
        lambda y: F.layer_norm(y, (6, 6)),
        "`layer_norm` .* use a BatchNorm",
        lambda y: F.batch_norm(y.flatten(0, 1), FOUR[0], FOUR[1] + 1).view_as(y),
    ),
    "padded with ones": (lambda y: F.pad(y, (1, 1), value=1.0)[..., 1:-1], "pads with 1.* pad with zeros", lambda y: y),
    "other numbers in every step": (
        lambda y: y * drawn(T, 1, 1, 1, 1),
        "`mul` with numbers that differ from step to step",
        lambda y: y * drawn(1, 1, 1, 1, 1),
    ),
    "softmax": (lambda y: y.softmax(2), "3 comes after torch's `softmax`.* or leave it out", lambda y: y),
    "with out=": (
        lambda y: torch.add(y, 1.0, out=torch.empty_like(y)),
        r"`add` .* options that are not read; write a \+ b",
        lambda y: y + 1.0,
    ),
}


@pytest.mark.parametrize(("function", "says", "instead"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_name_the_module_and_their_advice_is_read(function: Function, says: str, instead: Function) -> None:
    with pytest.raises(UnsupportedModel, match=says) as caught:
        from_torch(with_function(function, features=False), images(T, 2, 2, 6, 6, spikes=True).double())
    assert str(caught.value).startswith(("from_torch: 2 (Net) ", "from_torch: 3 "))
    assert_exact(with_function(instead, features=False))


def test_a_function_in_the_models_own_forward_names_the_model() -> None:
    torch.manual_seed(0)
    model = prepared(Net(lambda m, x: m.f(m.s(m.c(x)).sort(-1).values), c=conv(2, 4), s=spiking(), f=layer.Flatten()))
    with pytest.raises(UnsupportedModel, match=r"the model \(Net\) applies torch's `sort`"):
        from_torch(model, images(T, 2, 2, 6, 6, spikes=True).double())

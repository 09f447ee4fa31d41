"""Torch models whose layers have every shape there is: grids, signals and vectors, flattened anywhere, with skips."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from spikingjelly.activation_based import functional, neuron
from torch import nn

Shape = tuple[int, ...]
#: Most values between two layers.
LARGEST = 300


class Sum(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        body: torch.Tensor = self.body(x)
        return x + body


def random_model(seed: int) -> tuple[nn.Sequential, Shape]:
    """A model in evaluation mode, and the shape of one sample of its input."""
    rng = np.random.default_rng(seed)
    torch.default_generator.manual_seed(seed)
    kind = rng.random()
    entry: Shape = tuple(int(n) for n in rng.integers((1, 4, 4), (4, 8, 8)))
    if kind > 0.75:
        entry = entry[:2] if kind > 0.88 else (entry[1],)
    shape, parts, wanted = entry, list[nn.Module](), int(rng.integers(1, 6))
    while len(parts) < wanted:
        part = skip(rng, shape) if parts and len(shape) != 2 and rng.random() < 0.25 else block(rng, shape)
        given = shape_after(part, shape)
        if given and prod(given) <= LARGEST:
            parts, shape = [*parts, part], given
    if rng.random() < 0.5:
        parts.append(nn.Sequential(*flat(shape), firing(nn.Linear(prod(shape), 3))))
    return nn.Sequential(*parts).eval(), entry


def shape_after(part: nn.Module, shape: Shape) -> Shape | None:
    """What it makes of a shape; None: it does not take it."""
    try:
        with torch.no_grad():
            given = tuple(part(torch.zeros(1, *shape)).shape[1:])
    except RuntimeError:
        return None
    finally:
        functional.reset_net(part)
    return given if all(given) else None


def block(rng: Generator, shape: Shape) -> nn.Module:
    """A layer, perhaps a flatten, neurons, and perhaps a flatten after them."""
    parts = [layer(rng, shape)]
    parts += [nn.Flatten()] if rng.random() < 0.2 else []
    parts.append(neurons(rng))
    return nn.Sequential(*parts, *([nn.Flatten()] if rng.random() < 0.05 else []))


def skip(rng: Generator, shape: Shape) -> nn.Module:
    """x + body(x), of one or two layers that leave a shape as it is."""
    parts: list[nn.Module] = []
    for _ in range(int(rng.integers(1, 3))):
        size = int(rng.integers(0, 2))
        same: nn.Module = firing(nn.Linear(shape[0], shape[0]))
        if len(shape) == 3:
            kind = nn.ConvTranspose2d if rng.random() < 0.2 else nn.Conv2d
            same = firing(kind(shape[0], shape[0], 2 * size + 1, padding=size, bias=bool(rng.random() < 0.5)))
        parts += [same, neurons(rng)]
    return Sum(nn.Sequential(*parts))


def neurons(rng: Generator) -> nn.Module:
    """IF or LIF neurons."""
    node: nn.Module = neuron.IFNode(v_threshold=float(rng.choice([0.5, 1.0])))
    if rng.random() < 0.5:
        node = neuron.LIFNode(tau=float(rng.choice([2.0, 4.0])), decay_input=bool(rng.random() < 0.5))
    return node


def layer(rng: Generator, shape: Shape) -> nn.Module:
    """A linear layer, or a pool, that may or may not take the shape."""
    channels, bias = shape[0], bool(rng.random() < 0.6)
    if len(shape) == 1 or rng.random() < 0.15:
        return nn.Sequential(*flat(shape), firing(nn.Linear(prod(shape), int(rng.integers(2, 7)), bias=bias)))
    groups = int(rng.choice([1, 1, channels]))
    outputs, size, padding = groups * int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(0, 2))
    stride, dilation, kind = int(rng.integers(1, 3)), int(rng.integers(1, 3)), rng.random()
    given: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups, "bias": bias}
    if len(shape) == 2:
        kind_of: type[nn.Module] = nn.Conv1d if kind < 0.7 else nn.ConvTranspose1d
        return firing(kind_of(channels, outputs, size, **given))
    if kind < 0.5:
        return firing(nn.Conv2d(channels, outputs, (size, int(rng.integers(1, 4))), dilation=dilation, **given))
    if kind < 0.75:
        return firing(nn.ConvTranspose2d(channels, outputs, size, **given))
    pools: list[nn.Module] = [nn.AvgPool2d(2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)]
    return pools[int(rng.integers(len(pools)))]


def firing(part: nn.Module) -> nn.Module:
    """With weights that make neurons fire."""
    weight = next(part.parameters())
    with torch.no_grad():
        weight.mul_(2).add_(0.1 + 0.3 / weight[0].numel() ** 0.5)
    return part


def flat(shape: Shape) -> list[nn.Module]:
    """A flatten where there is something to flatten."""
    return [nn.Flatten()] if len(shape) > 1 else []

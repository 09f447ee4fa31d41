"""Small spiking models in SpikingJelly, and the judge of what `from_torch` reads from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from hw_targets import emulate, from_torch
from hw_targets.ir.network import Network
from tests.twins.chip import run_slowly

Array = NDArray[Any]


T = 4


class Net(nn.Module):
    """Named parts and a forward function over them."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Module:
    options.setdefault("padding", kernel // 2)
    module: nn.Module = layer.Conv2d(inputs, outputs, kernel, **options)
    return module


def spiking(threshold: float = 0.3, **options: Any) -> Any:
    return neuron.IFNode(v_threshold=threshold, **options)


def prepared(model: nn.Module, mode: str = "m") -> nn.Module:
    """In double precision, so that torch's own rounding cannot tip a threshold; batch-norms with random everything."""
    generator = torch.Generator().manual_seed(7)
    functional.set_step_mode(model, mode)
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) and m.running_mean is not None:
            with torch.no_grad():
                m.running_mean.copy_(torch.randn(m.num_features, generator=generator) * 0.1)
                m.running_var.copy_(0.2 + torch.rand(m.num_features, generator=generator))  # type: ignore[union-attr]
                if m.affine:
                    m.weight.copy_(0.5 + torch.rand(m.num_features, generator=generator))
                    m.bias.copy_(torch.randn(m.num_features, generator=generator) * 0.2)
    return model.double().eval()


def images(*shape: int, seed: int = 0, spikes: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2 if spikes else 256, shape, generator=generator)


def observed(model: nn.Module, x: Tensor, mode: str) -> tuple[Array, dict[str, Array]]:
    """The model's own output, (steps, N, …) or whatever it returns, and the spikes of its neuron modules (T, N, …)."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.setdefault(name, []).append(output))
        for name, module in model.named_modules()
        if isinstance(module, neuron.BaseNode)
    ]
    functional.reset_net(model)
    with torch.no_grad():
        output = model(x) if mode == "m" else torch.stack([model(step) for step in x])
    functional.reset_net(model)
    for handle in handles:
        handle.remove()
    spikes = {name: (s[0] if mode == "m" else torch.stack(s)).numpy() for name, s in seen.items()}
    return output.numpy(), spikes


def assert_same(
    model: nn.Module,
    shape: tuple[int, ...] = (2, 2, 6, 6),
    *,
    mode: str = "m",
    spikes: bool = False,
    averaged: bool = False,
    slow: bool = True,
) -> Network:
    """Output and the spikes of every neuron module, torch against the emulator and against the slow twin."""
    model = prepared(model, mode)
    integers = images(*shape, spikes=spikes)
    x = (integers.double() / (1 if spikes else 255)).expand(T, *shape)
    network = from_torch(model, x if mode == "m" else x[0], time_steps=None if mode == "m" else T)
    output, fired = observed(model, x, mode)
    total = output * T if averaged else output.sum(0)
    ours = emulate(network, integers)
    np.testing.assert_allclose(ours.output, total.reshape(shape[0], -1), atol=1e-9)
    assert fired
    for name, expected in fired.items():
        assert 0 < expected.mean() < 1, f"{name} never or always fires: the test shows nothing"
        np.testing.assert_array_equal(ours.spikes[name], expected.reshape(ours.spikes[name].shape), err_msg=name)
    if slow:
        twin = run_slowly(network, integers.numpy())
        for name in fired:
            np.testing.assert_array_equal(twin.spikes[name], ours.spikes[name], err_msg=name)
        np.testing.assert_allclose(twin.output, ours.output, atol=1e-9)
    return network


def classifier(*front: nn.Module, features: int, **neurons: Any) -> nn.Module:
    """front → neurons → flatten → linear."""
    return nn.Sequential(*front, spiking(**neurons), layer.Flatten(), layer.Linear(features, 3))

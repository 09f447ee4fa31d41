"""Models that do something `from_torch` cannot see are refused, not read as another network."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from hw_targets import from_torch, spike_difference
from hw_targets.errors import UnsupportedModel

IMAGES = torch.rand(3, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Two convolutions with neurons, and what may happen to a tensor between the two."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda x: x, *, spiking: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        options = {"surrogate_function": surrogate.Sigmoid(spiking=spiking), "step_mode": "m"}
        self.conv1: Any = layer.Conv2d(1, 4, 3, padding=1, step_mode="m")
        self.sn1 = neuron.IFNode(v_threshold=0.3, **options)
        self.conv2: Any = layer.Conv2d(4, 4, 3, padding=1, step_mode="m")
        self.sn2 = neuron.IFNode(v_threshold=0.3, **options)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.sn2(self.between(self.conv2(self.sn1(self.conv1(x)))))
        return spikes


class Standardised(layer.Conv2d):  # type: ignore[misc]  # SpikingJelly has no types
    """A convolution whose weights are normalised on the way."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, (weight - weight.mean()) / weight.std(), bias, padding=1)


def doubled_through_data(x: Tensor) -> Tensor:
    x.data[:] = x.data * 2
    return x


def doubled_through_numpy(x: Tensor) -> Tensor:
    x.numpy()[:] *= 2
    return x


def hooked(net: Net) -> None:
    net.conv2.register_forward_hook(lambda _module, _inputs, output: output * 3)


def overridden(net: Net) -> None:
    net.conv2.forward = MethodType(lambda self, x: 0.5 * type(self).forward(self, x), net.conv2)


def inner_method(net: Net) -> None:
    net.conv2.__class__ = Standardised


def test_a_model_that_hides_nothing_is_read() -> None:
    network = from_torch(Net(), IMAGES)
    difference = spike_difference(Net(), network, IMAGES)
    assert difference.total == 0
    assert sum(difference.model.values()) > 100


def test_a_layer_with_methods_of_its_own_is_read_by_the_functions_it_calls() -> None:
    net = Net()
    inner_method(net)
    assert spike_difference(net, from_torch(net, IMAGES), IMAGES).total == 0


@pytest.mark.parametrize("change", [hooked, overridden])
def test_a_layer_that_computes_something_else(change: Callable[[Net], None]) -> None:
    net = Net()
    change(net)
    with pytest.raises(UnsupportedModel, match=r"sn2|conv2"):
        from_torch(net, IMAGES)


@pytest.mark.parametrize("between", [doubled_through_data, doubled_through_numpy])
def test_a_write_past_autograd(between: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedModel, match=r"current of sn2 is up to .* from what the layers before it compute"):
        from_torch(Net(between), IMAGES)


def test_neurons_that_send_other_values_than_spikes() -> None:
    with pytest.raises(UnsupportedModel, match=r"sn1 sends 0\.\d+, which is no spike"):
        from_torch(Net(spiking=False), IMAGES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_precision_of_the_model_is_no_lie(dtype: torch.dtype) -> None:
    network = from_torch(Net().to(dtype), IMAGES.to(dtype))
    assert network["sn2"].shape == (4, 8, 8)


def test_a_sum_in_place_is_no_difference() -> None:
    """The residual is added to the tensor that the neurons returned."""

    class Residual(Net):
        def forward(self, x: Tensor) -> Tensor:
            spikes: Tensor = self.sn1(self.conv1(x))
            out = self.sn2(self.conv2(spikes))
            out += spikes
            mean: Tensor = out.mean(0)
            return mean

    net = Residual()
    assert spike_difference(net, from_torch(net, IMAGES), IMAGES).total == 0

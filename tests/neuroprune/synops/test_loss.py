"""Synaptic operations in the loss: the counter's number, and a slope that is the fan-out."""

from __future__ import annotations

import copy
import itertools
import warnings
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.checkpoint import checkpoint

from neuroprune import SynapticCosts, SynOpsLoss, count_synops
from neuroprune.synops.loss import fan_out


def network(*, batch_norm: bool = False) -> nn.Sequential:
    """(T, N, 2, 8, 8) → (T, N, 5)."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"surrogate_function": surrogate.ATan()}
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4) if batch_norm else nn.Identity(),
        neuron.IFNode(**options),
        layer.Conv2d(4, 6, 3, stride=2, groups=2, padding_mode="circular", padding=1), neuron.IFNode(**options),
        layer.Flatten(), layer.Linear(96, 5),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0).mul_(torch.rand_like(parameter) < 0.5)
    return net


def spikes(seed: int = 0) -> Tensor:
    return (torch.rand(3, 4, 2, 8, 8, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def test_it_is_what_the_counter_counts() -> None:
    net, x = network(), spikes()
    loss = SynOpsLoss(net)
    net(x)
    functional.reset_net(net)
    assert float(loss(1)) == count_synops(net, x).total
    functional.reset_net(net)
    net(x)
    functional.reset_net(net)
    net(x)
    assert float(loss(8)) == pytest.approx(count_synops(network(), x).total / 4, rel=1e-6)


def test_layers_that_read_an_image_are_not_in_it() -> None:
    net = network()
    image = torch.rand(3, 4, 2, 8, 8)
    loss = SynOpsLoss(net)
    net(image)
    functional.reset_net(net)
    counted = count_synops(net, image)
    assert counted.layers["0"].macs > 0
    assert float(loss(1)) == counted.total > 0


def test_evaluation_and_passes_without_gradients_are_not_in_it() -> None:
    net = network()
    loss = SynOpsLoss(net)
    with torch.no_grad():
        net(spikes())
    functional.reset_net(net)
    net.eval()
    net(spikes())
    with pytest.raises(ValueError, match="has read spikes in training mode"):
        loss(4)


@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d", "conv3d", "grouped", "circular"])
def test_the_slope_is_the_fan_out(kind: str) -> None:
    """Against counting, spike by spike, what a layer of [w ≠ 0] makes of one."""
    torch.manual_seed(1)
    made: tuple[nn.Module, tuple[int, ...]] = {
        "linear": (nn.Linear(5, 4), (5,)),
        "conv1d": (nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 6)),
        "conv2d": (nn.Conv2d(2, 3, 2, dilation=2), (2, 5, 4)),
        "conv3d": (nn.Conv3d(1, 2, 2, padding=1), (1, 2, 3, 2)),
        "grouped": (nn.Conv2d(4, 4, 3, padding=1, groups=2), (4, 3, 3)),
        "circular": (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 4, 4)),
    }[kind]
    module, shape = made
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    with torch.no_grad():
        weight.mul_(torch.rand_like(weight) < 0.5)
    found = fan_out(module, shape)
    with torch.no_grad():
        weight.copy_((weight != 0).float())
        bias = module.bias
        assert isinstance(bias, nn.Parameter)
        bias.zero_()
        for position in itertools.product(*(range(n) for n in shape)):
            one = torch.zeros(1, *shape)
            one[(0, *position)] = 1
            assert float(found[position]) == float(module(one).sum())


def test_layers_may_be_called_with_named_arguments() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 3)
            self.neuron = neuron.IFNode(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.second(input=self.neuron(self.first(input=x)))
            return found

    torch.manual_seed(0)
    pair, x = Pair(), (torch.rand(3, 5, 6) < 0.5).float()
    loss, costs = SynOpsLoss(pair), SynapticCosts(pair)
    pair(x)
    functional.reset_net(pair)
    assert float(loss(1)) == count_synops(pair, x).total > 0
    costs.advance()
    assert costs.measured


def test_half_precision_adds_up_in_single_precision() -> None:
    """A sum above 65,504, and fan-outs that half precision rounds."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 4097), nn.ReLU(), nn.Linear(4097, 3)).half()
    x = torch.ones(8, 20, dtype=torch.float16)
    loss = SynOpsLoss(net)
    loss._see(net[0], (x,), {})
    assert float(loss(1)) == 8 * 20 * 4097
    loss._see(net[0], (), {"input": x})
    found = loss(8)
    assert found.dtype == torch.float32
    assert float(found) == 20 * 4097
    convolution = nn.Conv2d(1, 4099, 1).half()
    assert float(fan_out(convolution, (1, 2, 2))[0, 0, 0]) == 4099


def from_rest(net: nn.Module, x: Tensor) -> Tensor:
    """What is computed again starts where the first time did."""
    functional.reset_net(net)
    found: Tensor = net(x)
    return found


def test_activation_checkpointing_sees_each_pass_once_and_carries_the_slope() -> None:
    x, found = spikes(), []
    for saving in (False, True):
        net = network()
        loss, costs = SynOpsLoss(net), SynapticCosts(net)
        for _ in range(2):
            y = checkpoint(from_rest, net, x, use_reentrant=False) if saving else from_rest(net, x)
            synops = loss(4)
            (y.square().sum() + synops).backward()
            functional.reset_net(net)
            costs.advance()
            found.append([float(synops), *(p.grad.clone() for p in net.parameters() if p.grad is not None)])
        found[-1] += [costs.of(p) for p in net.parameters() if p.dim() > 1]
    for plain, saved in zip(found[:2], found[2:], strict=True):
        assert len(plain) == len(saved) > 1
        for a, b in zip(plain, saved, strict=True):
            torch.testing.assert_close(a, b)


def test_checkpointing_that_hides_the_first_pass_is_refused() -> None:
    net = network()
    SynOpsLoss(net)
    y = checkpoint(net, spikes().requires_grad_(), use_reentrant=True)
    with pytest.raises(RuntimeError, match=r"give torch\.utils\.checkpoint use_reentrant=False"):
        y.sum().backward()


def test_a_copy_of_the_model_is_not_watched() -> None:
    net, x = network(), spikes()
    loss = SynOpsLoss(net)
    net(x)
    functional.reset_net(net)
    twin, other = copy.deepcopy((net, loss))
    twin(x)
    assert float(loss(1)) == count_synops(net, x).total
    with pytest.raises(ValueError, match="or is a copy"):
        other(1)


def test_training_with_it_makes_spikes_rarer_where_they_cost() -> None:
    totals = []
    for strength in (0.0, 3.0):
        net = network(batch_norm=True)
        optimizer, loss = SGD(net.parameters(), 0.05), SynOpsLoss(net)
        for step in range(30):
            y = net(spikes(step)).mean(0)
            functional.reset_net(net)
            synops = loss(4)
            optimizer.zero_grad()
            (y.square().sub(1).square().mean() + strength * synops.log()).backward()
            optimizer.step()
        loss.close()
        net.eval()
        totals.append(count_synops(net, spikes(99)).total)
    assert totals[1] < 0.9 * totals[0]


def test_the_fan_out_follows_the_zeros() -> None:
    net, x = network(), spikes()
    loss = SynOpsLoss(net, every=1)
    net(x)
    functional.reset_net(net)
    loss(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 2:
                parameter.zero_()
    net(x)
    functional.reset_net(net)
    assert float(loss(1)) == count_synops(net, x).total


def test_layers_that_it_cannot_count_are_named() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ConvTranspose1d(4, 2, 3), nn.GRU(2, 2))
    with pytest.warns(UserWarning, match="1, 2 have weights, .* are not in the loss"):
        assert SynOpsLoss(net).uncounted == ("1", "2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SynOpsLoss(network()).uncounted == ()


def test_refused() -> None:
    for every in (0, "3", 2.5):
        with pytest.raises(ValueError, match=f"every must be a whole number >= 1, got {every!r}"):
            SynOpsLoss(network(), every=every)  # type: ignore[arg-type]  # that is what is tested
    loss = SynOpsLoss(network())
    with pytest.raises(ValueError, match="samples must be a whole number >= 1, got 0"):
        loss(0)
    loss.close()
    with pytest.raises(ValueError, match="it watches no model: it was closed"):
        loss(4)
    with pytest.raises(ValueError, match="Sequential has no Linear"):
        SynOpsLoss(nn.Sequential(nn.ReLU()))
    with pytest.raises(TypeError, match="expected Linear, Conv1d, Conv2d or Conv3d, got ReLU"):
        fan_out(nn.ReLU(), (3,))

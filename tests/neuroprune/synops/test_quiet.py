"""Layers of which it is known what they compute: counted as those whose functions are watched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuroprune.frameworks.trial import unwatched
from neuroprune.synops.counter import SynOpsCounter, count_synops


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()


class Seen(TorchFunctionMode):
    """Notes the functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        layer.Conv2d(2, 3, 3, padding=1), layer.BatchNorm2d(3), neuron.IFNode(0.3),
        layer.Conv2d(3, 4, 3, stride=2), neuron.IFNode(0.2), layer.Flatten(), layer.Linear(16, 5),
    )  # fmt: skip
    functional.set_step_mode(model, "m")
    return model.eval()


def counts_of(model: nn.Module, x: Tensor) -> dict[str, tuple[int, int, int]]:
    functional.reset_net(model)
    return {name: (one.synops, one.dense, one.macs) for name, one in count_synops(model, x).layers.items()}


def test_layers_that_are_not_watched_are_counted_as_those_that_are() -> None:
    """A hook of somebody's makes a layer one that is watched function by function."""
    model, x = two_layers(), spikes(4, 2, 2, 6, 6)
    expected = counts_of(model, x)
    assert min(numbers[0] for numbers in expected.values()) > 0
    for module in model:
        module.register_forward_hook(lambda *_: None)
    assert counts_of(model, x) == expected


def test_a_layer_that_is_changed_is_watched_again() -> None:
    model, x = two_layers(), spikes(4, 2, 2, 6, 6)
    expected = counts_of(model, x)
    model[3].register_forward_pre_hook(lambda _, args: (args[0] * (torch.rand_like(args[0]) < 2),))
    assert counts_of(model, x) == expected
    last: Any = model[6]
    last.forward = lambda y: F.linear(torch.zeros_like(y), last.weight)
    assert counts_of(model, x)["6"] == (0, 0, 0)


def test_models_beside_the_counted_one_are_not_looked_at() -> None:
    model, other, x = two_layers(), two_layers(), spikes(4, 2, 2, 6, 6)
    with SynOpsCounter(model) as counter, torch.no_grad():
        other(x)
        assert counter.result().total == 0
        model(x)
    assert {n: (one.synops, one.dense, one.macs) for n, one in counter.result().layers.items()} == counts_of(model, x)


def test_a_layer_that_fails_leaves_nothing_behind() -> None:
    model, x = two_layers(), spikes(4, 2, 2, 6, 6)
    expected = counts_of(model, x)
    with SynOpsCounter(model) as counter, torch.no_grad():
        with pytest.raises(RuntimeError):
            model(x[:, :, :1])
        counter.reset()
        functional.reset_net(model)
        model(x)
    assert {n: (one.synops, one.dense, one.macs) for n, one in counter.result().layers.items()} == expected
    with Seen() as seen:
        torch.add(x, 1)
    assert seen.functions == [torch.add]


def test_a_trial_that_nobody_shall_see_is_not_counted() -> None:
    model, x = two_layers(), spikes(4, 2, 2, 6, 6)
    expected = counts_of(model, x)
    functional.reset_net(model)
    with SynOpsCounter(model) as counter, torch.no_grad():
        with unwatched(model):
            model(x)
        functional.reset_net(model)
        model(x)
    assert {n: (one.synops, one.dense, one.macs) for n, one in counter.result().layers.items()} == expected

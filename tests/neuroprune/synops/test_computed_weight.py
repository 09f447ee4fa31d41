"""Layers that compute with another weight than their `weight`, against the same products done by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import _len_torch_function_stack  # type: ignore[attr-defined]  # torch's own tests use it

from neuroprune import SynOpsCounter, count_synops


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def sparse(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        weight = module.get_parameter("weight")
        weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) < 0.8] = 0
    return module.eval()


class Halved(nn.Conv2d):
    """Computes with every other output channel alone."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.clone()
        weight[::2] = 0
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Twice(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) + F.linear(x, self.weight.abs(), self.bias)


class Failing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"no product of {tuple(x.shape)}")


class Signs(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return torch.relu(weight)


@pytest.mark.parametrize("multi", [True, False])
def test_standardised_weights_have_no_zeros(multi: bool) -> None:
    conv: Any = sparse(layer.WSConv2d(2, 8, 3, padding=1, stride=2))
    x = spikes(4, 3, 2, 9, 9)
    dense: Any = sparse(layer.WSLinear(18, 5))
    for module, inputs in ((conv, x), (dense, spikes(4, 3, 18))):
        functional.set_step_mode(module, "m" if multi else "s")
        used = (module.get_weight() != 0).double()
        flat = inputs.flatten(0, 1).double()
        product = F.conv2d(flat, used, None, 2, 1) if module is conv else F.linear(flat, used)
        with SynOpsCounter(module) as counter, torch.no_grad():
            for step in [inputs] if multi else inputs:
                module(step)
            assert not counter._tallies._maps, "maps of weights that are gone are not kept"
        assert counter.result().total == int(product.sum())
        assert counter.result().total != int((module.weight != 0).sum())


def test_what_a_forward_leaves_out_does_nothing() -> None:
    module, x = Halved(2, 6, 3).eval(), spikes(4, 2, 7, 7)
    used = (module.weight != 0).double()
    used[::2] = 0
    assert count_synops(module, x).total == int(F.conv2d(x.double(), used).sum())


def test_a_parametrization_is_counted_as_it_computes() -> None:
    module, x = nn.Linear(20, 30), spikes(6, 20)
    parametrize.register_parametrization(module, "weight", Signs())
    assert count_synops(module, x).total == int((x.double() @ (module.weight != 0).double().T).sum())


def test_several_products_of_one_layer_add_up() -> None:
    model, x = nn.Sequential(Twice(6, 8), nn.Linear(8, 3)).eval(), spikes(5, 6)
    found = count_synops(model, x)
    weight: Any = model[0].weight
    assert found.layers["0"].synops == 2 * int((x.double() @ (weight != 0).double().T).sum()) > 0
    assert found.uncounted == ()


class Unseen(nn.Linear):
    """Multiplies where no function of torch is called."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() @ self.weight.detach().numpy().T)


def test_a_layer_whose_product_nobody_saw_is_named() -> None:
    found = count_synops(nn.Sequential(nn.Linear(6, 8), Unseen(8, 3)), spikes(5, 6))
    assert found.uncounted == ("1",)
    assert found.layers["1"].kind == "unused"
    assert found.total == found.layers["0"].synops > 0


def test_a_forward_that_fails_leaves_nothing_behind() -> None:
    before = _len_torch_function_stack()
    with pytest.raises(RuntimeError, match="no product"):
        count_synops(Failing(4, 4), spikes(2, 4))
    assert _len_torch_function_stack() == before

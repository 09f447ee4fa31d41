"""SpikingJelly's step modes, mixed as people mix them: read, or refused with an advice that is followed here once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from hw_targets import from_torch, spike_difference
from hw_targets.errors import UnsupportedModel
from tests.builders.torch_models import Net, T, conv, images, prepared, spiking


def frames(count: int = 2, seed: int = 0) -> Tensor:
    return images(T, count, 2, 6, 6, seed=seed, spikes=True).double()


def assert_exact(model: nn.Module, example: Tensor | None = None, fresh: Tensor | None = None) -> None:
    read = from_torch(model, frames() if example is None else example)
    difference = spike_difference(model, read, frames(3, 5) if fresh is None else fresh)
    assert (difference.total, min(difference.model.values()) > 0) == (0, True)


def rest() -> list[nn.Module]:
    return [layer.Flatten(), layer.Linear(108, 20), spiking(0.1), layer.Linear(20, 3)]


def test_single_step_layers_before_the_steps_are_layers_like_any_other() -> None:
    """SpikingJelly's static encoders: `layer.Conv2d` as it is made, multi-step neurons behind the repetition."""
    torch.manual_seed(0)
    model: Any = prepared(
        Net(
            lambda m, x: m.rest(m.s(m.b(m.c(x)).unsqueeze(0).repeat(T, 1, 1, 1, 1))),
            c=conv(2, 3), b=layer.BatchNorm2d(3), s=spiking(), rest=nn.Sequential(*rest()),
        )
    )  # fmt: skip
    for single in (model.c, model.b):
        single.step_mode = "s"
    assert_exact(model, images(2, 2, 6, 6).double() / 255, images(3, 2, 6, 6, seed=5).double() / 255)
    functional.set_step_mode(model, "m")
    with pytest.raises(UnsupportedModel, match=r"fails in c \(Conv2d\): .* it is multi-step .* step_mode 's', or use"):
        from_torch(model, images(2, 2, 6, 6).double() / 255)
    model.c.step_mode, model.b = "s", nn.BatchNorm2d(3).double().eval()
    assert_exact(model, images(2, 2, 6, 6).double() / 255, images(3, 2, 6, 6, seed=5).double() / 255)


def test_single_step_layers_that_get_all_steps_are_to_be_set_to_take_them() -> None:
    torch.manual_seed(0)
    model: Any = prepared(nn.Sequential(conv(2, 3), spiking(), *rest()))
    model[0].step_mode = "s"
    with pytest.raises(UnsupportedModel, match=r"fails in 0 \(Conv2d\): .* call .*set_step_mode\(model, 'm'\)"):
        from_torch(model, frames())
    functional.set_step_mode(model, "m")
    assert_exact(model)


def test_neurons_of_both_modes_are_named() -> None:
    torch.manual_seed(0)
    model: Any = prepared(nn.Sequential(conv(2, 3), spiking(), *rest()))
    model[4].step_mode = "s"
    with pytest.raises(UnsupportedModel, match=r"multi-step neurons \(4: 's', 1: 'm'\); .*set_step_mode\(model, 'm'\)"):
        from_torch(model, frames())
    functional.set_step_mode(model, "m")
    assert_exact(model)


def container(mode: str, stateful: bool, *inside: nn.Module) -> nn.Module:
    for module in inside:
        functional.set_step_mode(module, "s")
    made: nn.Module = layer.StepModeContainer(stateful, mode, *inside)
    return made


@pytest.mark.parametrize("stateful", [True, False])
def test_step_mode_containers(stateful: bool) -> None:
    """In mode 's' they step through nothing; `set_step_mode` is then the advice, and works."""
    torch.manual_seed(0)
    held = [container("m", False, nn.Conv2d(2, 3, 3, padding=1)), container("m", True, spiking())]
    model: Any = prepared(nn.Sequential(*held, *rest()))
    assert_exact(model)
    model[int(stateful)].step_mode = "s"
    with pytest.raises(UnsupportedModel, match=r"set_step_mode\(model, 'm'\)"):
        from_torch(model, frames())
    functional.set_step_mode(model, "m")
    assert_exact(model)


def test_single_step_neurons_that_get_all_steps_are_told_so() -> None:
    torch.manual_seed(0)
    model: Any = prepared(nn.Sequential(conv(2, 3), spiking(), *rest()))
    for single in (model[1], model[4]):
        single.step_mode = "s"
    with pytest.raises(UnsupportedModel, match=r"1 sees .*, which holds all steps, but takes one step a call"):
        from_torch(model, frames())
    functional.set_step_mode(model, "m")
    assert_exact(model)


# --- max-pools of currents --------------------------------------------------------------------------------------------


def pooled(*, behind: bool) -> nn.Module:
    torch.manual_seed(0)
    parts = [spiking(), layer.MaxPool2d(2)]
    front = [conv(2, 3), *(parts if behind else parts[::-1])]
    return prepared(nn.Sequential(*front, layer.Flatten(), layer.Linear(27, 20), spiking(0.1), layer.Linear(20, 3)))


def test_a_max_pool_of_currents_is_to_stand_behind_the_neurons() -> None:
    """As SpikingJelly's max_resnet18 and spiking transformers have it before them."""
    before, behind = pooled(behind=False), pooled(behind=True)
    for shown in (frames(), frames() * 0.5):
        with pytest.raises(
            UnsupportedModel, match=r"1 max-pools .* currents .* straight after neurons .* one step is it"
        ):
            from_torch(before, shown)
    assert_exact(behind)
    one = frames(4)[:1]
    assert spike_difference(before, from_torch(behind, one), one).different["5"] == 0  # one step: the same network


def test_connections_back_from_an_earlier_step_are_called_so() -> None:
    """As SpikingJelly's backward SNASNet has them."""

    def forward(m: Any, x: Tensor) -> Tensor:
        held: Any = 0.0
        out = []
        for _ in range(T):
            held = m.c2(m.s1(m.c1(x) + held))
            out.append(m.fc(m.s2(held).flatten(1)))
        return torch.stack(out)

    parts = {"c1": conv(2, 3), "c2": conv(3, 3), "s1": spiking(), "s2": spiking(), "fc": layer.Linear(108, 3)}
    model = prepared(Net(forward, **parts), "s")
    with pytest.raises(UnsupportedModel, match=r"s1 gets .* connections back .*LinearRecurrentContainer"):
        from_torch(model, images(2, 2, 6, 6).double() / 255)

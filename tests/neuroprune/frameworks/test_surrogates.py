"""A surrogate is tried once: not again while it stays as it is, and again as soon as anything of it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from snntorch import surrogate as of_snntorch
from spikingjelly.activation_based import surrogate as of_spikingjelly
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from neuroprune.frameworks import surrogates
from neuroprune.frameworks.surrogates import is_step


@pytest.mark.parametrize("make", [of_spikingjelly.ATan, of_snntorch.fast_sigmoid, of_snntorch.atan])
def test_alike_surrogates_are_tried_once(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    at_zero = 1.0 if make is of_spikingjelly.ATan else 0.0
    assert is_step(make(), at_zero=at_zero)
    monkeypatch.setattr(surrogates, "_try", lambda *_: pytest.fail("tried again"))
    assert is_step(make(), at_zero=at_zero)


def forward(x: Tensor) -> Tensor:
    return x


CHANGES: dict[str, Callable[[Any], object]] = {
    "smooth": lambda s: s.set_spiking_mode(False),
    "another forward": lambda s: setattr(s, "forward", forward),
    "another function": lambda s: setattr(s, "spiking_function", lambda x, **_: x),
    "a hook": lambda s: s.register_forward_hook(lambda *_: torch.ones(6)),
    "a hook before": lambda s: s.register_forward_pre_hook(lambda _m, args: (args[0] + 1,)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_surrogate_that_changes_is_tried_again(change: str) -> None:
    changed = of_spikingjelly.Sigmoid()
    assert is_step(changed, at_zero=1.0)
    CHANGES[change](changed)
    assert not is_step(changed, at_zero=1.0)


@pytest.mark.parametrize("before", [False, True])
def test_a_hook_on_all_modules_is_seen_while_it_is_there(before: bool) -> None:
    def one_more(module: nn.Module, given: Any, *_: Any) -> Any:
        is_meant = isinstance(module, of_spikingjelly.Sigmoid)
        return (given[0] + 1,) if before and is_meant else torch.ones(6) if is_meant else None

    register = register_module_forward_pre_hook if before else register_module_forward_hook
    assert is_step(of_spikingjelly.Sigmoid(), at_zero=1.0)
    handle = register(one_more)
    try:
        assert not is_step(of_spikingjelly.Sigmoid(), at_zero=1.0)
    finally:
        handle.remove()
    assert is_step(of_spikingjelly.Sigmoid(), at_zero=1.0)


def test_a_class_that_is_called_in_another_way_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_step(of_spikingjelly.Sigmoid(), at_zero=1.0)
    monkeypatch.setattr(of_spikingjelly.Sigmoid, "__call__", lambda _, x: x)
    assert not is_step(of_spikingjelly.Sigmoid(), at_zero=1.0)


def test_what_happens_at_zero_is_part_of_the_question() -> None:
    assert not is_step(of_spikingjelly.ATan(), at_zero=0.0)
    assert not is_step(of_snntorch.atan(), at_zero=1.0)
    assert not is_step(torch.sigmoid, at_zero=0.0)


def test_numbers_that_are_equal_but_of_other_kinds_are_not_taken_for_each_other() -> None:
    kinds = [surrogates._identity(of_snntorch.fast_sigmoid(slope=slope)) for slope in (1, 1.0, True, 2.0)]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_precision_of_fresh_tensors_does_not_matter(dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert is_step(lambda x: (x >= 0).float(), at_zero=1.0)
        assert is_step(lambda x: (x > 0).double(), at_zero=0.0)
        assert not is_step(lambda x: (x > -1.5).float(), at_zero=1.0)
    finally:
        torch.set_default_dtype(before)

"""Whether a surrogate function is, going forward, the step that its neurons claim to fire by."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module

_TRIED = (-2.0, -1e-6, 0.0, 1e-6, 1.0, 2.0)
_NUMBERS = (bool, int, float, str, type(None))
#: What every module holds, and what makes it compute something else than its class says.
_OWN, _CHANGING = (
    frozenset(vars(nn.Module())),
    ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"),
)


def is_step(surrogate: Callable[[Tensor], Tensor], *, at_zero: float) -> bool:
    """Whether it is 0 below zero, 1 above, and `at_zero` there; tried on both sides of zero and at it.

    A framework's own surrogate is tried once with the same numbers: to call one takes longer than all else that is
    asked of a neuron, and neurons are asked in every step.
    """
    known = _identity(surrogate)
    return _tried(_Alike(known, surrogate), at_zero) if known is not None else _try(surrogate, at_zero)


class _Alike:
    """A function that is equal to all others which compute the same."""

    def __init__(self, known: Hashable, surrogate: Callable[[Tensor], Tensor]) -> None:
        self.known, self.surrogate = known, surrogate

    def __hash__(self) -> int:
        return hash(self.known)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alike) and self.known == other.known


@lru_cache(maxsize=256)
def _tried(alike: _Alike, at_zero: float) -> bool:
    return _try(alike.surrogate, at_zero)


def _try(surrogate: Callable[[Tensor], Tensor], at_zero: float) -> bool:
    x = torch.tensor(_TRIED)
    with torch.no_grad():
        step = torch.where(x == 0, at_zero, (x > 0).to(x.dtype))
        return torch.equal(surrogate(x).to(x.dtype), step)


def _identity(surrogate: Any) -> Hashable | None:
    """What tells a framework's surrogate from others: its code and its numbers; None of anything else."""
    if not _is_of_framework(surrogate):
        return None
    code: list[Any]
    if isinstance(surrogate, FunctionType):
        code = [surrogate.__code__, *(surrogate.__defaults__ or ())]
        held = [cell.cell_contents for cell in surrogate.__closure__ or ()]
    elif isinstance(surrogate, nn.Module) and not _is_changed(surrogate):
        own = {name: value for name, value in vars(surrogate).items() if name not in _OWN}
        cls: Any = type(surrogate)
        answers = cls.__call__, cls.forward, getattr(cls, "spiking_function", None)
        code, held = [cls, *answers, *own], list(own.values())
    else:
        return None
    # 1, 1.0 and True are equal, but not the same argument of a function.
    return (*code, *((type(v), v) for v in held)) if all(_is_number(v) for v in held) else None


def _is_changed(surrogate: nn.Module) -> bool:
    """Whether it holds what its class does not say, or hooks are called around it, its own or all modules'."""
    everywhere = module._global_forward_hooks, module._global_forward_pre_hooks
    return any(everywhere) or any(getattr(surrogate, name) for name in _CHANGING)


def _is_number(value: Any) -> bool:
    """Whether it is a number or a text, or several, which nobody can change."""
    return all(isinstance(v, _NUMBERS) for v in (value if isinstance(value, tuple) else (value,)))


def _is_of_framework(surrogate: Any) -> bool:
    of = surrogate.__module__ if isinstance(surrogate, FunctionType) else type(surrogate).__module__
    return of in ("snntorch.surrogate", "spikingjelly.activation_based.surrogate")

"""Products of two tensors, by the functions that compute them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuroprune.synops.names import LAYERS, TRANSPOSED

Product = Callable[[Tensor, Tensor], Tensor]

_WITH_SUM: dict[str, Product] = {
    "addmm": torch.mm,
    "addmv": torch.mv,
    "baddbmm": torch.bmm,
    "addbmm": torch.bmm,
    "addr": torch.outer,
}


@dataclass(frozen=True)
class Pair:
    """Two factors, and the bilinear function that multiplies them."""

    left: Tensor
    right: Tensor
    product: Product

    @classmethod
    def of_call(cls, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pair | None:
        """Of a call of one of ``PRODUCTS``; None where it has another number of factors."""
        if name == "einsum":
            return _einsum(args)
        if name in LAYERS or name in TRANSPOSED:
            x, weight = _first_two(args, kwargs, "input", "weight")
            rest = {k: v for k, v in kwargs.items() if k not in ("input", "weight", "bias")}
            call = getattr(F, name)
            return cls(x, weight, lambda a, b: call(a, b, None, *args[3:], **rest))
        if name.removesuffix("_") in _WITH_SUM:
            plain = _WITH_SUM[name.removesuffix("_")]
            left, right = _first_two(args[1:], kwargs, *_SUM_NAMES.get(name.removesuffix("_"), ("mat1", "mat2")))
            return cls(left, right, plain)
        left, right = _first_two(args, kwargs, "input", "other")
        rest = {k: v for k, v in kwargs.items() if k not in ("input", "other", "out")}
        if name == "__rmatmul__":
            return cls(right, left, torch.matmul)
        return cls(left, right, lambda a, b: func(a, b, *args[2:], **rest))


_SUM_NAMES = {
    "addmv": ("mat", "vec"),
    "addr": ("vec1", "vec2"),
    "baddbmm": ("batch1", "batch2"),
    "addbmm": ("batch1", "batch2"),
}


def _first_two(args: tuple[Any, ...], kwargs: dict[str, Any], *names: str) -> tuple[Tensor, Tensor]:
    """The factors, which may be called by other names than the usual ones."""
    given = [*args[:2], *(kwargs[name] for name in names if name in kwargs)]
    given += [v for k, v in kwargs.items() if isinstance(v, Tensor) and k not in (*names, "out", "bias")]
    return given[0], given[1]


def _einsum(args: tuple[Any, ...]) -> Pair | None:
    equation, *operands = args
    factors = list(operands[0]) if operands and isinstance(operands[0], (list, tuple)) else operands
    if not isinstance(equation, str) or len(factors) != 2 or not all(isinstance(f, Tensor) for f in factors):
        return None
    return Pair(factors[0], factors[1], lambda a, b: torch.einsum(equation, a, b))


@dataclass(frozen=True)
class Operations:
    """Of one product: SynOps where a factor is spikes, or else multiply-accumulates; and with nothing zero."""

    count: int
    dense: int
    is_spikes: bool


def count_weighted(pair: Pair, spikes: Tensor | None, *, data_left: bool) -> Operations:
    """Of data, on one side, and a weight: each spike crosses the non-zero weights that it meets.

    Args:
        pair: the factors.
        spikes: in the shape of the data; None where they are real values.
        data_left: which of the two they are.
    """
    data, weight = (pair.left, pair.right) if data_left else (pair.right, pair.left)
    sent = torch.ones_like(data, dtype=torch.float64) if spikes is None else spikes.double()
    used = (weight != 0).double()
    return Operations(
        _total(pair, sent, used, data_left), _total(pair, sent, used.fill_(1), data_left), spikes is not None
    )


def count_data(pair: Pair, left: Tensor | None, right: Tensor | None) -> Operations:
    """Of data and data, as attention multiplies: each spike of one adds what it meets of the other, if not zero.

    Where both are spikes the two ways may differ (one of them binary, the other sums of spikes); the fewer additions
    count. Where neither is, every multiplication does.
    """
    ways: list[Operations] = []
    for spikes, other, first in ((left, pair.right, True), (right, pair.left, False)):
        if spikes is not None:
            used, sent = (other != 0).double(), spikes.double()
            ways.append(
                Operations(_total(pair, sent, used, first), _total(pair, sent, torch.ones_like(used), first), True)
            )
    if ways:
        return min(ways, key=lambda way: way.count)
    ones = [torch.ones_like(x, dtype=torch.float64) for x in (pair.left, pair.right)]
    every = _total(pair, ones[0], ones[1], True)
    return Operations(every, every, False)


def _total(pair: Pair, one: Tensor, other: Tensor, first: bool) -> int:
    left, right = (one, other) if first else (other, one)
    return int(pair.product(left, right).sum())

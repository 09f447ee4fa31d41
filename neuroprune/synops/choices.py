"""Functions that leave spikes where they are or zero: differences, powers, masks and choices between two tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neuroprune.synops.call import Call, arrivals_of
from neuroprune.synops.known import Arrivals, Data, is_zero


def powered(call: Call) -> Sequence[Data]:
    """A positive power of at most one spike, times a constant, is one spike times that constant's power."""
    exponent = {"square": 2.0, "square_": 2.0, "sqrt": 0.5, "sqrt_": 0.5}.get(call.name)
    if exponent is None:
        exponent = call.argument(1, "exponent")
    arrivals = call.arrivals(call.first, binary=True)
    if arrivals is None or not isinstance(exponent, (int, float)) or exponent <= 0:
        return ()

    def change(counts: Tensor) -> Tensor | None:
        return counts if bool((counts <= 1).all()) else None

    return (Data(arrivals.then(change, alike=arrivals.alike)),)


def chosen(call: Call) -> Sequence[Data]:
    """where(condition, x, y), one of the two zero: the other's spikes, or a constant where spikes say so."""
    if len(call.args) != 3 or call.kwargs:
        return ()
    condition, x, y = call.args
    if _is_nothing(call, x):
        found = _masked(call, condition, y, kept=False)
    else:
        found = _masked(call, condition, x, kept=True) if _is_nothing(call, y) else None
    return () if found is None else (Data(found),)


def filled(call: Call) -> Sequence[Data]:
    """x.masked_fill(mask, 0)."""
    value = call.argument(2, "value")
    if call.kwargs or not is_zero(value) or call.known.data(call.first) is None:
        return ()
    found = _masked(call, call.args[1], call.first, kept=False)
    return () if found is None else (Data(found),)


def _is_nothing(call: Call, x: Any) -> bool:
    return is_zero(x) and not (isinstance(x, Tensor) and call.known.data(x) is not None)


def _masked(call: Call, condition: Tensor, x: Any, *, kept: bool) -> Arrivals | None:
    """The spikes of x where a condition has the value `kept`; of a constant one, where it is not zero."""
    shape, data = call.results[0].shape, isinstance(x, Tensor) and call.known.data(x) is not None
    if data:
        arrivals = arrivals_of(x, call.known)
    elif call.known.data(condition) is None:
        return None
    else:
        used = torch.as_tensor(x, device=condition.device) != 0
        arrivals = Arrivals(lambda: used)
    if arrivals is None:
        return None
    mask = condition if kept else ~condition
    number = not isinstance(x, Tensor) or x.numel() == 1

    def change(counts: Tensor) -> Tensor:
        return torch.where(mask, counts.double(), 0.0).expand(shape)

    positive = data or (number and bool(x > 0))
    return arrivals.then(change, alike=arrivals.alike and positive)

"""Writes in place: the numbers of spikes are kept as they were, before torch overwrites them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neuroprune.synops.call import Call, arrivals_of
from neuroprune.synops.known import Arrivals, Data, Known, is_zero
from neuroprune.synops.names import ADDITIONS, WRITES


def before_writing(name: str, args: tuple[Any, ...], known: Known) -> Arrivals | None:
    """The numbers of spikes of a tensor that a function is about to write to; None where nobody will ask."""
    if name not in WRITES or not args or not isinstance(args[0], Tensor):
        return None
    marks = [known.of(a) if isinstance(a, Tensor) else None for a in args]
    if not any(isinstance(m, Data) and not m.analog for m in marks):
        return None
    if name in ADDITIONS and all(m is None or (isinstance(m, Data) and m.arrivals is None) for m in marks):
        return None  # numbers of spikes stay such
    arrivals = arrivals_of(args[0], known, binary=name not in ("__setitem__", "copy_"))
    counts = None if arrivals is None else arrivals.counts()
    if arrivals is None or counts is None:
        return Arrivals(lambda: None)
    copy = counts.clone()
    return Arrivals(lambda: copy, pooled=arrivals.pooled, alike=arrivals.alike)


def written(call: Call) -> Sequence[Data]:
    """x[index] = values, or x.copy_(values)."""
    item = call.name == "__setitem__"
    values = call.args[2] if item else call.args[1]
    target, given = call.known.data(call.first), call.known.data(values)
    if call.before is None:
        return ()
    arrivals = call.arrivals(values) if isinstance(values, Tensor) else None
    if is_zero(values) and not isinstance(values, Tensor):
        arrivals = call.before.then(lambda c: torch.zeros((), dtype=c.dtype, device=c.device))
    if arrivals is None or (target is None and given is None):
        return ()
    before, after = call.before.counts(), arrivals.counts()
    if before is None or after is None:
        return ()
    if item:
        before[call.args[1]] = after.to(before.dtype)
    else:
        before.copy_(after)
    return (Data(Arrivals(lambda: before, pooled=call.before.pooled or arrivals.pooled, alike=False)),)

"""What functions do to spikes: where they go, and which constants multiply them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuroprune.synops import choices
from neuroprune.synops.call import Call
from neuroprune.synops.known import Arrivals, Data, is_zero
from neuroprune.synops.names import ADDITIONS, DIVISIONS, MULTIPLICATIONS, SUBTRACTIONS
from neuroprune.synops.pools import ADAPTIVE, FIXED, window_sums
from neuroprune.synops.writing import written

Rule = Callable[[Call], Sequence[Data]]


def _kept(call: Call) -> Sequence[Data]:
    """Values stay as they are."""
    mark = call.known.data(call.first)
    if mark is None or (mark.arrivals is not None and not call.results[0].is_floating_point()):
        return ()
    return (mark,)


def _moved(call: Call) -> Sequence[Data]:
    """Values stay as they are, each in another place."""
    mark = call.known.data(call.first)
    if mark is None or mark.arrivals is None:
        return () if mark is None else (mark,) * len(call.results)
    one = len(call.results) == 1
    return [
        Data(mark.arrivals.then((lambda c: _only(call.on(c))) if one else lambda c, i=i: call.on(c)[i]))  # type: ignore[misc]
        for i in range(len(call.results))
    ]


def _only(result: Any) -> Any:
    return result if isinstance(result, Tensor) else result[0]


def _reshaped(call: Call) -> Sequence[Data]:
    """Values stay as they are, in the same order, in another shape."""
    mark = call.known.data(call.first)
    if mark is None or mark.arrivals is None:
        return () if mark is None else (mark,)
    shape = call.results[0].shape
    return (Data(mark.arrivals.then(lambda c: c.reshape(shape))),)


def _joined(call: Call) -> Sequence[Data]:
    """Several tensors, put together."""
    parts = list(call.first)
    marks = [call.known.data(p) for p in parts]
    if all(m is not None and m.is_spikes for m in marks):
        return (Data(is_spikes=True, most=_most(marks, max)),)
    if not any(m is not None and m.arrivals is not None for m in marks):
        return ()
    return _together(call, parts, lambda counts: call.on(_one_type(counts)))


def _most(marks: Sequence[Data | None], of: Callable[[list[int]], int]) -> int:
    """The largest value of spikes that are joined or added; 0 where that of one is unknown."""
    each = [m.most for m in marks if m is not None]
    return of(each) if all(each) else 0


def _together(call: Call, parts: list[Any], change: Callable[[list[Tensor]], Tensor]) -> Sequence[Data]:
    found = [call.arrivals(p) for p in parts]
    if any(a is None for a in found):
        return ()
    arrivals = [a for a in found if a is not None]

    def find() -> Tensor | None:
        counts = [c for a in arrivals if (c := a.counts()) is not None]
        return change(counts) if len(counts) == len(arrivals) else None

    return (Data(Arrivals(find, pooled=any(a.pooled for a in arrivals), alike=False)),)


def _one_type(counts: list[Tensor]) -> list[Tensor]:
    return [c.double() for c in counts] if len({c.dtype for c in counts}) > 1 else counts


def _scaled(call: Call) -> Sequence[Data]:
    """Spikes times a constant, or times spikes."""
    x, factor = call.args[0], call.argument(1, "other")
    if call.known.data(x) is None and call.name in MULTIPLICATIONS:
        x, factor = factor, x
    shape = call.results[0].shape
    if call.known.data(factor) is not None:
        marks = [call.known.data(v) for v in (x, factor)]
        if call.name not in MULTIPLICATIONS or all(m is None or m.arrivals is None for m in marks):
            return ()
        if any(m is not None and m.arrivals is not None and m.arrivals.pooled for m in marks):
            return ()  # a mean of spikes is a number that the other is multiplied by, and none of both is a constant
        return _together(call, [x, factor], lambda counts: counts[0].double() * counts[1])
    arrivals = call.arrivals(x, binary=True)
    if arrivals is None or call.kwargs.keys() - {"other"}:
        return ()
    number = factor.numel() == 1 if isinstance(factor, Tensor) else isinstance(factor, (int, float))

    def change(counts: Tensor) -> Tensor:
        if isinstance(factor, Tensor):
            return (counts * (factor != 0)).expand(shape)
        return counts if factor else counts * 0

    return (Data(arrivals.then(change, alike=arrivals.alike and number and bool(factor > 0))),)


def _negated(call: Call) -> Sequence[Data]:
    """Spikes times −1."""
    arrivals = call.arrivals(call.first, binary=True)
    return () if arrivals is None else (Data(arrivals.then(lambda counts: counts, alike=False)),)


def _added(call: Call) -> Sequence[Data]:
    """A sum of spikes; a constant beside them makes it something else."""
    if call.kwargs.keys() - {"other"} or len(call.args) < 1:
        return ()
    x, y = call.args[0], call.argument(1, "other")
    before = None if call.before is None else Data(call.before)  # what x was
    marks = [before or call.known.data(x), call.known.data(y)]
    for mine, other in ((marks[0], y), (marks[1], x)):
        if mine is not None and _is_number(other) and is_zero(other):
            return (mine,)
    if all(m is not None and m.is_spikes for m in marks):
        return (Data(is_spikes=True, most=_most(marks, sum)),)
    if not any(m is not None and m.arrivals is not None for m in marks):
        return ()
    return _together(call, [x, y], lambda counts: counts[0].double() + counts[1])


def _subtracted(call: Call) -> Sequence[Data]:
    """A difference of spikes: those of both, times constants of either sign."""
    if call.kwargs.keys() - {"other", "alpha"} or not call.args:
        return ()
    x, y = call.args[0], call.argument(1, "other")
    if call.before is None and _is_number(y) and is_zero(y) and (mark := call.known.data(x)) is not None:
        return (mark,)
    return _together(call, [x, y], lambda counts: counts[0].double() + counts[1])


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) or (isinstance(x, Tensor) and x.numel() == 1)


def _summed(call: Call) -> Sequence[Data]:
    """A sum over axes, or a mean."""
    mark = call.known.data(call.first)
    mean = call.name == "mean"
    if mark is None or (not mean and mark.arrivals is None):
        return () if mark is None else (mark,)
    arrivals = call.arrivals(call.first)
    if arrivals is None:
        return ()
    rest = {k: v for k, v in call.kwargs.items() if k not in ("dtype", "input")}
    x = arrivals.then(
        lambda c: torch.sum(c.double(), *call.args[1:], **rest), pooled=mean or arrivals.pooled, alike=False
    )
    return (Data(x),)


def _pooled(call: Call) -> Sequence[Data]:
    """An average pool: each spike is delivered to every window that holds it."""
    arrivals = call.arrivals(call.first)
    if arrivals is None:
        return ()
    shape = call.results[0].shape
    options = {**dict(zip(_POOL_OPTIONS, call.args[1:], strict=False)), **call.kwargs}
    options.pop("input", None)
    return (Data(arrivals.then(lambda c: window_sums(call.name, c, options, shape), pooled=True, alike=False)),)


def _largest(call: Call) -> Sequence[Data]:
    """A max-pool, or a rectifier: of values of several constants, the spikes of the one that is passed on."""
    mark = call.known.data(call.first)
    if mark is None or len(call.results) != 1:
        return ()
    if mark.arrivals is None:
        return (mark,)
    if mark.arrivals.alike:
        return (Data(mark.arrivals.then(call.on)),)
    values = Arrivals.valued(call.first)

    def passed(counts: Tensor) -> Tensor | None:
        x = values.counts()
        if x is None:
            return None
        if "pool" not in call.name:
            return counts * (x > 0)
        axes = int(call.name[-2])
        _, places = getattr(F, call.name)(x, *call.args[1:], **{**call.kwargs, "return_indices": True})
        return counts.flatten(-axes).gather(-1, places.flatten(-axes)).reshape(places.shape)

    # Overwritten in place, the values are gone.
    return (Data(mark.arrivals.then(passed)),) if call.name[-1] != "_" else ()


def _dropped(call: Call) -> Sequence[Data]:
    """Dropout: in evaluation nothing, in training all survivors times a constant."""
    if not call.argument(2, "training", default=True):
        return _kept(call)
    arrivals = call.arrivals(call.first, binary=True)
    if arrivals is None:
        return ()
    before, after = Arrivals.valued(call.first), Arrivals.valued(call.results[0])

    def change(counts: Tensor) -> Tensor | None:
        x, left = before.counts(), after.counts()
        return None if x is None or left is None else counts * ((left != 0) | (x == 0))

    return (Data(arrivals.then(change)),)


def _padded(call: Call) -> Sequence[Data]:
    """Zeros around, or copies of what is inside."""
    mode, value = call.argument(2, "mode", "constant"), call.argument(3, "value")
    return _moved(call) if mode != "constant" or not value else ()


def _resized(call: Call) -> Sequence[Data]:
    """The nearest value."""
    return _moved(call) if str(call.argument(3, "mode", "nearest")).startswith("nearest") else ()


def _rules(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


_POOL_OPTIONS = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
#: By a function's name; it gives a mark for each result, or none where nothing is known but that they are data.
RULES: dict[str, Rule] = {
    **_rules(_kept, "clone", "contiguous", "detach", "detach_", "to", "float", "double", "half", "bfloat16", "type"),
    **_rules(_kept, "cpu", "cuda", "data", "requires_grad_", "type_as", "alias", "positive"),
    **_rules(_reshaped, "reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"),
    **_rules(_moved, "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "adjoint"),
    **_rules(_moved, "expand", "broadcast_to", "repeat", "repeat_interleave", "tile", "roll", "flip", "unfold"),
    **_rules(_moved, "__getitem__", "select", "narrow", "unbind", "split", "chunk", "tensor_split", "index_select"),
    **_rules(_moved, "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "diagonal", "rot90", "split_with_sizes"),
    **_rules(_padded, "pad"),
    **_rules(_resized, "interpolate"),
    **_rules(_joined, "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack"),
    **_rules(_scaled, *MULTIPLICATIONS, *DIVISIONS),
    **_rules(_negated, "neg", "neg_", "negative", "negative_", "__neg__"),
    **_rules(_added, *ADDITIONS),
    **_rules(_subtracted, *SUBTRACTIONS),
    **_rules(choices.powered, "pow", "pow_", "__pow__", "square", "square_", "sqrt", "sqrt_"),
    **_rules(choices.chosen, "where"),
    **_rules(choices.filled, "masked_fill"),
    **_rules(_summed, "sum", "mean"),
    **_rules(_pooled, *ADAPTIVE, *FIXED),
    **_rules(_largest, *(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)), "relu", "relu_"),
    **_rules(_dropped, "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"),
    **_rules(written, "__setitem__", "copy_"),
}

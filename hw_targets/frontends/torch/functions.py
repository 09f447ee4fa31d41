"""What torch's functions between layers do to marks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.torch import layers
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import ALL, Mark, Moment, State, Traced, accumulated, in_steps, merged, stacked

#: Operations that leave every value as it is; whether they did is checked on the example.
SAME = frozenset({"clone", "contiguous", "detach", "to", "float", "double", "data", "dropout"})
ADDITIONS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})
PRODUCTS = frozenset({"mul", "__mul__", "__rmul__", "multiply"})
#: Results that hold nothing of their arguments but shape and type.
CONSTANTS = frozenset({"zeros_like", "ones_like", "new_zeros", "new_ones", "full_like", "new_full"})
_RESHAPES = frozenset({"flatten", "reshape", "view", "unflatten", "squeeze", "unsqueeze"})
_DIVISIONS = frozenset({"div", "__truediv__", "true_divide"})


def short_name(func: Callable[..., Any]) -> str:
    """Short name of a torch function; of an attribute (`x.data`), the attribute's."""
    name: str = resolve_name(func) or getattr(func, "__name__", str(func))
    parts = name.split(".")
    return parts[-2] if parts[-1] == "__get__" and len(parts) > 1 else parts[-1]


def tensors_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """All tensors among a function's arguments, lists of tensors included."""
    flat = [item for a in (*args, *kwargs.values()) for item in (a if isinstance(a, (list, tuple)) else (a,))]
    return [a for a in flat if isinstance(a, Tensor)]


def apply(
    name: str, marks: list[Traced], args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor, layout: Layout
) -> Traced:
    """The mark of a function's result, computed from tensors that all carry signals.

    Args:
        name: short name of the function.
        marks: of the marked tensors among its arguments, in their order.
        args: its arguments.
        kwargs: likewise.
        result: what it returned.
        layout: where time and batch lie.

    Raises:
        UnsupportedModel: the function has no counterpart on the chip.
    """
    first, tensors, time_axis = marks[0], tensors_of(args, kwargs), layout.time_axis
    if name in SAME and result.shape == tensors[0].shape and torch.equal(result.to(tensors[0].dtype), tensors[0]):
        return first
    if not any(m.complement for m in marks):
        if name in ADDITIONS and not kwargs and (sum_ := _added(marks, args)) is not None:
            return sum_
        if name == "stack" and (whole := _stacked(marks, args, kwargs, time_axis)) is not None:
            return whole
        if name in ("mean", "sum") and first.moment == ALL and _is_over_time(args, kwargs, time_axis):
            return Traced(first.signal, Moment("mean" if name == "mean" else "sum", tensors[0].shape[time_axis]))
        if name in _DIVISIONS and first.moment.kind == "sum" and args[1:] == (first.moment.number,) and not kwargs:
            return Traced(first.signal, Moment("mean", first.moment.number))
        if name in ("rsub", "__rsub__", "sub") and _is_one_minus(name, args, kwargs):
            return Traced(first.signal, first.moment, complement=True)
        if name == "__getitem__" and first.moment == ALL and (step := _index(args[1], time_axis)) is not None:
            return Traced(first.signal, Moment("step", range(tensors[0].shape[time_axis])[step]))
        if name in _RESHAPES:
            output = layout.output(result, first.moment)
            if name == "flatten" and 0 in (*args[1:2], kwargs.get("start_dim")):
                output = output._replace(leads=(1,))  # time and batch became one axis, whatever its size
            return Traced(layers.reshaped(first.signal, output), first.moment)
    raise unsupported(name)


def unsupported(name: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"from_torch: the model applies torch's `{name}` between its layers, which has no counterpart on the chip;"
        " supported are addition, products of spikes (SEW AND, IAND), flatten and reshape, and the mean over time"
    )


def of_state(name: str, mark: State, args: tuple[Any, ...], kwargs: dict[str, Any], marks: list[Mark]) -> Mark:
    """A neuron's state may be kept, recorded in every step, and picked from the record again; nothing else.

    Raises:
        UnsupportedModel: the model computes with it.
    """
    if name in SAME:
        return mark
    states = [m for m in marks if isinstance(m, State)]
    if (
        name == "stack"
        and (args[1:], kwargs) in (((), {}), ((0,), {}), ((), {"dim": 0}))
        and len(args[0]) == len(states)
    ):
        whole = in_steps(states)
        if whole is not None:
            return whole
    if name == "__getitem__" and mark.steps and (step := _index(args[1], 0)) is not None:
        return replace(mark, call=range(mark.steps)[step], steps=0)
    raise UnsupportedModel(
        f"from_torch: the model computes with the state of {mark.neuron} (torch's `{name}`), but only spikes leave a"
        " neuron on the chip; use its spikes, or end in a linear layer without neurons"
    )


def _added(marks: list[Traced], args: tuple[Any, ...]) -> Traced | None:
    if len(marks) == 2 and len(args) == 2:
        running = accumulated(*marks)
        if running is not None:
            return running
        moment = merged(marks[0].moment, marks[1].moment)
        return Traced(signals.add(marks[0].signal, marks[1].signal), moment)
    # The start of a running sum, which may be a number or a tensor of zeros.
    zero = len(marks) == 1 and len(args) == 2 and any(_is_zero(a) for a in args)
    return marks[0] if zero and marks[0].moment.kind == "step" else None


def _is_zero(value: Any) -> bool:
    return not bool(value.any()) if isinstance(value, Tensor) else isinstance(value, (int, float)) and value == 0


def _stacked(marks: list[Traced], args: tuple[Any, ...], kwargs: dict[str, Any], time_axis: int) -> Traced | None:
    if (args[1:], kwargs) in (((), {}), ((0,), {}), ((), {"dim": 0})) and time_axis == 0 and len(args[0]) == len(marks):
        return stacked(marks)
    return None


def _is_over_time(args: tuple[Any, ...], kwargs: dict[str, Any], time_axis: int) -> bool:
    """Whether a reduction's only other argument, positional or called `dim`, is the axis of time."""
    if len(args) == 2 and not kwargs:
        axis = args[1]
    elif len(args) == 1 and set(kwargs) == {"dim"}:
        axis = kwargs["dim"]
    else:
        return False
    return isinstance(axis, int) and axis in (time_axis, args[0].dim() - 1 if time_axis == -1 else time_axis)


def _is_one_minus(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    one = args[0] if name == "sub" else args[-1]
    return not kwargs and len(args) == 2 and isinstance(one, (int, float)) and one == 1


def _index(index: Any, time_axis: int) -> int | None:
    """The step that an index picks, x[t] or, with time last, x[..., t]."""
    if time_axis == -1 and isinstance(index, tuple) and len(index) == 2 and index[0] is Ellipsis:
        index = index[1]
    elif time_axis == -1:
        return None
    return index if isinstance(index, int) and not isinstance(index, bool) else None

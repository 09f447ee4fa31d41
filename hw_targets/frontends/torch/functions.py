"""What torch's functions between layers do to marks: arithmetic, and what a model does to its scores at last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import resolve_name

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.maps import Floats
from hw_targets.frontends.torch import choosing, joining, matrices, shaping
from hw_targets.frontends.torch.axes import letters, plain, regrouped
from hw_targets.frontends.torch.calls import Call
from hw_targets.frontends.torch.layers import array
from hw_targets.frontends.torch.marks import ALL, Mark, Moment, Opaque, State, Traced, accumulated, in_steps, merged
from hw_targets.frontends.torch.refusals import unsupported
from hw_targets.frontends.torch.shaping import flattened

#: They turn a tensor into Python's own values, on which branches may depend.
READS = frozenset({"__bool__", "__float__", "__int__", "__index__", "item", "tolist"})
#: Operations that leave every value as it is; whether they did is checked on the example.
SAME = frozenset(
    {"clone", "contiguous", "detach", "to", "float", "double", "data", "dropout", "type", "type_as", "cpu"}
)
ADDITIONS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})
PRODUCTS = frozenset({"mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply", "multiply_"})
#: Results that hold nothing of their arguments but shape and type.
CONSTANTS = frozenset(
    {"zeros_like", "ones_like", "new_zeros", "new_ones", "full_like", "new_full", "empty_like", "new_empty"}
)
_SUBTRACTIONS = frozenset({"sub", "sub_", "__sub__", "__isub__", "subtract", "rsub", "__rsub__"})
_SCALINGS = PRODUCTS | {
    "div",
    "div_",
    "__truediv__",
    "__itruediv__",
    "true_divide",
    "neg",
    "__neg__",
}
#: What turns scores into others in the same order, or into the place of the largest.
_AT_LAST = frozenset({"softmax", "log_softmax", "sigmoid", "argmax"})


def short_name(func: Callable[..., Any]) -> str:
    """Short name of a torch function; of an attribute (`x.data`), the attribute's."""
    name: str = resolve_name(func) or getattr(func, "__name__", str(func))
    parts = name.split(".")
    return parts[-2] if parts[-1] == "__get__" and len(parts) > 1 else parts[-1]


def tensors_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """All tensors among a function's arguments, lists of tensors included."""
    flat = [item for a in (*args, *kwargs.values()) for item in (a if isinstance(a, (list, tuple)) else (a,))]
    return [a for a in flat if isinstance(a, Tensor)]


def apply(call: Call) -> Traced:
    """The mark of a function's result, computed from tensors that carry signals.

    Raises:
        UnsupportedModel: the function has no counterpart on the chip.
    """
    first, tensor = call.marks[0], call.tensors[0]
    if call.name in SAME and call.result.shape == tensor.shape and torch.equal(call.result.to(tensor.dtype), tensor):
        return first
    if any(m.after for m in call.marks):
        raise UnsupportedModel(
            f"from_torch: the model applies torch's `{call.name}` after `{first.after[-1] if first.after else ''}`,"
            " which does not exist on the chip; end the model there"
        )
    call = replace(call, carried=[(t, linear(m)) for t, m in call.carried])
    handler = _HANDLERS.get(call.name)
    if handler is not None and (made := handler(call)) is not None:
        return made
    raise unsupported(call)


def linear(mark: Traced) -> Traced:
    """1 − spikes as what it is besides: spikes times −1, and a bias."""
    if not mark.complement:
        return mark
    negative = _times(mark, np.full(1, -1.0)).signal
    return replace(mark, signal=signals.shifted(negative, np.ones(negative.shape[0])), complement=False)


def of_state(name: str, mark: State, args: tuple[Any, ...], kwargs: dict[str, Any], marks: list[Mark]) -> Mark:
    """A neuron's state may be kept, recorded in every step, and picked from the record again; nothing else."""
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
    if name == "__getitem__" and mark.steps and isinstance(args[1], int) and not isinstance(args[1], bool):
        return replace(mark, call=range(mark.steps)[args[1]], steps=0)
    return Opaque(
        f"from_torch: the model computes with the state of {mark.neuron} (torch's `{name}`), but only spikes leave a"
        " neuron on the chip; use its spikes, end in a linear layer without neurons, or return the last potential of"
        ' neurons that never reset (snnTorch: reset_mechanism="none")',
        is_state=True,
    )


def _operands(call: Call) -> tuple[Any, Any, float] | None:
    """a, b and alpha of a + alpha·b; None where there is anything else."""
    given = [*call.args, *([call.kwargs["other"]] if "other" in call.kwargs else [])]
    if len(given) != 2 or call.kwargs.keys() - {"other", "alpha"}:
        return None
    return given[0], given[1], float(call.kwargs.get("alpha", 1))


def _added(call: Call) -> Traced | None:
    operands = _operands(call)
    if operands is None:
        return None
    left, right, alpha = operands
    if len(call.marks) == 2:
        running = accumulated(*call.marks) if alpha == 1 else None
        if running is not None:
            return running
        return _sum(call.mark_of(left), _times(call.mark_of(right), np.full(1, alpha)), call)
    # The start of a running sum, which may be a number or a tensor of zeros.
    if call.marks[0].moment.kind == "step" and alpha == 1 and any(_is_zero(a) for a in (left, right)):
        return call.marks[0]
    if call.carries(left):
        return _shifted(call, call.marks[0], alpha * right)
    return _shifted(call, _times(call.marks[0], np.full(1, alpha)), left)


def _subtracted(call: Call) -> Traced | None:
    operands = _operands(call)
    if operands is None:
        return None
    minuend, subtrahend, alpha = operands
    if call.name in ("rsub", "__rsub__"):
        minuend, subtrahend = subtrahend, minuend
    negative = np.full(1, -alpha)
    if len(call.marks) == 2:
        left, right = call.mark_of(minuend), call.mark_of(subtrahend)
        return _sum(left, _times(right, negative), call)
    mark = call.marks[0]
    if call.carries(minuend):
        return _shifted(call, mark, -alpha * subtrahend)
    if isinstance(minuend, (int, float)) and minuend == 1 and alpha == 1:
        return replace(mark, complement=True)
    return _shifted(call, _times(mark, negative), minuend)


def _rectified(call: Call) -> Traced | None:
    """relu, abs and clamp from below leave what is never negative as it is."""
    mark, name = call.marks[0], call.name.removesuffix("_")
    if name == "clamp" and (call.argument(2, "max") is not None or (call.argument(1, "min") or 0) > 0):
        return None
    if name == "clamp_min" and call.argument(1, "min") > 0:
        return None
    return mark if signals.is_never_negative(mark.signal) else None


def _sum(left: Traced, right: Traced, call: Call) -> Traced:
    if left.signal.shape != right.signal.shape:
        left, right = flattened(left, call.layout), flattened(right, call.layout)
        shape = tuple(max(n, m) for n, m in zip(left.signal.shape, right.signal.shape, strict=False))
        left, right = (replace(m, signal=signals.spread(m.signal, shape)) for m in (left, right))
    sizes = call.layout.sizes(left.signal.shape)
    a, b = (plain(m.axes, sizes) for m in (left, right))
    longer = left if len(a) > len(b) or (len(a) == len(b) and left.moment == ALL) else right
    # Axes are aligned at their ends; one without time may meet one with it.
    if any(x not in ("", y) and y for x, y in zip(a[::-1], b[::-1], strict=False)):
        raise UnsupportedModel(f"adds tensors laid out as {left.axes} and {right.axes}; give them the same axes")
    moment = merged(left.moment, right.moment)
    return replace(longer, signal=signals.add(left.signal, right.signal), moment=moment)


def _is_zero(value: Any) -> bool:
    return not bool(value.any()) if isinstance(value, Tensor) else isinstance(value, (int, float)) and value == 0


def _scaled(call: Call) -> Traced | None:
    if call.name in ("neg", "__neg__"):
        return _times(call.marks[0], np.full(1, -1.0))
    operands = _operands(call)
    if operands is None or len(call.marks) != 1:
        return None
    mark, factor = call.marks[0], operands[1] if call.carries(operands[0]) else operands[0]
    if "div" in call.name and not call.carries(operands[0]):
        return None
    if "div" in call.name and mark.moment.kind == "sum" and factor == mark.moment.number:
        return replace(mark, moment=Moment("mean", mark.moment.number))
    numbers = _constant(call, mark, factor)
    return _times(mark, 1.0 / numbers if "div" in call.name else numbers)


def _times(mark: Traced, factor: Floats) -> Traced:
    if (factor == 1.0).all():
        return mark  # spikes stay spikes, and share what comes after with those that they are added to
    gain = factor.repeat(mark.signal.shape[0]) if len(factor) == 1 else factor
    return replace(mark, signal=signals.scale(mark.signal, gain))


def _shifted(call: Call, mark: Traced, shift: Any) -> Traced:
    """The signal plus a constant, which is a bias of the neurons it drives."""
    numbers = _constant(call, mark, shift)
    if not numbers.any():
        return mark
    if mark.moment.kind == "sum":
        raise UnsupportedModel("adds a constant to a sum over steps, once; take the mean, or sum up after it")
    bias = numbers.repeat(mark.signal.shape[0]) if len(numbers) == 1 else numbers
    return replace(mark, signal=signals.shifted(mark.signal, bias))


def _constant(call: Call, mark: Traced, value: Any) -> Floats:
    """A constant as one number, one for each channel, or one for each neuron.

    Raises:
        UnsupportedModel: it differs between steps or samples.
    """
    if not isinstance(value, Tensor):
        return np.full(1, float(value))
    if value.numel() == 1:
        return array(value).reshape(1)
    source, order = call.tensors[0], letters(mark.signal.shape)
    whole = value + torch.zeros(source.shape, dtype=value.dtype, device=value.device)
    if whole.dim() != len(mark.axes) or regrouped(mark.axes, call.layout.sizes(mark.signal.shape), whole.shape) is None:
        raise _uneven(call, mark, value)
    own = [i for i, held in enumerate(mark.axes) if held and set(held) <= set(order)]
    own.sort(key=lambda i: order.index(mark.axes[i][0]))
    if "".join(mark.axes[i] for i in own) not in (order, order.replace("H", "")):
        raise _uneven(call, mark, value)
    others = [i for i in range(whole.dim()) if i not in own]
    numbers = array(whole.permute(*others, *own)).reshape(-1, *[int(whole.shape[i]) for i in own])
    if not (numbers == numbers[:1]).all():
        raise UnsupportedModel(
            f"applies torch's `{call.name}` with numbers that differ from step to step or from sample to sample, which"
            " no weight does; use one for all"
        )
    each = numbers[0].reshape(mark.signal.shape[0], -1)
    return np.asarray(each[:, 0] if (each == each[:, :1]).all() else each.reshape(-1))


def _uneven(call: Call, mark: Traced, value: Tensor) -> UnsupportedModel:
    return UnsupportedModel(
        f"applies torch's `{call.name}` with constants of shape {tuple(value.shape)} to a sample of shape"
        f" {mark.signal.shape} that they widen or do not line up with; use one number, one for each channel, of shape"
        " (C, 1, 1), or one for each neuron, of the sample's shape"
    )


def _at_last(call: Call) -> Traced:
    return replace(call.marks[0], after=(*call.marks[0].after, call.name))


_HANDLERS: Mapping[str, Callable[[Call], Traced | None]] = {
    **dict.fromkeys(ADDITIONS, _added),
    **dict.fromkeys(_SUBTRACTIONS, _subtracted),
    **dict.fromkeys(_SCALINGS, _scaled),
    **dict.fromkeys(_AT_LAST, _at_last),
    **dict.fromkeys(("relu", "relu_", "abs", "abs_", "absolute", "clamp", "clamp_", "clamp_min"), _rectified),
    **matrices.HANDLERS,
    **shaping.HANDLERS,
    **choosing.HANDLERS,
    **joining.HANDLERS,
}

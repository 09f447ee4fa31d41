"""Products with a constant matrix that are written as torch's functions: `x @ w`, `torch.addmm`, `torch.einsum`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.torch import mixing
from hw_targets.frontends.torch.calls import Call
from hw_targets.frontends.torch.layers import array
from hw_targets.frontends.torch.marks import Traced
from hw_targets.frontends.torch.shaping import flattened

_PLAIN = ("matmul", "__matmul__", "__rmatmul__", "mm", "spmm")  # torch.mm calls itself spmm


def _multiplied(call: Call) -> Traced | None:
    """x @ w on the last axis, w @ x on the last but one."""
    left, right = call.args[:2] if call.name != "__rmatmul__" else call.args[1::-1]
    return _product(call, left, right)


def _product(call: Call, left: Tensor, right: Tensor) -> Traced | None:
    first = call.carries(left)
    data, matrix = (left, right) if first else (right, left)
    if len(call.marks) != 1 or matrix.dim() != 2 or data.dim() < 2:
        return None
    return _along(call, data, data.dim() - (1 if first else 2), matrix.t() if first else matrix)


def _multiplied_and_added(call: Call) -> Traced | None:
    """torch.addmm(c, x, w) = c + x @ w, c one number for each output."""
    if len(call.args) != 3 or call.kwargs or call.carries(call.args[0]):
        return None
    shift, left, right = call.args
    made = _product(call, left, right)
    if made is None or not call.carries(left) or shift.dim() != 1 or len(made.signal.shape) != 1:
        return None
    return replace(made, signal=signals.shifted(made.signal, array(shift)))


def _summed_by_letters(call: Call) -> Traced | None:
    """torch.einsum of a tensor and a matrix, one letter of which takes the place of the other."""
    equation, operands = call.args[0], list(call.args[1:])
    if len(operands) != 2 or len(call.marks) != 1 or not isinstance(equation, str) or "->" not in equation:
        return None
    names, result = equation.replace(" ", "").split("->")
    places = dict(zip((0, 1), names.split(","), strict=False))
    at = 0 if call.carries(operands[0]) else 1
    data, by, matrix = places[at], places[1 - at], operands[1 - at]
    before, _, after = data.partition("...")
    if len(by) != 2 or "..." in by or ("..." in data) != ("..." in result):
        return None
    for old, new in ((by[0], by[1]), (by[1], by[0])):
        if old in data and new not in data and data.replace(old, new) == result:
            axis = before.index(old) if old in before else after.index(old) - len(after)
            rows = matrix if by == new + old else matrix.t()
            return _along(call, operands[at], axis % operands[at].dim(), rows)
    return None


def _along(call: Call, data: Tensor, place: int, rows: Tensor) -> Traced | None:
    """A matrix (new, old) along one axis of a sample.

    Raises:
        UnsupportedModel: along another axis.
    """
    mark = flattened(call.mark_of(data), call.layout)
    held = mark.axes[place]
    if held not in ("C", "H", "W", "F"):
        raise UnsupportedModel(
            f"applies torch's `{call.name}` along an axis that holds more, or something else, than the channels, rows,"
            " columns or features of a sample; flatten the sample, or leave its axes in their order"
        )
    return replace(mark, signal=mixing.mixed(mark.signal, held, array(rows)))


HANDLERS: Mapping[str, Callable[[Call], Traced | None]] = {
    **dict.fromkeys(_PLAIN, _multiplied),
    "addmm": _multiplied_and_added,
    "einsum": _summed_by_letters,
}

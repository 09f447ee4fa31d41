"""What laying tensors out anew does to marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from torch import nn

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.torch.axes import plain, regrouped
from hw_targets.frontends.torch.calls import Call
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import Traced
from hw_targets.ir.network import Dense, Shape


def _reshaped(call: Call) -> Traced:
    return reshaped(call.marks[0], call.layout, tuple(call.result.shape))


def _flattened(call: Call) -> Traced:
    dims, mark = call.tensors[0].dim(), call.marks[0]
    start, end = (int(call.argument(i, key, d)) % dims for i, key, d in ((1, "start_dim", 0), (2, "end_dim", -1)))
    return replace(mark, axes=(*mark.axes[:start], "".join(mark.axes[start : end + 1]), *mark.axes[end + 1 :]))


def through_flatten(mark: Traced, module: nn.Module, layout: Layout, new: Shape) -> Traced:
    """What `nn.Flatten`, or one that leaves time alone, does; the last axes become one."""
    if isinstance(module, nn.Flatten) and module.end_dim == -1 and not layout.time_last:
        merged = len(new) - 1
        return replace(mark, axes=(*mark.axes[:merged], "".join(mark.axes[merged:])))
    return reshaped(mark, layout, new)


def reshaped(mark: Traced, layout: Layout, new: Shape) -> Traced:
    """A tensor in other sizes, its values in the same order.

    Raises:
        UnsupportedModel: an axis would hold a part of one that was there before.
    """
    shape = mark.signal.shape
    axes = regrouped(mark.axes, layout.sizes(shape), new)
    if axes is not None:
        return replace(mark, axes=axes)
    # Features laid out as a grid, of a linear layer or of neurons in a list: their order stays.
    grid = (new[-3], new[-2], new[-1]) if len(new) >= 3 else ()
    signal = mark.signal
    if len(shape) == 1 and grid and (signal.is_spikes or all(isinstance(t.via, Dense) for t in signal.terms)):
        terms = tuple(t if t.via is not None else replace(t, source_shape=grid) for t in signal.terms)
        sized = replace(signal, shape=grid, terms=terms)
        lead = regrouped(tuple(a for a in mark.axes if a != "F"), layout.sizes(grid), new[:-3])
        if int(np.prod(grid)) == shape[0] and mark.axes[-1] == "F" and lead is not None:
            return replace(mark, signal=sized, axes=(*lead, "C", "H", "W"))
    raise UnsupportedModel(
        f"from_torch: the model reshapes {shape} to {new} between its layers; axes may be flattened, and time and batch"
        " put together, but none may be divided"
    )


def squeezed(call: Call) -> Traced:
    mark, gone = call.marks[0], call.dims(1)
    if gone is None:
        gone = list(range(call.tensors[0].dim()))
    sizes = call.tensors[0].shape
    return replace(mark, axes=tuple(a for i, a in enumerate(mark.axes) if not (i in gone and sizes[i] == 1)))


def _unsqueezed(call: Call) -> Traced:
    axes, place = list(call.marks[0].axes), int(call.argument(1, "dim"))
    axes.insert(place % call.result.dim(), "")
    return replace(call.marks[0], axes=tuple(axes))


def _permuted(call: Call) -> Traced | None:
    mark, tensor = call.marks[0], call.tensors[0]
    places = list(range(tensor.dim()))
    if call.name == "permute":
        found = call.dims(1, "dims")
        assert found is not None
        places = found
    elif call.name in ("movedim", "moveaxis"):
        if not (isinstance(call.args[1], int) and isinstance(call.args[2], int)):
            return None
        places.insert(call.args[2] % tensor.dim(), places.pop(call.args[1] % tensor.dim()))
    else:
        first, second = (-2, -1) if call.name == "mT" else (0, 1) if call.name in ("t", "T") else call.args[1:3]
        if call.name == "T" and tensor.dim() != 2:
            return None
        places[first], places[second] = places[second], places[first]
    return replace(mark, axes=tuple(mark.axes[i] for i in places))


def flattened(mark: Traced, layout: Layout) -> Traced:
    """With features as its signal, where one axis holds all of a sample."""
    shape, sizes = mark.signal.shape, layout.sizes(mark.signal.shape)
    own = [i for i, held in enumerate(mark.axes) if set(held) & set("CHW")]
    if len(shape) == 1 or len(own) != 1 or plain((mark.axes[own[0]],), sizes) != plain(("CHW",), sizes):
        return mark
    axes = tuple("F" if i == own[0] else held for i, held in enumerate(mark.axes))
    return replace(mark, signal=signals.flatten(mark.signal), axes=axes)


HANDLERS: Mapping[str, Callable[[Call], Traced | None]] = {
    "flatten": _flattened,
    **dict.fromkeys(("reshape", "view", "unflatten", "reshape_as", "view_as"), _reshaped),
    "squeeze": squeezed,
    "unsqueeze": _unsqueezed,
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT"), _permuted),
}

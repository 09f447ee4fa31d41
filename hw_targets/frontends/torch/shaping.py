"""What reshaping, choosing, repeating, joining and reducing tensors does to marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.maps import Floats, Grid, Ints
from hw_targets.frontends.signals import Signal
from hw_targets.frontends.torch.axes import Axes, letters, plain, regrouped
from hw_targets.frontends.torch.calls import Call
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import ALL, EVERY, Moment, Traced, are_repeats, are_steps
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


def _indexed(call: Call) -> Traced | None:
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    return indexed(call.marks[0], call.layout, tuple(call.tensors[0].shape), index)


def _selected(call: Call) -> Traced | None:
    """x.select(dim, i) and x.narrow(dim, start, length)."""
    dims = call.dims(1) if call.name == "select" and "dim" in call.kwargs else [int(call.args[1])]
    if not dims or len(call.args) + len(call.kwargs) < 3:
        return None
    place = dims[0] % call.tensors[0].dim()
    start = int(call.argument(2, "index" if call.name == "select" else "start"))
    item = start if call.name == "select" else slice(start, start + int(call.argument(3, "length")))
    index = (*[slice(None)] * place, item)
    return indexed(call.marks[0], call.layout, tuple(call.tensors[0].shape), index)


def indexed(mark: Traced, layout: Layout, sizes: Shape, index: tuple[Any, ...]) -> Traced | None:
    """x[index]: a step, channels, rows or columns; None for anything else."""
    taken = sum(i is not None and i is not Ellipsis for i in index)
    missing = len(sizes) - taken
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    place, axes = 0, list[str]()
    for item in index:
        if item is None:
            axes.append("")
            continue
        if item is Ellipsis:
            axes += mark.axes[place : place + missing]
            place += missing
            continue
        picked = _picked(item, sizes[place])
        if picked is None:
            return None
        held, keeps = mark.axes[place], not isinstance(item, int)
        if len(picked) < sizes[place] or not keeps or (picked != np.arange(sizes[place])).any():
            chosen = _choose(mark, layout, held, picked)
            if chosen is None:
                return None
            mark = chosen
            held = "" if held in ("T", "") and mark.moment != ALL else held
        if keeps:
            axes.append(held)
        place += 1
    return replace(mark, axes=tuple(axes))


def _picked(item: Any, size: int) -> Ints | None:
    if isinstance(item, bool) or not isinstance(item, (int, slice)):
        return None
    picked: Ints = np.atleast_1d(np.arange(size)[item])
    return picked


def _choose(mark: Traced, layout: Layout, held: str, picked: Ints) -> Traced | None:
    """Some indices of an axis that holds one letter."""
    if held == "T" or (not held and mark.moment == ALL and layout.steps == 1):
        return replace(mark, moment=Moment("step", int(picked[0]))) if len(picked) == 1 else None
    if not held:
        return mark
    if len(held) != 1 or held == "N":
        return None
    return replace(mark, signal=_mixed(mark.signal, held, np.eye(_size(mark.signal, held))[picked], picked))


def _size(signal: Signal, letter: str) -> int:
    return signal.shape[letters(signal.shape).index(letter)]


def _mixed(signal: Signal, letter: str, mixing: Floats, picked: Ints | None = None) -> Signal:
    """One axis of a sample, multiplied by a matrix (new, old); of channels where `picked` chooses them."""
    if letter in "CF":
        return signals.chosen(signal, np.arange(len(mixing)) if picked is None else picked)
    return signals.regridded(signal, Grid(rows=mixing) if letter == "H" else Grid(columns=mixing))


def _repeated(call: Call) -> Traced | None:
    """A copy along an axis: of what never changes over time, or of channels, rows or columns."""
    mark, old, new = call.marks[0], tuple(call.tensors[0].shape), tuple(call.result.shape)
    interleaved = call.name == "repeat_interleave"
    if interleaved and not (isinstance(call.argument(1, "repeats"), int) and call.argument(2, "dim") is not None):
        return None
    added = len(new) - len(old)
    axes = ["" for _ in range(added)] + list(mark.axes)
    for place, (before, after) in enumerate(zip((*[1] * added, *old), new, strict=True)):
        if before == after:
            continue
        held = axes[place]
        if held in ("", "N") and mark.moment == EVERY and call.layout.steps in (0, after // before):
            axes[place] = f"{held}T" if interleaved else f"T{held}"
            mark = replace(mark, moment=ALL)
        elif len(axes[place]) == 1 and axes[place] in letters(mark.signal.shape):
            copies = np.arange(before).repeat(after // before) if interleaved else np.arange(after) % before
            mark = replace(mark, signal=_mixed(mark.signal, axes[place], np.eye(before)[copies], copies))
        else:
            return None
    return replace(mark, axes=tuple(axes))


def _stacked(call: Call) -> Traced | None:
    marks, place = call.marks, int(call.argument(1, "dim", 0)) % call.result.dim()
    if len(marks) != len(call.args[0]) or any(m.axes != marks[0].axes for m in marks):
        return None
    if not (are_steps(marks) or (are_repeats(marks) and call.layout.steps in (0, len(marks)))):
        return None
    axes = list(marks[0].axes)
    axes.insert(place, "T")
    return replace(marks[0], moment=ALL, axes=tuple(axes))


def _concatenated(call: Call) -> Traced | None:
    marks, place = call.marks, int(call.argument(1, "dim", 0)) % call.result.dim()
    if len(marks) != len(call.args[0]) or any(len(m.axes) != len(marks[0].axes) for m in marks):
        return None
    held = marks[0].axes[place]
    repeats = are_repeats(marks) and call.layout.steps in (0, len(marks))
    if not held and call.tensors[0].shape[place] == 1 and (are_steps(marks) or repeats):
        axes = list(marks[0].axes)
        axes[place] = "T"
        return replace(marks[0], moment=ALL, axes=tuple(axes))
    if held == "N" and repeats:
        axes = list(marks[0].axes)
        axes[place] = "TN"
        return replace(marks[0], moment=ALL, axes=tuple(axes))
    flat = [flattened(m, call.layout) for m in marks]
    held = flat[0].axes[place]
    if held not in ("C", "F") or any(m.axes[place] != held for m in flat):
        return None
    moment = flat[0].moment
    for other in flat[1:]:
        if other.moment != moment:
            raise UnsupportedModel(f"concatenates {moment} with {other.moment}; only what belongs to one step may meet")
    return replace(flat[0], signal=signals.concatenated([m.signal for m in flat]))


def flattened(mark: Traced, layout: Layout) -> Traced:
    """With features as its signal, where one axis holds all of a sample."""
    shape, sizes = mark.signal.shape, layout.sizes(mark.signal.shape)
    own = [i for i, held in enumerate(mark.axes) if set(held) & set("CHW")]
    if len(shape) == 1 or len(own) != 1 or plain((mark.axes[own[0]],), sizes) != plain(("CHW",), sizes):
        return mark
    axes = tuple("F" if i == own[0] else held for i, held in enumerate(mark.axes))
    return replace(mark, signal=signals.flatten(mark.signal), axes=axes)


def _reduced(call: Call) -> Traced | None:
    """The sum or mean over time, over channels' positions, or both."""
    mark, over = call.marks[0], call.dims(1)
    if over is None or set(call.kwargs) - {"dim", "keepdim", "axis"}:
        return None
    keep = bool(call.argument(2, "keepdim", default=False)) if "keepdim" in call.kwargs or len(call.args) > 2 else False
    for place in over:
        reduced = _without(mark, call, mark.axes[place])
        if reduced is None:
            return None
        mark = reduced
    left = (held.replace("T", "") for held in mark.axes)
    axes: Axes = tuple(held for i, held in enumerate(left) if keep or i not in over)
    return replace(mark, axes=axes)


def _without(mark: Traced, call: Call, held: str) -> Traced | None:
    steps = call.layout.steps
    for letter in held:
        if letter == "T":
            mark = replace(mark, moment=Moment("mean" if call.name == "mean" else "sum", steps))
        elif letter in "HW":
            size = _size(mark.signal, letter)
            mixing = np.full((1, size), 1.0 / size if call.name == "mean" else 1.0)
            mark = replace(mark, signal=_mixed(mark.signal, letter, mixing))
        else:
            return None
    return mark


HANDLERS: Mapping[str, Callable[[Call], Traced | None]] = {
    "flatten": _flattened,
    **dict.fromkeys(("reshape", "view", "unflatten", "reshape_as", "view_as"), _reshaped),
    "squeeze": squeezed,
    "unsqueeze": _unsqueezed,
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT"), _permuted),
    "__getitem__": _indexed,
    **dict.fromkeys(("select", "narrow"), _selected),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to", "repeat", "tile", "repeat_interleave"), _repeated),
    "stack": _stacked,
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenated),
    **dict.fromkeys(("mean", "sum"), _reduced),
}

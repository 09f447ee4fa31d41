"""What choosing, turning and padding places of tensors does to marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.maps import Ints
from hw_targets.frontends.torch import layers, mixing
from hw_targets.frontends.torch.calls import Call
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import ALL, Moment, Traced
from hw_targets.frontends.torch.shaping import flattened
from hw_targets.ir.network import Shape


def _indexed(call: Call) -> Traced | None:
    if len(call.marks) > 1:
        return None
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    return _of_sample(call, index)


def _of_sample(call: Call, index: tuple[Any, ...]) -> Traced | None:
    """x[index], of a flattened sample as of its features."""
    mark, sizes = call.marks[0], tuple(call.tensors[0].shape)
    found = indexed(mark, call.layout, sizes, index)
    return indexed(flattened(mark, call.layout), call.layout, sizes, index) if found is None else found


def _selected(call: Call) -> Traced | None:
    """x.select(dim, i), x.narrow(dim, start, length) and x.index_select(dim, places)."""
    dims = call.dims(1) if "dim" in call.kwargs else [int(call.args[1])]
    if not dims or len(call.args) + len(call.kwargs) < 3 or len(call.marks) > 1:
        return None
    place = dims[0] % call.tensors[0].dim()
    item = call.argument(2, {"select": "index", "narrow": "start"}.get(call.name, "index"))
    if call.name == "narrow":
        item = slice(int(item), int(item) + int(call.argument(3, "length")))
    return _of_sample(call, (*[slice(None)] * place, item))


def indexed(mark: Traced, layout: Layout, sizes: Shape, index: tuple[Any, ...]) -> Traced | None:
    """x[index]: a step, or channels, rows or columns by numbers, slices or one list; None for anything else."""
    whole = [int(i) if isinstance(i, Tensor) and not i.dim() and i.dtype != torch.bool else i for i in index]
    lists = [i for i in whole if isinstance(i, (list, np.ndarray, Tensor))]
    if lists and (len(lists) > 1 or any(isinstance(i, int) for i in whole)):
        return None
    missing = len(sizes) - sum(i is not None and i is not Ellipsis for i in whole)
    if not any(i is Ellipsis for i in whole):
        whole.append(Ellipsis)
    place, axes = 0, list[str]()
    for item in whole:
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
    if isinstance(item, bool):
        return None
    if not isinstance(item, (int, slice)):
        item = np.asarray(item.detach().cpu() if isinstance(item, Tensor) else item)
        if item.ndim != 1 or item.dtype.kind not in "iub":
            return None
    picked: Ints = np.atleast_1d(np.arange(size)[item])
    return picked


def _choose(mark: Traced, layout: Layout, held: str, picked: Ints) -> Traced | None:
    """Some indices of an axis that holds one letter."""
    if held == "T" or (not held and mark.moment == ALL and layout.steps == 1):
        return replace(mark, moment=Moment("step", int(picked[0]))) if len(picked) == 1 else None
    if not held:
        return mark if len(picked) == 1 else None
    if len(held) != 1 or held == "N":
        return None
    return replace(mark, signal=mixing.chosen(mark.signal, held, picked))


def _turned(call: Call) -> Traced | None:
    """x.flip(dims) and x.roll(shifts, dims)."""
    over, mark = call.dims(2 if call.name == "roll" else 1, "dims"), flattened(call.marks[0], call.layout)
    if over is None or any(len(mark.axes[place]) != 1 or mark.axes[place] in "TN" for place in over):
        return None
    given = call.argument(1, "shifts") if call.name == "roll" else 0
    shifts = given if isinstance(given, (tuple, list)) else [given] * len(over)
    for place, shift in zip(over, shifts, strict=True):
        places = np.arange(mixing.size(mark.signal, mark.axes[place]))
        places = np.roll(places, int(shift)) if call.name == "roll" else places[::-1].copy()
        mark = replace(mark, signal=mixing.chosen(mark.signal, mark.axes[place], places))
    return mark


def _shuffled(call: Call) -> Traced | None:
    """F.channel_shuffle(x, groups), whose channels are axis 1."""
    mark, groups = call.marks[0], int(call.argument(1, "groups"))
    if mark.axes[1] != "C":
        return None
    places = np.arange(mark.signal.shape[0]).reshape(groups, -1).T.reshape(-1)
    return replace(mark, signal=mixing.chosen(mark.signal, "C", places))


def _padded(call: Call) -> Traced | None:
    """F.pad: zeros around channels, rows, columns or features; copies of what is there around rows and columns."""
    mark, mode = flattened(call.marks[0], call.layout), call.argument(2, "mode", "constant")
    given = [int(p) for p in call.argument(1, "pad")]
    value, sides = call.argument(3, "value") or 0.0, list(zip(given[::2], given[1::2], strict=True))
    if mode == "constant" and value:
        raise UnsupportedModel(f"pads with {value:g}, but there is nothing around a layer's neurons; pad with zeros")
    for place, (before, after) in zip(range(len(mark.axes) - 1, -1, -1), sides, strict=False):
        held = mark.axes[place]
        if before == after == 0:
            continue
        if held not in ("C", "H", "W", "F"):
            raise UnsupportedModel(
                f"pads by {tuple(given)}, which adds steps or samples, but a sample has the steps that it has; pad"
                " channels, rows or columns, and give the model the steps that it is to run"
            )
        if mode == "constant":
            signal = mixing.padded(mark.signal, held, before, after)
        elif held in "HW":
            around = [(before, after) if axis == held else (0, 0) for axis in "HW"]
            signal = layers.padded(mark.signal, around, mode)
        else:
            raise UnsupportedModel(f"pads features by mode {mode!r}; pad them with zeros, or choose them by a list")
        mark = replace(mark, signal=signal)
    return mark


HANDLERS: Mapping[str, Callable[[Call], Traced | None]] = {
    "__getitem__": _indexed,
    **dict.fromkeys(("select", "narrow", "index_select"), _selected),
    **dict.fromkeys(("flip", "roll"), _turned),
    "channel_shuffle": _shuffled,
    "pad": _padded,
}

"""What repeating, joining and reducing tensors does to marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.torch import mixing
from hw_targets.frontends.torch.axes import Axes, letters
from hw_targets.frontends.torch.calls import Call
from hw_targets.frontends.torch.marks import ALL, EVERY, Moment, Traced, are_repeats, are_steps
from hw_targets.frontends.torch.shaping import flattened


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
            mark = replace(mark, signal=mixing.chosen(mark.signal, axes[place], copies))
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
    marks, parts = call.marks, call.args[0]
    place = _joined_along(call)
    if place is None or any(len(m.axes) != len(marks[0].axes) for m in marks):
        return None
    if len(marks) == len(parts):
        held = marks[0].axes[place]
        repeats = are_repeats(marks) and call.layout.steps in (0, len(marks))
        steps = not held and call.tensors[0].shape[place] == 1 and (are_steps(marks) or repeats)
        if steps or (held == "N" and repeats):
            axes = list(marks[0].axes)
            axes[place] = "T" if steps else "TN"
            return replace(marks[0], moment=ALL, axes=tuple(axes))
    return _side_by_side(call, place)


def _joined_along(call: Call) -> int | None:
    """The axis along which a function joins tensors; None where it adds one to them."""
    least = {"hstack": 1, "vstack": 0, "dstack": 2}.get(call.name)
    if least is None:
        return int(call.argument(1, "dim", 0)) % call.result.dim()
    return least if call.tensors[0].dim() > max(1, least) else None


def _side_by_side(call: Call, place: int) -> Traced | None:
    """Tensors joined along an axis of a sample; those that carry nothing are zeros."""
    flat = [flattened(call.mark_of(t), call.layout) if call.carries(t) else None for t in call.args[0]]
    marks = [m for m in flat if m is not None]
    held = marks[0].axes[place]
    if held not in ("C", "H", "W", "F") or any(m.axes[place] != held for m in marks):
        return None
    for other in marks[1:]:
        if other.moment != marks[0].moment:
            raise UnsupportedModel(
                f"concatenates {marks[0].moment} with {other.moment}; only what belongs to one step may meet"
            )
    if any(bool(t.any()) for t, m in zip(call.args[0], flat, strict=True) if m is None):
        raise UnsupportedModel("concatenates spikes with constants; add these after the next layer, as its bias")
    sizes = [int(t.shape[place]) for t in call.args[0]]
    parts = [None if m is None else m.signal for m in flat]
    return replace(marks[0], signal=mixing.joined(parts, sizes, held))


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
    left = (held.replace("T", "") if i in over else held for i, held in enumerate(mark.axes))
    axes: Axes = tuple(held for i, held in enumerate(left) if keep or i not in over)
    return replace(mark, axes=axes)


def _without(mark: Traced, call: Call, held: str) -> Traced | None:
    steps = call.layout.steps
    for letter in held:
        if letter == "T":
            mark = replace(mark, moment=Moment("mean" if call.name == "mean" else "sum", steps))
        elif letter == "N":
            return None
        else:
            size = mixing.size(mark.signal, letter)
            row = np.full((1, size), 1.0 / size if call.name == "mean" else 1.0)
            mark = replace(mark, signal=mixing.mixed(mark.signal, letter, row))
    return mark


HANDLERS: Mapping[str, Callable[[Call], Traced | None]] = {
    **dict.fromkeys(("expand", "expand_as", "broadcast_to", "repeat", "tile", "repeat_interleave"), _repeated),
    "stack": _stacked,
    **dict.fromkeys(("cat", "concat", "concatenate", "hstack", "vstack", "dstack"), _concatenated),
    **dict.fromkeys(("mean", "sum"), _reduced),
}

"""Layers and neurons where they stand in a model: what they see of a sample's axes, and what they leave of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.torch.axes import Axes, letters, of_sample, plain
from hw_targets.frontends.torch.functional import Function
from hw_targets.frontends.torch.layers import Kind, Output
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import ALL, EVERY, Moment, Traced
from hw_targets.frontends.torch.shaping import flattened

_OWN = frozenset("CHWF")


@dataclass(frozen=True)
class Sites:
    """For one layout of time and batch."""

    layout: Layout

    def through(self, mark: Traced, tensor: Tensor, kind: Kind | Function, module: Any, result: Tensor) -> Traced:
        """What a layer makes of a signal.

        Raises:
            UnsupportedModel: it does not see a sample's axes where it expects them, or has no counterpart on the chip.
        """
        mark = self._along_features(flattened(mark, self.layout), kind.axes)
        sizes = self._without_time(tuple(result.shape), mark)
        self._check_axes(mark, tensor, kind.axes, _is_channelwise(kind, module))
        signal = kind.handler(module, mark.signal, Output(sizes, kind.axes))
        if mark.moment.kind == "sum" and signal.bias is not None:
            raise UnsupportedModel("adds its bias to a sum over steps, once; take the mean, or sum up after it")
        return replace(mark, signal=signal, axes=self._axes_after(mark, signal.shape, kind.axes))

    def driving(self, mark: Traced, tensor: Tensor, time_axis: int | None) -> Traced:
        """A current as neurons take it, whose axis of time is `time_axis`, or who take one step.

        Raises:
            UnsupportedModel: the steps of the input are gone, or not where these neurons expect them.
        """
        mark = flattened(mark, self.layout)
        layout = self.layout
        if time_axis is not None and layout.steps <= 1 and mark.moment == EVERY:
            mark = replace(mark, moment=ALL)
        if time_axis is None and mark.moment == ALL and layout.steps == 1:
            mark = replace(mark, moment=Moment("step", 0))
        sizes = layout.sizes(mark.signal.shape) if layout.steps else {**layout.sizes(mark.signal.shape), "T": 1}
        axes = plain(mark.axes, sizes)
        own = "".join(held for held in axes if set(held) <= _OWN)
        order = "".join(name for name in letters(mark.signal.shape) if sizes[name] != 1)
        whole = mark.moment == ALL
        at = (axes[0] if time_axis == 0 else axes[-1]) if whole else ""
        fits = own == order and (time_axis is not None) == whole and not mark.moment.is_reduced
        batch = axes[1] if whole and time_axis == 0 else axes[0]
        if not fits or (whole and at != ("T" if sizes["T"] != 1 else "")) or set(batch) - {"N"} - _OWN:
            raise UnsupportedModel(_not_driven(mark, tensor, time_axis))
        return mark

    def _along_features(self, mark: Traced, axes: int) -> Traced:
        """Features as one channel, where a layer along one axis takes them as (N, 1, F)."""
        laid = mark.axes[:-1] if self.layout.time_last and mark.moment == ALL else mark.axes
        if axes != 1 or len(mark.signal.shape) != 1 or laid[-2:] != ("", "F"):
            return mark
        grid = signals.laid_out(mark.signal, (1, 1, mark.signal.shape[0]))
        return replace(mark, signal=grid, axes=(*laid[:-2], "C", "W", *mark.axes[len(laid) :]))

    def _without_time(self, sizes: tuple[int, ...], mark: Traced) -> tuple[int, ...]:
        return sizes[:-1] if self.layout.time_last and mark.moment == ALL else sizes

    def _check_axes(self, mark: Traced, tensor: Tensor, axes: int, channelwise: bool) -> None:
        shape, sizes = mark.signal.shape, self.layout.sizes(mark.signal.shape)
        laid = mark.axes[:-1] if self.layout.time_last and mark.moment == ALL else mark.axes
        if axes:
            fits = len(laid) > axes and plain(laid[-1 - axes :], sizes) == plain(of_sample(shape, axes + 1), sizes)
            fits = fits and len(shape) == 3
        elif channelwise:
            last = plain(laid[-1:], sizes)
            fits = last == plain(("F",) if len(shape) == 1 else ("C",), sizes)
            fits = fits and (len(shape) == 1 or sizes["C"] != 1)
        else:
            return
        if not fits:
            own = "".join(name for held in plain(laid, sizes) for name in held if name in _OWN)
            if own != "".join(name for name in letters(shape) if sizes[name] != 1):
                raise UnsupportedModel(
                    f"takes an input of shape {tuple(tensor.shape)}, in which a sample's axes {shape} were"
                    " transposed or permuted; leave them in the order (C, H, W)"
                )
            raise UnsupportedModel(
                f"takes an input of shape {tuple(tensor.shape)}, whose samples are of shape {shape}; "
                + (
                    "flatten it first (nn.Flatten)"
                    if not axes
                    else f"it works along {axes} axes, so lay features out as channels and positions first"
                    " (nn.Unflatten), or use nn.Linear"
                )
            )

    def _axes_after(self, mark: Traced, shape: tuple[int, ...], axes: int) -> Axes:
        if not axes:
            return mark.axes
        last = self.layout.time_last and mark.moment == ALL
        laid = mark.axes[:-1] if last else mark.axes
        return (*laid[: -1 - axes], *of_sample(shape, axes + 1), *(["T"] if last else []))


def _not_driven(mark: Traced, tensor: Tensor, time_axis: int | None) -> str:
    """Why neurons cannot take a tensor as their current."""
    seen, whole = f"sees an input of shape {tuple(tensor.shape)}", mark.moment == ALL
    if time_axis is None and whole:
        return (
            f"{seen}, which holds all steps, but takes one step a call and would take them for samples; let it take all"
            " of them (SpikingJelly: functional.set_step_mode(model, 'm')), or loop over them in forward"
        )
    if mark.moment.is_reduced or not whole:
        return f"{seen}, without the time steps of the model's input; take the mean over time after the last neurons"
    expected = "time last, as (N, C, H, W, T)" if time_axis == -1 else "time first, as (T, N, C, H, W)"
    return f"{seen}, whose axes were permuted, and would take another one for time or channels; give it {expected}"


def _is_channelwise(kind: Kind | Function, module: Any) -> bool:
    """Whether a layer works on the last axis, as a linear one does."""
    return kind.axes == 0 and getattr(module, "weight", None) is not None and module.weight.dim() == 2

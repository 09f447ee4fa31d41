"""Layers that are called as functions (`F.avg_pool2d`): their arguments as a module's attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from hw_targets.frontends.signals import Signal
from hw_targets.frontends.torch import layers
from hw_targets.frontends.torch.layers import Output


class Function(NamedTuple):
    """What it does to a signal, along how many axes, and its arguments after the input with their defaults."""

    handler: Callable[[Any, Signal, Output], Signal]
    axes: int
    defaults: Mapping[str, Any]


_POOL = {"kernel_size": None, "stride": None, "padding": 0}
_AVERAGE = {**_POOL, "ceil_mode": False, "count_include_pad": True}
_MAX = {**_POOL, "dilation": 1, "ceil_mode": False, "return_indices": False}
_CONV = {"weight": None, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_TRANSPOSED = {
    "weight": None,
    "bias": None,
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "groups": 1,
    "dilation": 1,
}
_NORM = {
    "running_mean": None,
    "running_var": None,
    "weight": None,
    "bias": None,
    "training": False,
    "momentum": 0.1,
    "eps": 1e-5,
}
_INTERPOLATE = {"size": None, "scale_factor": None, "mode": "nearest"}

FUNCTIONS: Mapping[str, Function] = {
    "conv1d": Function(layers.convolution, 1, _CONV),
    "conv2d": Function(layers.convolution, 2, _CONV),
    "conv_transpose1d": Function(layers.transposed, 1, _TRANSPOSED),
    "conv_transpose2d": Function(layers.transposed, 2, _TRANSPOSED),
    "linear": Function(layers.linear, 0, {"weight": None, "bias": None}),
    "batch_norm": Function(layers.batch_norm, 0, _NORM),
    "avg_pool1d": Function(layers.average_pool, 1, _AVERAGE),
    "avg_pool2d": Function(layers.average_pool, 2, {**_AVERAGE, "divisor_override": None}),
    "adaptive_avg_pool1d": Function(layers.adaptive_average_pool, 1, {"output_size": None}),
    "adaptive_avg_pool2d": Function(layers.adaptive_average_pool, 2, {"output_size": None}),
    "interpolate": Function(layers.upsampled, 2, _INTERPOLATE),
}
MAX_POOLS: Mapping[str, Function] = {
    "max_pool1d": Function(layers.any_spike, 1, _MAX),
    "max_pool2d": Function(layers.any_spike, 2, _MAX),
}
WEIGHTED = frozenset({"conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear"})


def as_module(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The attributes that a module of its kind has, from the arguments of a call (its input first)."""
    given = dict(zip(function.defaults, args[1:], strict=False)) | {k: v for k, v in kwargs.items() if k != "input"}
    return SimpleNamespace(**{"padding_mode": "zeros", **function.defaults, **given})

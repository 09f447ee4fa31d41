"""What torch's layers do to signals, one function per kind of layer: (module, signal, its output) → signal.

A signal along one axis, (C, L), is kept as (C, 1, L), and a one-dimensional layer as a two-dimensional one of height 1.
A functional call (`F.avg_pool2d`) goes the same way, its arguments as a module's attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.maps import AvgPool, Floats, Grid
from hw_targets.frontends.signals import Signal
from hw_targets.frontends.torch.per_neuron import spread
from hw_targets.ir.network import Conv2d, Dense, Op, Pair, Shape
from hw_targets.ir.transposed import transposed_convolution


class Output(NamedTuple):
    """Sizes of a layer's output without its axis of time, where that comes last, and along how many axes it works."""

    sizes: Shape
    axes: int

    @property
    def grid(self) -> Shape:
        """(C, H, W), or (C, 1, L) of a layer along one axis."""
        return self.sizes[-3:] if self.axes == 2 else (self.sizes[-2], 1, self.sizes[-1])


def unchanged(_module: Any, signal: Signal, _output: Output) -> Signal:
    return signal


def refuse(module: nn.Module) -> Signal:
    raise UnsupportedModel(
        f"is a {type(module).__name__} with a forward of its own, so it may compute anything; use the plain layer"
    )


def convolution(module: Any, signal: Signal, output: Output) -> Signal:
    """With zero padding, or, where it pads with values of the grid itself, on a grid padded before."""
    if module.padding_mode == "zeros":
        return signals.conv(signal, _convolution(module), optional(module.bias), output.grid)
    signal = padded(signal, padding(module, _kernel(module).shape[2:]), module.padding_mode)
    return signals.conv(signal, _convolution(module, ((0, 0), (0, 0))), optional(module.bias), output.grid)


def _kernel(module: Any) -> Floats:
    """(out, in/groups, kH, kW), of height 1 for a layer along one axis."""
    weight = array(module.weight)
    return weight.reshape(*weight.shape[:2], *[1] * (4 - weight.ndim), *weight.shape[2:])


def _convolution(module: Any, sides: Sequence[Pair] | None = None) -> Conv2d:
    kernel = _kernel(module)
    sides = padding(module, kernel.shape[2:]) if sides is None else sides
    return padded_convolution(kernel, pair(module.stride, 1), sides, pair(module.dilation, 1), module.groups)


def padded_convolution(kernel: Floats, stride: Pair, sides: Sequence[Pair], dilation: Pair, groups: int) -> Conv2d:
    """A convolution with a padding of its own on each side: zeros on the kernel make the two of an axis equal.

    n + 2·max(a, b) − (k + |a − b|) = n + a + b − k, and zeros before the taps shift them by as many.
    """
    uneven = [before != after for before, after in sides]
    if any(uneven):
        spread = [d if u else 1 for d, u in zip(dilation, uneven, strict=True)]
        size = [(k - 1) * d + 1 for k, d in zip(kernel.shape[2:], spread, strict=True)]
        wide = np.zeros((*kernel.shape[:2], *size))
        wide[:, :, :: spread[0], :: spread[1]] = kernel
        around = [(max(a, b) - a, max(a, b) - b) for a, b in sides]
        kernel = np.pad(wide, ((0, 0), (0, 0), *around))
        dilation = (1 if uneven[0] else dilation[0], 1 if uneven[1] else dilation[1])
    return Conv2d(kernel, stride, (max(sides[0]), max(sides[1])), dilation, groups)


def padded(signal: Signal, sides: Sequence[Pair], mode: str) -> Signal:
    """Values of the grid itself around it ("circular", "reflect", "replicate"), or zeros ("constant")."""
    numpy_mode = {"circular": "wrap", "replicate": "edge", "reflect": "reflect"}.get(mode)
    mixing: list[Floats | None] = []
    for size, side in zip(signal.shape[1:], sides, strict=True):
        if side == (0, 0):
            mixing.append(None)
            continue
        before, after = (max(0, p) for p in side)
        if numpy_mode is None:
            rows = np.pad(np.eye(size), ((before, after), (0, 0)))
        else:
            rows = np.eye(size)[np.pad(np.arange(size), (before, after), mode=numpy_mode)]  # type: ignore[call-overload]
        mixing.append(rows[max(0, -side[0]) : len(rows) - max(0, -side[1])])
    return signals.regridded(signal, Grid(None, *mixing))


def transposed(module: Any, signal: Signal, output: Output) -> Signal:
    kernel = _kernel(module)
    sides = padding(module, kernel.shape[2:])
    numbers = {
        "stride": pair(module.stride, 1),
        "padding": (sides[0][0], sides[1][0]),
        "dilation": pair(module.dilation, 1),
    }

    def op(source: Shape) -> Op:
        return transposed_convolution(kernel, source, output.grid, groups=module.groups, **numbers)

    return signals.linear_map(signal, op, optional(module.bias), output.grid)


def linear(module: Any, signal: Signal, _output: Output) -> Signal:
    """On features; on the channels of a grid it is a 1×1 convolution."""
    weight, bias = array(module.weight), optional(module.bias)
    if len(signal.shape) == 1:
        return signals.dense(signal, weight, bias)
    return signals.conv(signal, Conv2d(weight[:, :, None, None]), bias, (len(weight), *signal.shape[1:]))


def batch_norm(module: Any, signal: Signal, _output: Output) -> Signal:
    """y = (x − mean)/√(var + ε)·γ + β, folded into what comes before."""
    if module.running_mean is None:
        raise UnsupportedModel("keeps no running statistics (track_running_stats=False), so it cannot be folded")
    gain = 1.0 / np.sqrt(array(module.running_var) + module.eps)
    if module.weight is not None:
        gain = gain * array(module.weight)
    shift = -array(module.running_mean) * gain
    if module.bias is not None:
        shift = shift + array(module.bias)
    if len(gain) != signal.shape[0]:
        raise UnsupportedModel(f"normalises {len(gain)} channels of a signal of shape {signal.shape}")
    return signals.scale(signal, gain, shift)


def average_pool(module: Any, signal: Signal, output: Output) -> Signal:
    """Means over windows; a window that is cut short by the border is divided by what torch divides it by."""
    kernel, stride, around = window(module, output.axes)
    divisor = getattr(module, "divisor_override", None)
    plain = divisor is not None or module.count_include_pad or not any(around)
    size = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(signal.shape[1:], around, kernel, stride, strict=True)]
    if plain and tuple(size) == output.grid[1:]:
        return signals.average_pool(signal, AvgPool(kernel, stride, around, divisor), output.grid)
    sides = zip(signal.shape[1:], output.grid[1:], kernel, stride, around, strict=True)
    mixing = [_window_means(*side, inside=module.count_include_pad is False) for side in sides]
    scale = 1.0
    if divisor is not None:
        mixing = [(m != 0).astype(np.float64) for m in mixing]
        scale = 1.0 / divisor
    return signals.regridded(signal, Grid(None, mixing[0] * scale, mixing[1]))


def _window_means(size: int, windows: int, kernel: int, stride: int, around: int, *, inside: bool) -> Floats:
    """(windows, size): each over the positions it holds, of the padded input or only of the input (`inside`)."""
    result = np.zeros((windows, size))
    for i in range(windows):
        start = i * stride - around
        end = min(start + kernel, size + around)
        low, high = max(start, 0), min(end, size)
        result[i, low:high] = 1.0 / ((high - low) if inside else (end - start))
    return result


def adaptive_average_pool(_module: Any, signal: Signal, output: Output) -> Signal:
    """Means over the windows ⌊i·n/m⌋ … ⌈(i + 1)·n/m⌉."""
    shape = output.grid
    if not any(n % m for n, m in zip(signal.shape[1:], shape[1:], strict=True)):
        kernel = (signal.shape[1] // shape[1], signal.shape[2] // shape[2])
        return signals.average_pool(signal, AvgPool(kernel, kernel), shape)
    mixing = []
    for n, m in zip(signal.shape[1:], shape[1:], strict=True):
        rows = np.zeros((m, n))
        for i in range(m):
            low, high = i * n // m, -(-(i + 1) * n // m)
            rows[i, low:high] = 1.0 / (high - low)
        mixing.append(rows)
    return signals.regridded(signal, Grid(None, *mixing))


def upsampled(module: Any, signal: Signal, output: Output) -> Signal:
    """Every position repeated: y[i] = x[⌊i·n/m⌋]."""
    if module.mode != "nearest":
        raise UnsupportedModel(f"interpolates ({module.mode}); use mode='nearest', which repeats spikes as they are")
    sides = zip(signal.shape[1:], output.grid[1:], strict=True)
    scales = module.scale_factor
    mixing = []
    for (n, m), scale in zip(sides, pair(scales, 1) if scales is not None else (None, None), strict=True):
        ratio = n / m if scale is None or n * scale != m else 1.0 / scale
        mixing.append(np.eye(n)[np.minimum((np.arange(m) * ratio).astype(int), n - 1)])
    return signals.regridded(signal, Grid(None, *mixing))


def zero_pad(module: Any, signal: Signal, output: Output) -> Signal:
    """Zeros around a grid, or, with negative numbers, less of it."""
    given = tuple(int(p) for p in module.padding)
    if getattr(module, "value", 0.0) not in (0, None) or (len(given) > 2 and output.axes == 1):
        raise UnsupportedModel("pads with something other than zeros; use zeros")
    columns, rows = given[:2], given[2:4] or (0, 0)
    return padded(signal, ((rows[0], rows[1]), (columns[0], columns[1])), "constant")


def any_spike(module: Any, signal: Signal, output: Output) -> Signal:
    """The number of spikes in each window of a max-pool."""
    channels, shape = signal.shape[0], output.grid
    kernel, stride, around = window(module, output.axes)
    dilation = pair(module.dilation, 1)
    sides = []
    for n, m, k, s, p, d in zip(signal.shape[1:], shape[1:], kernel, stride, around, dilation, strict=True):
        # ceil_mode: the last window reaches over the border.
        sides.append((p, max(p, (m - 1) * s + d * (k - 1) + 1 - n - p)))
    ones = np.ones((channels, 1, *kernel))
    return signals.conv(signal, padded_convolution(ones, stride, sides, dilation, channels), None, shape)


class Kind(NamedTuple):
    """A kind of layer: what it does to a signal, and along how many axes it works (0: each value by itself)."""

    module: type[nn.Module]
    handler: Callable[[Any, Signal, Output], Signal]
    axes: int


#: The first kind a module is an instance of decides. Max-pools need neurons, so they have no function here.
LAYERS: tuple[Kind, ...] = (
    Kind(nn.Conv1d, convolution, 1),
    Kind(nn.Conv2d, convolution, 2),
    Kind(nn.ConvTranspose1d, transposed, 1),
    Kind(nn.ConvTranspose2d, transposed, 2),
    Kind(nn.Linear, linear, 0),
    Kind(_BatchNorm, batch_norm, 0),
    Kind(nn.AvgPool1d, average_pool, 1),
    Kind(nn.AvgPool2d, average_pool, 2),
    Kind(nn.AdaptiveAvgPool1d, adaptive_average_pool, 1),
    Kind(nn.AdaptiveAvgPool2d, adaptive_average_pool, 2),
    Kind(nn.ZeroPad1d, zero_pad, 1),
    Kind(nn.ZeroPad2d, zero_pad, 2),
    Kind(nn.Upsample, upsampled, 2),
    Kind(nn.Identity, unchanged, 0),
    Kind(nn.Dropout, unchanged, 0),
    Kind(nn.Dropout1d, unchanged, 0),
    Kind(nn.Dropout2d, unchanged, 0),
)
MAX_POOLS = (Kind(nn.MaxPool1d, any_spike, 1), Kind(nn.MaxPool2d, any_spike, 2))
#: Layers that only lay a tensor out anew.
FLATTENS = (nn.Flatten, nn.Unflatten)
#: Layers with weights, which name a readout.
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)


def recurrent_op(feedback: nn.Module | Tensor, shape: Shape) -> Op:
    """The op by which neurons of `shape` hear their own spikes: a layer's, or one weight for each neuron's own.

    Raises:
        UnsupportedModel: a layer of another kind, or weights that differ between the positions of a channel.
    """
    if isinstance(feedback, nn.Linear):
        return Dense(array(feedback.weight))
    if isinstance(feedback, nn.Conv2d) and feedback.padding_mode == "zeros":
        return _convolution(feedback)
    if isinstance(feedback, nn.Module):
        raise UnsupportedModel(f"hears its own spikes through a {type(feedback).__name__}; use a Linear or Conv2d")
    own = spread(feedback, shape, "weight to itself").reshape(shape[0], -1)
    if len(shape) == 1:
        return Dense(np.diag(own[:, 0]))
    if (own == own[:, :1]).all():
        return Conv2d(own[:, :1].reshape(-1, 1, 1, 1), groups=shape[0])
    raise UnsupportedModel(
        f"hears its own spikes by weights that differ between the positions of a channel of {shape}; give each channel"
        " one, of shape (C, 1, 1)"
    )


def kind_of(module: nn.Module) -> Kind | None:
    """The kind of layer that a module is an instance of."""
    return next((kind for kind in (*LAYERS, *MAX_POOLS) if isinstance(module, kind.module)), None)


def is_plain(module: nn.Module, vouched: bool) -> bool:
    """Whether a layer computes what its torch class does, or its framework vouches that it does."""
    kinds = [*FLATTENS, *(kind.module for kind in (*LAYERS, *MAX_POOLS))]
    return vouched or any(isinstance(module, k) and _forward_of(module) is _base_forward(k, module) for k in kinds)


def _forward_of(module: nn.Module) -> Any:
    return type(module).forward


def _base_forward(kind: type[nn.Module], module: nn.Module) -> Any:
    """The forward of the torch class; batch-norms share one that none of them names."""
    bases = [c for c in type(module).__mro__ if issubclass(c, kind) and c.__module__.startswith("torch.nn.modules.")]
    return bases[0].forward if bases else kind.forward


def apply(module: nn.Module, vouched: bool, signal: Signal, output: Output) -> Signal:
    """What a layer does to a signal; `output` says what it returned.

    Raises:
        UnsupportedModel: it has no counterpart on the chip.
    """
    kind = kind_of(module)
    if kind is None or not is_plain(module, vouched):
        return refuse(module)
    return kind.handler(module, signal, output)


def padding(module: Any, taps: Sequence[int]) -> tuple[Pair, Pair]:
    """(before, after) of rows and of columns."""
    if module.padding == "valid":
        return ((0, 0), (0, 0))
    if module.padding == "same":
        spans = [d * (k - 1) for d, k in zip(pair(module.dilation, 1), taps, strict=True)]
        return ((spans[0] // 2, spans[0] - spans[0] // 2), (spans[1] // 2, spans[1] - spans[1] // 2))
    rows, columns = pair(module.padding, 0) if len(taps) == 2 else (0, 0)
    return ((rows, rows), (columns, columns))


def window(module: Any, axes: int) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding of a pool."""
    given = (module.kernel_size, module.kernel_size if module.stride is None else module.stride, module.padding)
    kernel, stride, around = ((v,) if axes == 1 and isinstance(v, int) else v for v in given)
    return pair(kernel, 1), pair(stride, 1), pair(around, 0)


def pair(value: Any, filler: int) -> tuple[Any, Any]:
    """Two numbers from one for both axes, one for each, or, of one axis, a tuple of one: then `filler` comes first."""
    if isinstance(value, (int, float)):
        return (value, value)
    return (filler, value[0]) if len(value) == 1 else (value[0], value[1])


def array(tensor: Any) -> Floats:
    """Its values in float64, copied; torch converts them, since numpy has no bfloat16."""
    copied: Floats = tensor.detach().to("cpu", torch.float64, copy=True).numpy()
    return copied


def optional(tensor: Any) -> Floats | None:
    return None if tensor is None else array(tensor)

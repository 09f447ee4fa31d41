"""What torch's layers do to signals, one function per kind of layer: (module, signal, its output's shape) → signal.

A signal along one axis, (C, L), is kept as (C, 1, L), and a one-dimensional layer as a two-dimensional one of height 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.signals import AvgPool, Floats, Signal
from hw_targets.frontends.torch.per_neuron import spread
from hw_targets.ir.network import Conv2d, Dense, Op, Pair, Shape
from hw_targets.ir.transposed import transposed_convolution


class Output(NamedTuple):
    """Sizes of a tensor, without a last axis of time, and how many axes may lead (time, batch), likeliest first."""

    shape: Shape
    leads: tuple[int, ...]


def unchanged(_module: nn.Module, signal: Signal, _output: Output) -> Signal:
    return signal


def flatten(_module: nn.Module, signal: Signal, output: Output) -> Signal:
    return reshaped(signal, output)


def refuse(module: nn.Module, _signal: Signal, _output: Output) -> Signal:
    raise UnsupportedModel(
        f"is a {type(module).__name__} with a forward of its own, so it may compute anything; use the plain layer"
    )


def convolution(module: Any, signal: Signal, output: Output) -> Signal:
    return signals.conv(signal, _convolution(module), optional(module.bias), grid_shape(module, output))


def _convolution(module: Any) -> Conv2d:
    if module.padding_mode != "zeros":
        raise UnsupportedModel(f"pads with {module.padding_mode}; only zero padding exists on the chip")
    weight = array(module.weight)
    kernel = weight.reshape(*weight.shape[:2], *[1] * (4 - weight.ndim), *weight.shape[2:])
    return Conv2d(kernel, pair(module.stride, 1), padding(module), pair(module.dilation, 1), module.groups)


def transposed(module: Any, signal: Signal, output: Output) -> Signal:
    weight, shape = array(module.weight), grid_shape(module, output)
    kernel = weight.reshape(*weight.shape[:2], *[1] * (4 - weight.ndim), *weight.shape[2:])
    numbers = {"stride": pair(module.stride, 1), "padding": padding(module), "dilation": pair(module.dilation, 1)}

    def op(source: Shape) -> Op:
        return transposed_convolution(kernel, source, shape, groups=module.groups, **numbers)

    return signals.linear_map(signal, op, optional(module.bias), shape)


def linear(module: nn.Linear, signal: Signal, _output: Output) -> Signal:
    if len(signal.shape) != 1:
        raise UnsupportedModel(f"takes an input of shape {signal.shape}; flatten it first")
    return signals.dense(signal, array(module.weight), optional(module.bias))


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
    return signals.scale(signal, gain, shift)


def average_pool(module: Any, signal: Signal, output: Output) -> Signal:
    shape = grid_shape(module, output)
    if isinstance(module, (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)):
        if any(n % m for n, m in zip(signal.shape[1:], shape[1:], strict=True)):
            raise UnsupportedModel(f"pools {signal.shape[1:]} to {shape[1:]} in windows of unequal size; use a divisor")
        kernel = (signal.shape[1] // shape[1], signal.shape[2] // shape[2])
        return signals.average_pool(signal, AvgPool(kernel, kernel), shape)
    kernel, stride, around = window(module)
    if getattr(module, "divisor_override", None) is not None or (any(around) and not module.count_include_pad):
        raise UnsupportedModel("divides by something other than its window's size; use the defaults of AvgPool2d")
    if (
        tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(signal.shape[1:], around, kernel, stride, strict=True))
        != (shape[1:])
    ):
        raise UnsupportedModel("average-pools with ceil_mode; use windows that tile the input")
    return signals.average_pool(signal, AvgPool(kernel, stride, around), shape)


def any_spike(module: Any, signal: Signal, output: Output) -> Signal:
    """The number of spikes in each window of a max-pool."""
    channels, shape = signal.shape[0], grid_shape(module, output)
    kernel, stride, around = window(module)
    op = Conv2d(np.ones((channels, 1, *kernel)), stride, around, pair(module.dilation, 1), channels)
    if op.output_shape(signal.shape) != shape:
        raise UnsupportedModel("max-pools with ceil_mode; use a kernel that tiles the input")
    return signals.conv(signal, op, None, shape)


#: The first kind a module is an instance of decides. Max-pools need neurons, so they have no function here.
LAYERS: tuple[tuple[type[nn.Module], Callable[[Any, Signal, Output], Signal]], ...] = (
    (nn.Conv1d, convolution),
    (nn.Conv2d, convolution),
    (nn.ConvTranspose1d, transposed),
    (nn.ConvTranspose2d, transposed),
    (nn.Linear, linear),
    (nn.BatchNorm1d, batch_norm),
    (nn.BatchNorm2d, batch_norm),
    (nn.BatchNorm3d, batch_norm),
    (nn.AvgPool1d, average_pool),
    (nn.AvgPool2d, average_pool),
    (nn.AdaptiveAvgPool1d, average_pool),
    (nn.AdaptiveAvgPool2d, average_pool),
    (nn.Identity, unchanged),
    (nn.Dropout, unchanged),
    (nn.Dropout1d, unchanged),
    (nn.Dropout2d, unchanged),
    (nn.Flatten, flatten),
)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)
#: Layers with weights, which name a readout.
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)


def recurrent_op(feedback: nn.Module | Tensor, shape: Shape) -> Op:
    """The op by which neurons of `shape` hear their own spikes: a layer's, or one weight for each neuron's own.

    Raises:
        UnsupportedModel: a layer of another kind, or weights that differ between the positions of a channel.
    """
    if isinstance(feedback, nn.Linear):
        return Dense(array(feedback.weight))
    if isinstance(feedback, nn.Conv2d):
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


def is_plain(module: nn.Module, vouched: bool) -> bool:
    """Whether a layer computes what its torch class does, or its framework vouches that it does."""
    kinds: list[type[nn.Module]] = [*MAX_POOLS, *(kind for kind, _ in LAYERS)]
    return vouched or any(isinstance(module, k) and type(module).forward is k.forward for k in kinds)


def apply(module: nn.Module, vouched: bool, signal: Signal, output: Output) -> Signal:
    """What a layer does to a signal; `output` says what it returned.

    Raises:
        UnsupportedModel: it has no counterpart on the chip.
    """
    if not is_plain(module, vouched):
        return refuse(module, signal, output)
    handler = next(handler for kind, handler in LAYERS if isinstance(module, kind))
    return handler(module, signal, output)


def reshaped(signal: Signal, output: Output) -> Signal:
    """A signal in another shape: only with other leading axes, or flattened.

    Raises:
        UnsupportedModel: it is something else.
    """
    sizes, flat = output.shape, signals.flatten(signal)
    # Where none of the likely numbers of leading axes fits, others may have been added, such as a batch of one.
    for lead in (*output.leads, *range(len(sizes))):
        if is_sample(sizes[lead:], signal.shape):
            return signal
        if sizes[lead:] == flat.shape:
            return flat
    raise UnsupportedModel(
        f"from_torch: the model reshapes {signal.shape} to {sizes} between its layers; only flattening (C, H, W) to"
        " features is supported"
    )


def is_sample(sizes: Shape, shape: Shape) -> bool:
    """Whether a tensor of these sizes holds a signal (C, H, W) or (F,), or one (C, 1, L) as (C, L)."""
    return sizes == shape or (len(shape) == 3 and shape[1] == 1 and sizes == (shape[0], shape[2]))


def grid_shape(module: nn.Module, output: Output) -> Shape:
    """(C, H, W) of a layer's output, (C, 1, L) for a one-dimensional layer."""
    if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.MaxPool1d)):
        return (output.shape[-2], 1, output.shape[-1])
    return output.shape[-3:]


def padding(module: Any) -> Pair:
    if module.padding == "valid":
        return (0, 0)
    if module.padding == "same":
        spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(span % 2 for span in spans):
            raise UnsupportedModel(f"pads 'same' with an even kernel {module.kernel_size}, unequally; use an odd one")
        return pair(tuple(span // 2 for span in spans), 0)
    return pair(module.padding, 0)


def window(module: Any) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding of a pool."""
    flat = isinstance(module, (nn.AvgPool1d, nn.MaxPool1d))
    kernel, stride, around = (
        (v,) if flat and isinstance(v, int) else v for v in (module.kernel_size, module.stride, module.padding)
    )
    return pair(kernel, 1), pair(stride, 1), pair(around, 0)


def pair(value: Any, filler: int) -> Pair:
    """Two numbers from one for both axes, one for each, or, of one axis, a tuple of one: then `filler` comes first."""
    if isinstance(value, int):
        return (value, value)
    return (filler, int(value[0])) if len(value) == 1 else (int(value[0]), int(value[1]))


def array(tensor: Any) -> Floats:
    # numpy has no bfloat16.
    return np.array(tensor.detach().cpu().double().numpy(), np.float64)


def optional(tensor: Any) -> Floats | None:
    return None if tensor is None else array(tensor)

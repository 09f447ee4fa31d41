"""What torch's layers do to signals, one function per kind of layer: (name, module, signal, its output) → signal."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from hw_targets import signals
from hw_targets.errors import UnsupportedModel
from hw_targets.signals import AvgPool, Floats, Signal


def unchanged(_name: str, _module: nn.Module, signal: Signal, _output: Tensor) -> Signal:
    return signal


def flatten(_name: str, _module: nn.Module, signal: Signal, output: Tensor) -> Signal:
    return reshaped(signal, output)


def refuse(_name: str, module: nn.Module, _signal: Signal, _output: Tensor) -> Signal:
    raise UnsupportedModel(
        f"is a {type(module).__name__} with a forward of its own, so it may compute anything; use the plain layer"
    )


def batch_norm(_name: str, module: Any, signal: Signal, _output: Tensor) -> Signal:
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


def average_pool(_name: str, module: Any, signal: Signal, output: Tensor) -> Signal:
    shape = tuple(output.shape[-3:])
    if isinstance(module, nn.AdaptiveAvgPool2d):
        if any(n % m for n, m in zip(signal.shape[1:], shape[1:], strict=True)):
            raise UnsupportedModel(f"pools {signal.shape[1:]} to {shape[1:]} in windows of unequal size; use a divisor")
        kernel = (signal.shape[1] // shape[1], signal.shape[2] // shape[2])
        return signals.average_pool(signal, AvgPool(kernel, kernel), shape)
    kernel, stride, padding = pair(module.kernel_size), pair(module.stride), pair(module.padding)
    if module.divisor_override is not None or (any(padding) and not module.count_include_pad):
        raise UnsupportedModel("divides by something other than its window's size; use the defaults of AvgPool2d")
    if (
        tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(signal.shape[1:], padding, kernel, stride, strict=True))
        != (shape[1:])
    ):
        raise UnsupportedModel("average-pools with ceil_mode; use windows that tile the input")
    return signals.average_pool(signal, AvgPool(kernel, stride, padding), shape)


def reshaped(signal: Signal, result: Tensor) -> Signal:
    trailing = tuple(result.shape[-len(signal.shape) :])
    if trailing == signal.shape:
        return signal
    flat = signals.flatten(signal)
    if result.shape[-1] == flat.shape[0]:
        return flat
    raise UnsupportedModel(
        f"from_torch: the model reshapes {signal.shape} to {tuple(result.shape)} between its layers; only flattening"
        " (C, H, W) to features is supported"
    )


def padding(module: nn.Conv2d) -> tuple[int, int]:
    if module.padding == "valid":
        return (0, 0)
    if module.padding == "same":
        spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(span % 2 for span in spans):
            raise UnsupportedModel(f"pads 'same' with an even kernel {module.kernel_size}, unequally; use an odd one")
        return (spans[0] // 2, spans[1] // 2)
    return pair(module.padding)


def pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def array(tensor: Any) -> Floats:
    array: Floats = tensor.detach().cpu().numpy().astype(np.float64)
    return array


def optional(tensor: Any) -> Floats | None:
    return None if tensor is None else array(tensor)

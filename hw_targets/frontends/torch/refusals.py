"""Why modules are refused that have no exact counterpart on a spiking chip, and what to use instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.torch.calls import Call
from neuroprune.frameworks import Framework

_OWN_STATISTICS = "normalises each sample by its own mean and variance, which depend on all of its neurons at once"
_NO_SPIKE = "is a non-linearity of currents without a threshold, so that what it sends is no spike"
_USE_NORM = "use a BatchNorm, whose statistics are fixed after training"
_USE_NEURON = "use spiking neurons there"

#: Names of classes, those of torch and of frameworks, with the true reason and an alternative that is read exactly.
_REASONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("GroupNorm", "LayerNorm", "InstanceNorm1d", "InstanceNorm2d", "LocalResponseNorm", "RMSNorm"),
        f"{_OWN_STATISTICS}; {_USE_NORM}",
    ),
    **dict.fromkeys(
        ("ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "GELU", "SiLU", "Tanh", "Hardtanh", "Softplus"),
        f"{_NO_SPIKE}; {_USE_NEURON}, or convert the network (spikingjelly.activation_based.ann2snn)",
    ),
}


def reason_against(path: Sequence[nn.Module], names: Mapping[nn.Module, str], framework: Framework) -> str | None:
    """Of the modules that are being run, outermost first, the first that is known to be refused: name and reason."""
    for module in path:
        reason = framework.advice(module) or _REASONS.get(type(module).__name__)
        if reason is not None:
            return f"{names.get(module, '') or 'the model'} ({type(module).__name__}) {reason}"
    return None


_NO_LINEAR = (
    "is no linear map of spikes, and on a chip only neurons are not linear; put spiking neurons there, or leave it out"
    " where values are spikes already"
)
_PRODUCT = (
    "multiplies by something that is no constant matrix along one axis of a sample; write it as nn.Linear on features,"
    " or as nn.Conv2d with kernel size 1 on channels"
)
_ATTENDS = (
    "multiplies what layers sent with each other, as attention does, but synapses multiply by constants; use"
    " convolutions and spiking neurons"
)
_OUT_OF_ORDER = (
    "takes steps or samples out of their order, or places by numbers that are no constants; keep all steps in their"
    " order, and choose channels, rows or columns by one list or slice, with constant numbers"
)
_LARGEST = (
    "takes the largest or smallest value of an axis, which no synapse does; use a max-pool (F.max_pool2d) straight"
    " behind neurons"
)
_MOVES = (
    "moves values between channels and positions; use nn.ConvTranspose2d or a strided nn.Conv2d, whose weights may be"
    " fixed zeros and ones that do the same"
)
_JOINS = (
    "joins steps or samples, or an axis that a sample does not have; join channels, rows, columns or features, of the"
    " same step"
)
_SUMS = "adds up samples; sum or average over time, channels, rows, columns or features, with dim= given"
_OPTIONS = "is given options that are not read; write a + b, a - b, a * 0.5 or a / 2"

#: Why functions are refused, and what to use instead.
_FUNCTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("relu", "abs", "clamp", "clamp_min", "clamp_max", "clip", "pow", "__pow__", "square", "sqrt", "exp"),
            *("log", "tanh", "elu", "gelu", "silu", "leaky_relu", "softplus", "hardtanh", "relu6", "sign", "heaviside"),
            *("maximum", "minimum", "where", "masked_fill", "gt", "ge", "lt", "le", "eq", "ne", "floor", "round"),
            *("__gt__", "__ge__", "__lt__", "__le__", "__eq__", "__floordiv__", "floor_divide", "fmod", "remainder"),
            *("logical_or", "logical_and", "logical_not", "logical_xor", "__or__", "__and__", "__xor__", "lerp"),
            *("addcmul", "addcdiv", "reciprocal", "prod"),
        ),
        _NO_LINEAR,
    ),
    **dict.fromkeys(("matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "mv", "dot", "einsum"), _PRODUCT),
    **dict.fromkeys(("tensordot", "inner", "outer"), _PRODUCT),
    **dict.fromkeys(("scaled_dot_product_attention", "multi_head_attention_forward"), _ATTENDS),
    **dict.fromkeys(("__getitem__", "select", "narrow", "index_select", "flip", "roll", "gather"), _OUT_OF_ORDER),
    **dict.fromkeys(("take", "take_along_dim", "sort", "topk", "argsort", "scatter", "unbind"), _OUT_OF_ORDER),
    **dict.fromkeys(("amax", "amin", "max", "min", "adaptive_max_pool2d", "adaptive_max_pool1d"), _LARGEST),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "unfold", "fold"), _MOVES),
    **dict.fromkeys(("cat", "concat", "concatenate", "hstack", "vstack", "dstack", "stack"), _JOINS),
    **dict.fromkeys(("sum", "mean"), _SUMS),
    **dict.fromkeys(("std", "var", "layer_norm", "group_norm", "instance_norm", "rms_norm"), _OWN_STATISTICS),
    **dict.fromkeys(("local_response_norm", "normalize", "norm"), _OWN_STATISTICS),
    **dict.fromkeys(
        ("cumsum", "cumprod"),
        "adds up steps or positions as it goes; neurons that never reset do so over time: use these, or a linear layer",
    ),
    **dict.fromkeys(("add", "sub", "mul", "div", "true_divide", "multiply", "subtract", "rsub"), _OPTIONS),
}


#: How operators are written.
_WRITTEN = {
    "__getitem__": "x[…]",
    "__pow__": "**",
    "__matmul__": "@",
    "__floordiv__": "//",
    "__or__": "|",
    "__and__": "&",
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "eq": "==",
    "ne": "!=",
}


def unsupported(call: Call) -> UnsupportedModel:
    """A function that is not read, with the reason and what to use instead."""
    name = call.name if call.name.startswith("__") else call.name.removesuffix("_")
    reason = _FUNCTIONS.get(name)
    if reason is _PRODUCT and len(call.marks) > 1:
        reason = _ATTENDS
    if reason is _OWN_STATISTICS:
        reason = f"{_OWN_STATISTICS}; {_USE_NORM}"
    return UnsupportedModel(
        f"from_torch: the model applies torch's `{_WRITTEN.get(name, call.name)}` between its layers, which "
        + (
            reason
            or "has no counterpart on the chip; between layers stand sums, constant factors and matrices, products of"
            " spikes (SEW AND, IAND), concatenation, choices of channels, rows and columns, pools, reshaping, and the"
            " sum or mean over time"
        )
    )

"""What NIR's stateless nodes do to a signal: (node, what flows in) → what flows out, and errors as verb phrases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.nir.tree import Node
from hw_targets.frontends.signals import AvgPool, Floats, Signal
from hw_targets.ir.network import Array, Conv2d, Pair, Shape
from hw_targets.ir.populations import LONGEST_DELAY

ADVICE = "if the file counts a batch axis, or says no shape, pass input_shape=(C, H, W) or (F,)"

#: Neurons that a dense matrix may connect one to one (128 MiB), and numbers in a pool's padded input.
MAX_ONE_TO_ONE, MAX_PADDED = 1 << 12, 1 << 24


@dataclass(frozen=True, eq=False)
class Flow:
    """gain·signal; its spikes come `delay` steps late, of a shape that broadcasts to (targets, sources)."""

    signal: Signal
    gain: float = 1.0
    delay: Array | None = None

    @property
    def settled(self) -> Signal:
        """The signal with its gain in the weights."""
        if self.gain == 1.0:
            return self.signal
        return signals.scale(self.signal, np.full(self.signal.shape[0], self.gain))

    @property
    def is_bare(self) -> bool:
        """Whether the spikes have passed no weights yet, at most a pool."""
        return self.signal.is_spikes or self.signal.is_pooled


def added(flows: Sequence[Flow]) -> Flow:
    """Their sum, which is what several edges into one node mean."""
    first, *rest = flows
    if not rest:
        return first
    if any(f.delay is not None for f in flows):
        raise UnsupportedModel("adds delayed spikes to others; give each delay a linear layer of its own")
    if any(f.gain != first.gain for f in rest):
        first, rest = Flow(first.settled), [Flow(f.settled) for f in rest]
    signal = first.signal
    for other in rest:
        signal = signals.add(signal, other.signal)
    return replace(first, signal=signal)


def weighted(flow: Flow, gain: Floats) -> Signal:
    """What arrives at neurons whose channels multiply it by `gain`, always with weights.

    Raises:
        UnsupportedModel: so many neurons one to one that their matrix would not fit in memory.
    """
    if any(
        t.via is None and len(t.source_shape) == 1 and t.source_shape[0] > MAX_ONE_TO_ONE for t in flow.signal.terms
    ):
        raise UnsupportedModel(
            f"connects {flow.signal.shape[0]} neurons one to one, at most {MAX_ONE_TO_ONE} are; give them the shape"
            " (F, 1, 1)"
        )
    return signals.scale(flow.settled, gain)


def along_one_axis(shape: Shape) -> Shape:
    """A signal (C, L) is kept as (C, 1, L)."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def _affine(node: Node, flow: Flow) -> Flow:
    weight = _weight(node, 2)
    if flow.signal.shape != (weight.shape[1],):
        raise UnsupportedModel(
            f"takes {weight.shape[1]} features, but gets a signal of shape {flow.signal.shape}; flatten it before, or,"
            f" {ADVICE}"
        )
    if flow.delay is not None and len(flow.delay) > 1:
        raise UnsupportedModel("mixes currents of different delays; put neurons between the two linear layers")
    return Flow(signals.dense(flow.signal, weight * flow.gain, _bias(node, len(weight))), delay=flow.delay)


def _conv2d(node: Node, flow: Flow) -> Flow:
    axes = 1 if node.kind == "Conv1d" else 2
    weight, shape, groups = _weight(node, 2 + axes), flow.signal.shape, _one(node, "groups")
    if groups < 1 or len(shape) != 3 or shape[0] != weight.shape[1] * groups or (axes == 1 and shape[1] != 1):
        raise UnsupportedModel(
            f"takes {weight.shape[1] * groups} channels of {axes} axes, but gets a signal of shape {shape}; {ADVICE}"
        )
    declared = node.integers("input_shape") if "input_shape" in node.fields else shape[-axes:]
    if declared != shape[-axes:]:
        raise UnsupportedModel(f"declares an input of {declared}, but gets a signal of shape {shape}; {ADVICE}")
    _refuse_delay(flow)
    kernel = weight.reshape(*weight.shape[:2], *[1] * (2 - axes), *weight.shape[2:])
    stride, dilation = _pair(node, "stride", axes, 1), _pair(node, "dilation", axes, 1)
    op = Conv2d(kernel * flow.gain, stride, _padding(node, kernel.shape[2:], dilation, axes), dilation, groups)
    return Flow(signals.conv(flow.signal, op, _bias(node, len(weight)), _positive(op.output_shape(shape), shape)))


def _pool(node: Node, flow: Flow) -> Flow:
    """Average pool; a sum pool is that many times as much. Zero padding counts, windows that do not fit are omitted."""
    shape = flow.signal.shape
    if len(shape) != 3:
        raise UnsupportedModel(f"pools a signal of shape {shape}, expected (C, H, W); {ADVICE}")
    _refuse_delay(flow)
    kernel, stride, padding = (_pair(node, key, 2, 1) for key in ("kernel_size", "stride", "padding"))
    padded = [n + 2 * p for n, p in zip(shape[1:], padding, strict=True)]
    if prod((shape[0], *padded)) > MAX_PADDED:
        raise UnsupportedModel(f"pads a signal of shape {shape} to {tuple(padded)}, more than {MAX_PADDED} numbers")
    size = (shape[0], *((n - k) // s + 1 for n, k, s in zip(padded, kernel, stride, strict=True)))
    pooled = signals.average_pool(flow.signal, AvgPool(kernel, stride, padding), _positive(size, shape))
    return Flow(pooled, flow.gain * (prod(kernel) if node.kind == "SumPool2d" else 1.0))


def _flatten(node: Node, flow: Flow) -> Flow:
    """Axes are counted without the batch."""
    shape = flow.signal.shape
    start, end = _one(node, "start_dim"), _one(node, "end_dim")
    # A signal (C, 1, L) is (C, L) in NIR.
    axes = len(shape) - (1 if len(shape) == 3 and shape[1] == 1 and (start, end) in ((0, 1), (-2, -1)) else 0)
    if len(shape) > 1 and not (start in (0, -axes) and end in (-1, axes - 1)):
        raise UnsupportedModel(
            f"flattens axes {start} … {end} of a signal of shape {shape}; only all of them are: start_dim=0, end_dim=-1"
        )
    return replace(flow, signal=signals.flatten(flow.signal))


def _scale(node: Node, flow: Flow) -> Flow:
    scale = node.floats("scale").reshape(-1)
    if flow.is_bare and scale.size and (scale == scale[0]).all():
        return replace(flow, gain=flow.gain * float(scale[0]))
    channels, size = flow.signal.shape[0], prod(flow.signal.shape)
    if scale.size not in (1, size):
        raise UnsupportedModel(f"scales by {scale.size} values a signal of shape {flow.signal.shape}; {ADVICE}")
    rows = np.broadcast_to(scale, (size,)).reshape(channels, -1)
    if (rows != rows[:, :1]).any():
        raise UnsupportedModel("scales the positions of one channel differently; a convolution's weights are shared")
    return replace(flow, signal=signals.scale(flow.signal, rows[:, 0] * flow.gain), gain=1.0)


def _delay(node: Node, flow: Flow, dt: float) -> Flow:
    """Whole steps, of spikes (one delay per source) or of a dense layer's currents (one per target)."""
    given = node.floats("delay").reshape(-1) / dt
    steps = np.rint(given)
    if not steps.size:
        raise UnsupportedModel("holds no delay at all; leave the node out")
    if (np.abs(given - steps) > 1e-6 * np.maximum(1.0, given)).any() or (steps < 0).any():
        raise UnsupportedModel(
            f"delays by {given.min():g} … {given.max():g} steps of dt = {dt:g}; only whole ones exist"
        )
    if not steps.any():
        return flow
    if (steps > LONGEST_DELAY).any():
        raise UnsupportedModel(
            f"delays by {steps.max():g} steps, at most {LONGEST_DELAY} are run; shorten it or raise dt"
        )
    through_dense = flow.signal.is_matrix
    if flow.delay is not None or not (flow.signal.is_spikes or through_dense):
        raise UnsupportedModel(
            "delays what is delayed, pooled, convolved or biased before; delay plain spikes, or a Linear layer's output"
        )
    if steps.size not in (1, prod(flow.signal.shape)):
        raise UnsupportedModel(f"holds {steps.size} delays for a signal of shape {flow.signal.shape}")
    if (steps == steps[0]).all():
        steps = steps[:1]
    column = (-1, 1) if through_dense else (1, -1)
    return replace(flow, delay=steps.astype(np.int64).reshape(column))


def _through(_node: Node, flow: Flow) -> Flow:
    return flow


LAYERS: Mapping[str, Callable[[Node, Flow], Flow]] = {
    "Through": _through,
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _conv2d,
    "Conv2d": _conv2d,
    "AvgPool2d": _pool,
    "SumPool2d": _pool,
    "Flatten": _flatten,
    "Scale": _scale,
}


def apply(node: Node, flow: Flow, dt: float) -> Flow:
    """What a stateless node makes of what flows in.

    Raises:
        UnsupportedModel: no exact counterpart; the message is a verb phrase.
        InvalidNetwork: fields that contradict themselves.
    """
    return _delay(node, flow, dt) if node.kind == "Delay" else LAYERS[node.kind](node, flow)


def _refuse_delay(flow: Flow) -> None:
    if flow.delay is not None:
        raise UnsupportedModel(
            "gets delayed spikes, but on a chip only dense layers delay; unroll it to a Linear layer"
        )


def _weight(node: Node, axes: int) -> Floats:
    weight = node.floats("weight")
    if weight.ndim != axes or not weight.size:
        raise UnsupportedModel(f"has a weight of shape {weight.shape}, expected {axes} axes, none empty")
    return weight


def _bias(node: Node, channels: int) -> Floats | None:
    """None where all are zero, which is how most exporters write a layer without."""
    bias = node.floats("bias").reshape(-1)
    if bias.size not in (1, channels):
        raise UnsupportedModel(f"has {bias.size} biases for {channels} outputs")
    return np.broadcast_to(bias, (channels,)).copy() if bias.any() else None


def _one(node: Node, key: str) -> int:
    values = node.integers(key)
    if len(values) != 1:
        raise UnsupportedModel(f"has {key} {values[:4]}, expected one whole number")
    return values[0]


def _pair(node: Node, key: str, axes: int, filler: int) -> Pair:
    values = node.integers(key)
    if len(values) not in (1, axes) or any(v < (key != "padding") for v in values):
        raise UnsupportedModel(f"has {key} {values}, expected {axes} number{'s' if axes > 1 else ''} of at least 1")
    return (filler, values[0]) if axes == 1 else (values[0], values[-1])


def _padding(node: Node, taps: Shape, dilation: Pair, axes: int) -> Pair:
    value = node.fields["padding"]
    if not isinstance(value, str):
        return _pair(node, "padding", axes, 0)
    spans = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    if value == "valid":
        return (0, 0)
    if value != "same" or any(span % 2 for span in spans):
        raise UnsupportedModel(f"pads {value!r} with a kernel {taps}; only 'valid', and 'same' with odd kernels, exist")
    return (spans[0] // 2, spans[1] // 2)


def _positive(size: Shape, source: Shape) -> Shape:
    if prod(size) > MAX_PADDED:
        raise UnsupportedModel(f"makes {size} of a signal of shape {source}, more than {MAX_PADDED} neurons")
    if min(size) < 1:
        raise UnsupportedModel(f"makes {size} of a signal of shape {source}: its kernel is too large; {ADVICE}")
    return size

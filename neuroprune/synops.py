"""Exact synaptic operations (SynOps) of one or more forward passes.

A synaptic operation is one spike crossing one non-zero synapse, so a layer with inputs s and weights w does

    SynOps = Σ_p s_p · fan_out_p,    fan_out_p = #{non-zero synapses that leave input position p}

where an integer input s_p = k (the sum of k spikes that a SEW residual makes) is k spikes. ``fan_out`` depends on the
weight mask and the geometry alone. It is built once per mask, so that counting costs a check that the inputs are
spikes, one sum over time and batch, and one product: never a second convolution. All sums are sums of integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils.hooks import RemovableHandle

__all__ = ["LayerSynOps", "SynOps", "SynOpsCounter", "count_synops"]

_SYNAPSES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_POOLS = {  # by number of spatial axes
    1: (nn.AvgPool1d, nn.AdaptiveAvgPool1d),
    2: (nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    3: (nn.AvgPool3d, nn.AdaptiveAvgPool3d),
}
_POOL_LIKE = (*_POOLS[1], *_POOLS[2], *_POOLS[3], nn.Flatten)
_BLOCK = 2**16  # elements of a CPU pass: 256 KiB of float32 stay in cache, and need no fresh pages
_EXACT = 2**24  # float32 holds every integer up to here
_POOLS_KEPT = 32  # pool outputs remembered within one forward pass


@dataclass(frozen=True)
class LayerSynOps:
    """Operations of one layer, summed over every sample, time step and call.

    Attributes:
        name: qualified module name (the class name, for a model that is itself one layer).
        kind: ``'spikes'``; ``'pooled'`` (average-pooled spikes); ``'real'`` (inputs that are negative or not integers,
            such as a static image: counted in ``macs``); ``'mixed'`` (calls of several kinds); ``'unused'`` (no call).
        synops: spikes times their non-zero outgoing synapses.
        dense: the same with every weight taken as non-zero.
        macs: multiply-accumulates of the real-valued calls: non-zero synapses reached, whatever the input values.
        dense_macs: the same with every weight taken as non-zero.
    """

    name: str
    kind: str
    synops: int
    dense: int
    macs: int
    dense_macs: int


@dataclass(frozen=True)
class SynOps:
    """Operations of a model: ``total``, ``dense``, ``macs`` and ``dense_macs`` are the sums over ``layers``.

    ``uncounted`` names the modules that own weights but are neither convolution nor linear layers (transposed
    convolutions, RNNs, attention, ...): their operations are in none of the numbers.
    """

    total: int
    dense: int
    macs: int
    dense_macs: int
    layers: dict[str, LayerSynOps]
    uncounted: tuple[str, ...]


def count_synops(model: nn.Module, inputs: Any, *, forward: Callable[[nn.Module, Any], object] | None = None) -> SynOps:
    """Run ``model`` once without gradients, in the mode it is in, and count its synaptic operations.

    Args:
        model: any module with Conv1d/2d/3d or Linear layers (subclasses included, single-step or multi-step).
            Reset the state of its neurons first.
        inputs: handed to ``model`` as it is. Spikes, or a static image: its first layer is then listed as MACs.
        forward: called as ``forward(model, inputs)`` where ``model(inputs)`` is not how the model runs.

    Returns:
        Counts summed over all samples and time steps; divide by the batch size for operations per sample.

    Raises:
        ValueError: the model has no layer to count, or a layer that runs has NaN weights.
    """
    with SynOpsCounter(model) as counter, torch.no_grad():
        if forward is None:
            model(inputs)
        else:
            forward(model, inputs)
    return counter.result()


class SynOpsCounter:
    """Count over several forward passes: ``with SynOpsCounter(model) as counter: model(x); model(y)``.

    The hooks live as long as the ``with`` block, which may be entered again. Fan-out maps are kept between passes and
    rebuilt when a weight is replaced or modified in place. Only edits through ``weight.data`` while a counter is in
    use escape PyTorch's version count: use a new counter after those.

    An average pool has no neurons: on a chip it folds into the next layer and each spike is delivered through it, so
    a layer fed by pool modules counts value · area, an integer. What reaches a layer as a view of a pool's output is
    known to be pooled. For a copy of it, the areas of the latest pools are tried on inputs that are not integers.
    ``F.avg_pool2d``, and pools whose windows have different divisors, give MACs.

    Raises:
        ValueError: the model has no layer to count.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names: dict[nn.Module, str] = {
            module: name or type(module).__name__
            for name, module in model.named_modules()
            if isinstance(module, _SYNAPSES)
        }
        if not self._names:
            raise ValueError(
                f"{type(model).__name__} has no synapses to count: 0 Conv1d/2d/3d or Linear layers, at least 1 needed; "
                "pass the module that contains the weighted layers"
            )
        self._pool_modules = [m for m in model.modules() if isinstance(m, _POOL_LIKE)]
        self._uncounted = tuple(name for name, module in model.named_modules() if _is_uncounted(module))
        self._maps: dict[tuple[nn.Module, tuple[int, ...], torch.device], _FanOut] = {}
        self._pools: dict[int, _Pooled] = {}
        self._handles: list[RemovableHandle] = []
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero; fan-out maps stay."""
        self._tallies = {module: _Tally() for module in self._names}

    def result(self) -> SynOps:
        """Counts so far, with every layer of the model listed in its order."""
        layers = {name: self._tallies[module].layer(name) for module, name in self._names.items()}
        return SynOps(
            total=sum(layer.synops for layer in layers.values()),
            dense=sum(layer.dense for layer in layers.values()),
            macs=sum(layer.macs for layer in layers.values()),
            dense_macs=sum(layer.dense_macs for layer in layers.values()),
            layers=layers,
            uncounted=self._uncounted,
        )

    def __enter__(self) -> SynOpsCounter:
        self._handles.append(self._model.register_forward_pre_hook(lambda *_: self._pools.clear()))
        self._handles += [m.register_forward_hook(self._count, with_kwargs=True) for m in self._names]
        self._handles += [m.register_forward_hook(self._remember_pool) for m in self._pool_modules]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._pools.clear()

    @torch.no_grad()
    def _count(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        inputs: Tensor = args[0] if args else next(iter(kwargs.values()))
        fan_out = self._fan_out(layer, inputs)
        positions = inputs.reshape(-1, fan_out.counts.shape[1])  # (T·N, positions)
        counts, kind = self._spike_counts(inputs, positions)
        if counts is None:
            self._tallies[layer].add_macs(*(len(positions) * total for total in fan_out.totals))
        else:
            synops, dense = (fan_out.counts * counts).sum(1).tolist()
            self._tallies[layer].add_synops(synops, dense, kind)

    def _spike_counts(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor | None, str]:
        """Spikes per position (int64), or None where the inputs are not spikes, and the kind of the layer."""
        pooled = self._pooled(inputs)
        if pooled is not None:
            counts = _integer_sum(positions, pooled.area) if pooled.area else None
            return counts, "real" if counts is None else "pooled"
        counts = _integer_sum(positions, 1)
        if counts is not None:
            return counts, "spikes"
        for area in dict.fromkeys(pool.area for pool in reversed(self._pools.values()) if pool.area):
            counts = _integer_sum(positions, area)
            if counts is not None:
                return counts, "pooled"
        return None, "real"

    def _pooled(self, x: Tensor) -> _Pooled | None:
        """The pool whose output x is, or is a view of; a pool output modified in place is one no longer."""
        pooled = self._pools.get(x.untyped_storage().data_ptr())
        return pooled if pooled is not None and pooled.version == _version(x) else None

    def _remember_pool(self, pool: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        before = self._pooled(args[0])
        area = (before.area if before else 1) * _pool_area(pool, args[0], output)
        if area != 1:
            self._pools[output.untyped_storage().data_ptr()] = _Pooled(output, _version(output), area)
        if len(self._pools) > _POOLS_KEPT:
            del self._pools[next(iter(self._pools))]

    def _fan_out(self, layer: nn.Module, inputs: Tensor) -> _FanOut:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        key = (layer, inputs.shape[1 - weight.dim() :], inputs.device)
        known = self._maps.get(key)
        if known is None or not known.holds_for(weight):
            known = self._maps[key] = _FanOut.of(layer, self._names[layer], weight, key[1], inputs.device)
        return known


@dataclass
class _Tally:
    """Running counts of one layer."""

    synops: int = 0
    dense: int = 0
    macs: int = 0
    dense_macs: int = 0
    kinds: set[str] = field(default_factory=set)

    def add_synops(self, synops: int, dense: int, kind: str) -> None:
        self.synops += synops
        self.dense += dense
        self.kinds.add(kind)

    def add_macs(self, macs: int, dense: int) -> None:
        self.macs += macs
        self.dense_macs += dense
        self.kinds.add("real")

    def layer(self, name: str) -> LayerSynOps:
        kind = "mixed" if len(self.kinds) > 1 else next(iter(self.kinds), "unused")
        return LayerSynOps(name, kind, self.synops, self.dense, self.macs, self.dense_macs)


@dataclass(frozen=True)
class _Pooled:
    """A pool's output, and the number that makes its values integers (0: several divisors). Keeps its storage alive."""

    output: Tensor
    version: int
    area: int


@dataclass(frozen=True)
class _FanOut:
    """Fan-out of each input position of a layer: ``counts`` (2, positions) int64, non-zero weights then all weights.

    Holds the weight and its storage, so that neither identity nor address can be taken over by another tensor.
    """

    counts: Tensor
    totals: list[int]
    weight: Tensor
    storage: Tensor
    version: int

    def holds_for(self, weight: Tensor) -> bool:
        same = weight is self.weight and weight.data_ptr() == self.storage.data_ptr()
        return same and _version(weight) == self.version

    @classmethod
    def of(cls, layer: nn.Module, name: str, weight: Tensor, shape: tuple[int, ...], device: torch.device) -> _FanOut:
        """Build from the layer's geometry and its inputs' trailing ``shape``: (C_in, *spatial), or (F_in,)."""
        taps = _taps(weight.detach(), getattr(layer, "groups", 1), name)
        for axis, size in enumerate(shape[1:]):  # contracts the first kernel axis left, appends its spatial axis
            taps = torch.tensordot(taps, _axis(layer, axis, size), dims=([2], [0]))
        counts = taps.reshape(2, -1).round().long()
        return cls(counts.to(device), counts.sum(1).tolist(), weight, weight.detach(), _version(weight))


def _taps(weight: Tensor, groups: int, name: str) -> Tensor:
    """Synapses per input channel and kernel tap, (2, C_in, *kernel) float64 on the CPU: non-zero, then all."""
    grouped = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, C_out/groups, C_in/groups, *kernel)
    alive = torch.zeros_like(grouped[:, 0], dtype=torch.float32)
    checksum = torch.zeros((), device=weight.device)
    for block in torch.split(grouped, max(1, _BLOCK // alive.numel()), dim=1):
        alive += block.sign().abs_().sum(1, dtype=torch.float32)
        checksum += block.sum(dtype=torch.float32)  # one NaN makes it NaN; so does inf - inf, hence the second look
    if checksum.isnan() and weight.isnan().any():
        raise ValueError(
            f"layer {name!r}: {int(weight.isnan().sum())} of {weight.numel()} weights are NaN, 0 allowed, so its "
            "synapses cannot be counted; load a checkpoint from before the training diverged"
        )
    dense = torch.full_like(alive, grouped.shape[1])
    return torch.stack([alive, dense]).flatten(1, 2).cpu().double()


def _axis(layer: Any, axis: int, size: int) -> Tensor:
    """``_reach`` of one spatial axis of a convolution whose input has ``size`` positions along it."""
    kernel, stride, dilation = (int(v[axis]) for v in (layer.kernel_size, layer.stride, layer.dilation))
    span = dilation * (kernel - 1)
    if layer.padding == "same":
        pad = (span // 2, span - span // 2)
    else:
        pad = (0, 0) if layer.padding == "valid" else (int(layer.padding[axis]),) * 2
    return _reach(size, kernel, stride, dilation, pad, layer.padding_mode)


@lru_cache(maxsize=64)
def _reach(size: int, kernel: int, stride: int, dilation: int, pad: tuple[int, int], mode: str) -> Tensor:
    """How often kernel tap k reads input position i, (kernel, size) float64 on the CPU.

    Padding with zeros reads no position; the other padding modes read some of them more than once.
    """
    index = torch.arange(size, dtype=torch.float64, device="cpu")[None, None]
    padded = F.pad(index, pad, value=-1.0) if mode == "zeros" else F.pad(index, pad, mode)
    read = padded[0, 0].unfold(0, dilation * (kernel - 1) + 1, stride)[:, ::dilation].T.long()
    reach = torch.zeros(kernel, size + 1, dtype=torch.float64, device="cpu")  # column 0 collects the zero padding
    return reach.scatter_add_(1, read + 1, torch.ones_like(read, dtype=torch.float64))[:, 1:]


def _spikes(x: Tensor, area: int) -> Tensor | None:
    """area · x, rounded, or None if that is not spike counts: integers ≥ 0.

    With area = 1 they have to be integers exactly, otherwise up to the rounding of the division that the pool did.
    """
    if area == 1:
        blocks = torch.split(x.reshape(-1), _BLOCK) if x.device.type == "cpu" else (x,)
        whole = all(float(b.frac().amax()) == 0 and float(b.amin()) >= 0 for b in blocks)  # NaN is neither
        return x if whole else None
    scaled = x * area
    spikes = scaled.round()
    off = float(scaled.sub_(spikes).abs_().amax())
    tolerance = 8 * torch.finfo(x.dtype).eps * max(1.0, float(spikes.amax()))
    return spikes if off <= tolerance <= 0.25 and float(spikes.amin()) >= 0 else None


def _integer_sum(x: Tensor, area: int) -> Tensor | None:
    """Spikes area · x summed over the rows of x (rows, positions), int64 (positions,); None if they are not spikes."""
    if x.numel() == 0:
        return x.new_zeros(x.shape[1], dtype=torch.int64)
    x = x if x.is_floating_point() else x.double()
    spikes = _spikes(x, area)
    if spikes is None:
        return None
    exact = min(2 / torch.finfo(x.dtype).eps, _EXACT)  # from here on, integers may be roundings of something else
    counts = spikes.sum(0, dtype=torch.promote_types(x.dtype, torch.float32))
    if float(counts.amax()) < exact:  # then so was every term and partial sum: none is negative
        return counts.long()
    return spikes.long().sum(0) if float(spikes.amax()) <= exact else None


def _pool_area(pool: Any, inputs: Tensor, output: Tensor) -> int:
    """What the pool divides its sums by; 0 where that differs from window to window; 1 for ``nn.Flatten``."""
    if isinstance(pool, nn.Flatten):
        return 1
    axes = next(n for n, kinds in _POOLS.items() if isinstance(pool, kinds))
    before, after = inputs.shape[-axes:], output.shape[-axes:]
    if not hasattr(pool, "kernel_size"):  # adaptive: the windows are equal where the sizes divide
        even = all(b % a == 0 for b, a in zip(before, after, strict=True))
        return prod(before) // prod(after) if even else 0
    if getattr(pool, "divisor_override", None):
        return int(pool.divisor_override)
    kernel, stride, padding = (
        v if isinstance(v, tuple) else (v,) * axes for v in (pool.kernel_size, pool.stride, pool.padding)
    )
    reach = ((a - 1) * s + k - 2 * p for a, s, k, p in zip(after, stride, kernel, padding, strict=True))
    overhang = any(r > b for r, b in zip(reach, before, strict=True))  # ceil_mode's last, smaller window
    return 0 if overhang or (any(padding) and not pool.count_include_pad) else prod(kernel)


def _is_uncounted(module: nn.Module) -> bool:
    if isinstance(module, (*_SYNAPSES, ParametrizationList)):
        return False
    return any(p.dim() >= 2 for p in module.parameters(recurse=False))


def _version(x: Tensor) -> int:
    """PyTorch's count of in-place changes, shared by views; tensors made in inference mode have none."""
    return 0 if x.is_inference() else x._version

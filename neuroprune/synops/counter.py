"""Exact synaptic operations (SynOps) of one or more forward passes.

A synaptic operation is one spike crossing one non-zero synapse, so a layer with inputs s and weights w does

    SynOps = Σ_p s_p · fan_out_p,    fan_out_p = #{non-zero synapses that leave input position p}

where an integer input s_p = k (the sum of k spikes that a SEW residual makes) is k spikes. ``fan_out`` depends on the
weight mask and the geometry alone. It is built once per mask, so that counting costs a check that the inputs are
spikes, one sum over time and batch, and one product: never a second convolution. All sums are sums of integers.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils.hooks import RemovableHandle

from neuroprune.frameworks import framework_of, spikes_of
from neuroprune.synops.computed_weight import ComputedWeight, has_own_forward
from neuroprune.synops.fan_out import FanOut
from neuroprune.synops.feedback import Feedback
from neuroprune.synops.spikes import POOL_LIKE, integer_sum, pool_area, version_of

__all__ = ["LayerSynOps", "SynOps", "SynOpsCounter", "count_synops"]

_SYNAPSES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_POOLS_KEPT = 32  # pool outputs remembered within one forward pass
_INPUTS_KEPT = 4  # inputs whose counts are remembered for other layers that read them too


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
    convolutions, RNNs, attention, ...), and layers whose own forward does not multiply with one weight of their shape:
    their operations are in none of the numbers. A layer that computes with another weight than its ``weight``
    (standardised, quantized) is counted with that one.
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
        framework = framework_of(model)
        self._neurons = [m for m in model.modules() if framework is not None and framework.sends_spikes(m)]
        self._pool_modules = [m for m in model.modules() if isinstance(m, POOL_LIKE)]
        self._feedback = [Feedback(m, self._count_inputs) for m in model.modules() if Feedback.is_in(m)]
        self._uncounted = tuple(name for name, module in model.named_modules() if _is_uncounted(module))
        self._own_forward = {m for m in self._names if has_own_forward(m, framework)}
        self._watching: dict[nn.Module, list[ComputedWeight]] = {m: [] for m in self._own_forward}
        self._not_understood: set[nn.Module] = set()
        self._maps: dict[tuple[nn.Module, tuple[int, ...], torch.device], FanOut] = {}
        self._pools: dict[int, _Pooled] = {}
        self._counted: deque[_Counted] = deque(maxlen=_INPUTS_KEPT)
        self._sent: deque[tuple[weakref.ref[Tensor], int]] = deque(maxlen=_INPUTS_KEPT)
        self._handles: list[RemovableHandle] = []
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero; fan-out maps stay."""
        self._tallies = {module: _Tally() for module in self._names}
        self._spikes: dict[FanOut, tuple[nn.Module, Tensor]] = {}

    def result(self) -> SynOps:
        """Counts so far, with every layer of the model listed in its order."""
        self._settle()
        layers = {name: self._tallies[module].layer(name) for module, name in self._names.items()}
        return SynOps(
            total=sum(layer.synops for layer in layers.values()),
            dense=sum(layer.dense for layer in layers.values()),
            macs=sum(layer.macs for layer in layers.values()),
            dense_macs=sum(layer.dense_macs for layer in layers.values()),
            layers=layers,
            uncounted=(*self._uncounted, *(n for m, n in self._names.items() if m in self._not_understood)),
        )

    def _settle(self) -> None:
        for fan_out, (layer, spikes) in self._spikes.items():
            self._tallies[layer].add_synops(*(fan_out.counts * spikes).sum(1).tolist())
        self._spikes.clear()

    def __enter__(self) -> SynOpsCounter:
        self._handles.append(self._model.register_forward_pre_hook(lambda *_: self._forget_pass()))
        plain = [m for m in self._names if m not in self._own_forward]
        self._handles += [m.register_forward_hook(self._count, with_kwargs=True) for m in plain]
        for module in self._own_forward:
            self._handles.append(module.register_forward_pre_hook(self._watch))
            self._handles.append(module.register_forward_hook(self._count_watched, with_kwargs=True, always_call=True))
        self._handles += [m.register_forward_hook(self._remember_pool) for m in self._pool_modules]
        self._handles += [m.register_forward_hook(self._remember_spikes) for m in self._neurons]
        self._handles += [handle for feedback in self._feedback for handle in feedback.hooks()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forget_pass()

    def _forget_pass(self) -> None:
        self._pools.clear()
        self._counted.clear()
        self._sent.clear()

    def _count(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        self._count_inputs(layer, args[0] if args else next(iter(kwargs.values())))

    def _watch(self, layer: nn.Module, _: Any) -> None:
        mode = ComputedWeight()
        self._watching[layer].append(mode)
        mode.__enter__()  # type: ignore[no-untyped-call]  # torch's

    def _count_watched(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        mode = self._watching[layer].pop()
        mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # torch's
        if output is None:
            return  # its forward failed
        weight = mode.weight_of(layer)
        if weight is None:
            self._not_understood.add(layer)
        else:
            self._count_inputs(layer, args[0] if args else next(iter(kwargs.values())), weight)
            if weight is not layer.weight:
                self._settle()  # every call has a weight and a map of its own, none of which is kept

    @torch.no_grad()
    def _count_inputs(self, layer: nn.Module, inputs: Tensor, computed: Tensor | None = None) -> None:
        fan_out = self._fan_out(layer, inputs, computed)
        positions = inputs.reshape(-1, fan_out.counts.shape[1])  # (T·N, positions)
        counts, kind = self._spike_counts_once(inputs, positions)
        if counts is None:
            self._tallies[layer].add_macs(*(len(positions) * total for total in fan_out.totals))
        else:
            self._tallies[layer].kinds.add(kind)
            before = self._spikes.get(fan_out)
            self._spikes[fan_out] = (layer, counts if before is None else before[1] + counts)

    def _spike_counts_once(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor | None, str]:
        """`_spike_counts`, shared by layers that read the very same tensor, as a block's branches do."""
        for counted in self._counted:
            if counted.of() is inputs and counted.version == version_of(inputs):
                return counted.result
        result = self._spike_counts(inputs, positions)
        if not inputs.is_inference():  # those cannot tell whether they were written to
            self._counted.append(_Counted(weakref.ref(inputs), version_of(inputs), result))
        return result

    def _spike_counts(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor | None, str]:
        """Spikes per position (int64), or None where the inputs are not spikes, and the kind of the layer."""
        pooled = self._pooled(inputs)
        if pooled is not None:
            counts = integer_sum(positions, pooled.area) if pooled.area else None
            return counts, "real" if counts is None else "pooled"
        counts = integer_sum(positions, 1, known=self._is_sent(inputs))
        if counts is not None:
            return counts, "spikes"
        for area in dict.fromkeys(pool.area for pool in reversed(self._pools.values()) if pool.area):
            counts = integer_sum(positions, area)
            if counts is not None:
                return counts, "pooled"
        return None, "real"

    def _is_sent(self, x: Tensor) -> bool:
        """Whether x is what neurons sent, untouched since: spikes by definition, which need no check."""
        return any(sent() is x and version == version_of(x) for sent, version in self._sent)

    def _remember_spikes(self, _neuron: nn.Module, _args: Any, output: Any) -> None:
        spikes = spikes_of(output)
        if not spikes.is_inference():
            self._sent.append((weakref.ref(spikes), version_of(spikes)))

    def _pooled(self, x: Tensor) -> _Pooled | None:
        """The pool whose output x is, or is a view of; a pool output modified in place is one no longer."""
        pooled = self._pools.get(x.untyped_storage().data_ptr())
        return pooled if pooled is not None and pooled.version == version_of(x) else None

    def _remember_pool(self, pool: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        before = self._pooled(args[0])
        area = (before.area if before else 1) * pool_area(pool, args[0], output)
        if area != 1:
            self._pools[output.untyped_storage().data_ptr()] = _Pooled(output, version_of(output), area)
        if len(self._pools) > _POOLS_KEPT:
            del self._pools[next(iter(self._pools))]

    def _fan_out(self, layer: nn.Module, inputs: Tensor, computed: Tensor | None = None) -> FanOut:
        own: Any = layer.weight
        weight: Tensor = own if computed is None else computed
        shape = inputs.shape[1 - weight.dim() :]
        if inputs.dim() == 3 and weight.dim() == 5:  # slayer's synapses are Conv3d and take features (N, F, T) too
            shape = torch.Size((inputs.shape[1], 1, 1, inputs.shape[2]))
        key = (layer, shape, inputs.device)
        known = self._maps.get(key)
        if known is None or not known.holds_for(weight):
            known = self._maps[key] = FanOut.of(layer, self._names[layer], weight, key[1], inputs.device)
        return known


@dataclass
class _Tally:
    """Running counts of one layer."""

    synops: int = 0
    dense: int = 0
    macs: int = 0
    dense_macs: int = 0
    kinds: set[str] = field(default_factory=set)

    def add_synops(self, synops: int, dense: int) -> None:
        self.synops += synops
        self.dense += dense

    def add_macs(self, macs: int, dense: int) -> None:
        self.macs += macs
        self.dense_macs += dense
        self.kinds.add("real")

    def layer(self, name: str) -> LayerSynOps:
        kind = "mixed" if len(self.kinds) > 1 else next(iter(self.kinds), "unused")
        return LayerSynOps(name, kind, self.synops, self.dense, self.macs, self.dense_macs)


@dataclass(frozen=True)
class _Counted:
    """A layer's input (not kept alive), its version then, and what was counted in it."""

    of: weakref.ref[Tensor]
    version: int
    result: tuple[Tensor | None, str]


@dataclass(frozen=True)
class _Pooled:
    """A pool's output, and the number that makes its values integers (0: several divisors). Keeps its storage alive."""

    output: Tensor
    version: int
    area: int


def _is_uncounted(module: nn.Module) -> bool:
    if isinstance(module, (*_SYNAPSES, ParametrizationList)):
        return False
    return any(p.dim() >= 2 for p in module.parameters(recurse=False))

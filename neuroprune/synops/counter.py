"""Exact synaptic operations (SynOps) of one or more forward passes.

A synaptic operation is one spike crossing one non-zero synapse, so a layer with inputs s and weights w does

    SynOps = Σ_p s_p · fan_out_p,    fan_out_p = #{non-zero synapses that leave input position p}

where an integer input s_p = k (the sum of k spikes that a SEW residual makes) is k spikes. ``fan_out`` depends on the
weight mask and the geometry alone. It is built once per mask, so that counting a layer costs a check that the inputs
are spikes, one sum over time and batch, and one product: never a second convolution. All sums are sums of integers.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils.hooks import RemovableHandle

from neuroprune._numbers import check_whole
from neuroprune.frameworks import framework_of
from neuroprune.frameworks.samples import with_batch
from neuroprune.synops.fan_out import Geometry
from neuroprune.synops.inputs import check_model
from neuroprune.synops.known import Data, Weight
from neuroprune.synops.names import LAYERS
from neuroprune.synops.products import Pair
from neuroprune.synops.quiet import Quiet
from neuroprune.synops.result import LayerSynOps, SynOps
from neuroprune.synops.tallies import Tallies
from neuroprune.synops.watch import Watch

__all__ = ["LayerSynOps", "SynOps", "SynOpsCounter", "count_synops"]

_SYNAPSES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def count_synops(
    model: nn.Module,
    inputs: Any,
    *,
    forward: Callable[[nn.Module, Any], object] | None = None,
    time_steps: int = 1,
    analog_input: bool = False,
) -> SynOps:
    """Run ``model`` without gradients, in the mode it is in, and count its synaptic operations.

    Args:
        model: any module with Conv1d/2d/3d, ConvTranspose1d/2d/3d or Linear layers (subclasses included, single-step or
            multi-step). Reset the state of its neurons first.
        inputs: handed to ``model`` as it is, what ``hw_targets.from_torch`` takes; one sample that the model does not
            take without its batch, as a batch of one. Spikes, or a static image: its first layer is then listed as
            MACs.
        forward: called as ``forward(model, inputs)`` where ``model(inputs)`` is not how the model runs.
        time_steps: how often a model that takes one step per call is called, each time with the same inputs.
        analog_input: ``inputs`` are real values, even where they happen to be 0 and 1 (black and white frames): layers
            that read them are MACs.

    Returns:
        Counts summed over all samples and time steps; divide by the batch size for operations per sample.

    Raises:
        ValueError: the model has no layer to count, a layer that runs has NaN weights, `time_steps` is below 1, or
            both it and `forward` are given.
    """
    time_steps = check_steps("count_synops", forward, time_steps)
    with SynOpsCounter(model, analog_input=analog_input) as counter, torch.no_grad():
        counter.given(inputs)
        try:
            _run(model, inputs, forward, time_steps)
        except (RuntimeError, ValueError, IndexError):
            batch = with_batch(model, inputs)
            if batch is None or forward is not None:
                raise
            if (framework := framework_of(model)) is not None:
                framework.reset(model)
            counter.reset()
            counter.given(batch)
            _run(model, batch, forward, time_steps)
    return counter.result()


def check_steps(call: str, forward: object, time_steps: int) -> int:
    """`time_steps`, where they are a number of steps and `forward` does not say them.

    Raises:
        ValueError: they are not, or it does.
    """
    time_steps = check_whole(call, "time_steps", time_steps)
    if forward is not None and time_steps != 1:
        raise ValueError(
            f"{call}: time_steps is {time_steps}, but forward already says how the model runs; loop over the"
            " steps there, or leave it out"
        )
    return time_steps


def _run(model: nn.Module, inputs: Any, forward: Callable[[nn.Module, Any], object] | None, time_steps: int) -> None:
    for _ in range(time_steps):
        if forward is None:
            model(inputs)
        else:
            forward(model, inputs)


class SynOpsCounter:
    """Count over several forward passes: ``with SynOpsCounter(model) as counter: model(x); model(y)``.

    The hooks live as long as the ``with`` block, which may be entered again. Fan-out maps are kept between passes and
    rebuilt when a weight is replaced or modified in place. Only edits through ``weight.data`` while a counter is in
    use escape PyTorch's version count: use a new counter after those.

    Torch's functions are watched while the block is entered, so that it is known which tensors are spikes, through
    views, copies, sums, products with constants (they fold into the next layer's weights), max-pools and average pools.
    An average pool, or a mean, has no neurons: on a chip it folds into the next layer and each spike is delivered
    through it, so a layer fed by one counts the spikes in each window. Other values are spikes where they are integers
    ≥ 0, all of them, and real otherwise. Element-wise sums and products with constants cross no synapse.

    Raises:
        TypeError: the model is no module.
        ValueError: the model has no layer to count.
    """

    def __init__(self, model: nn.Module, *, analog_input: bool = False) -> None:
        """`analog_input`: what the model is given is real, even where it happens to be 0 and 1."""
        check_model("SynOpsCounter", model)
        self._model, self._analog_input = model, analog_input
        self._all_names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        self._names = {module: name for module, name in self._all_names.items() if isinstance(module, _SYNAPSES)}
        if not self._names and not any(p.dim() >= 2 for p in model.parameters()):
            raise ValueError(
                f"{type(model).__name__} has no synapses to count: 0 Conv1d/2d/3d, ConvTranspose1d/2d/3d or Linear"
                " layers, at least 1 needed, and no other weights; pass the module that contains the weighted layers"
            )
        framework = framework_of(model)
        neurons = frozenset(m for m in model.modules() if framework is not None and framework.sends_spikes(m))
        quiet = Quiet(model.modules(), neurons, framework)
        self._watch = Watch(neurons, frozenset(self._names), quiet, self._count, self._count_layer)
        self._tallies = Tallies(self._watch.known, self._names.values())
        self._handles: list[RemovableHandle] = []
        self._owners: dict[int, str] = {}
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero; fan-out maps stay."""
        self._tallies.reset()
        self._watch.missed.clear()
        self._watch.unseen.clear()
        self._used: dict[int, Tensor] = {}

    def result(self) -> SynOps:
        """Counts so far, with every layer of the model listed in its order."""
        layers = self._tallies.layers()
        return SynOps(
            total=sum(layer.synops for layer in layers.values()),
            dense=sum(layer.dense for layer in layers.values()),
            macs=sum(layer.macs for layer in layers.values()),
            dense_macs=sum(layer.dense_macs for layer in layers.values()),
            layers=layers,
            uncounted=self._uncounted(),
        )

    def given(self, inputs: Any) -> None:
        """Say what the model is given, where it is more, or something else, than the arguments of its ``forward``."""
        self._watch.given(inputs, analog=self._analog_input)

    def __enter__(self) -> SynOpsCounter:
        self._start()
        self._handles.append(self._model.register_forward_pre_hook(self._begin, with_kwargs=True))
        self._handles += self._watch.hooks(self._model)
        self._watch.__enter__()  # type: ignore[no-untyped-call]  # torch's
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]  # torch's
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._start()

    def _start(self) -> None:
        self._watch.known.forget()
        self._watch.inside.clear()
        self._tallies.forget()
        self._owners.clear()  # somebody may replace parameters between passes; found again where they are asked for

    def _begin(self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._watch.given((args, kwargs), analog=self._analog_input)

    def _refresh(self) -> None:
        """Which parameters there are, and whose."""
        self._owners = {id(p): "" for p in self._model.parameters()}
        self._owners |= {id(p): name for module, name in self._names.items() for p in module.parameters()}

    def _uncounted(self) -> tuple[str, ...]:
        def is_left(module: nn.Module) -> bool:
            own = module.parameters(recurse=False)
            return not isinstance(module, (*_SYNAPSES, ParametrizationList)) and any(
                p.dim() >= 2 and id(p) not in self._used for p in own
            )

        left = [module for module in self._all_names if is_left(module) or module in self._watch.unseen]
        functions = (f"{self._named(m)} ({name})" for m, name in self._watch.missed if m not in left)
        return (*(self._all_names[module] for module in left), *dict.fromkeys(functions))

    def _named(self, module: nn.Module | None) -> str:
        return self._all_names[self._model if module is None else module]

    @torch.no_grad()
    def _count(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count one product, under the name of the layer that computes it or owns its weight."""
        watch, pair = self._watch, Pair.of_call(name, func, args, kwargs)
        if pair is None:
            watch.miss(name)
            return
        left, right = watch.known.of(pair.left), watch.known.of(pair.right)
        weight = next((m for m in (right, left) if isinstance(m, Weight)), None)
        if not watch.inside and not self._is_own(weight):
            return
        if isinstance(left, Data) and isinstance(right, Data):
            self._tallies.add_data(self._owner(name, None), pair)
        elif name in LAYERS and pair.right.dim() >= 2:
            geometry = Geometry.of_call(name, pair.right, args, kwargs)
            self._tallies.add_layer(self._owner(name, weight), pair.left, pair.right, geometry)
        elif name in LAYERS or isinstance(left, Data) or isinstance(right, Data):
            data_left = name in LAYERS or isinstance(left, Data)
            self._tallies.add_weighted(self._owner(name, weight), pair, data_left=data_left)
        else:
            if weight is not None and (left is None or right is None):
                watch.miss(name)  # either a weight is made up, or of what meets it nothing is known
            return
        self._used |= {} if weight is None else {id(p): p for p in weight.parameters}

    @torch.no_grad()
    def _count_layer(self, module: Any, x: Tensor) -> None:
        """Count a layer of which it is known that it multiplies its input by its weight, and nothing else."""
        self._tallies.add_layer(self._names[module], x, module.weight, Geometry.of_layer(module))
        self._used[id(module.weight)] = module.weight

    def _is_own(self, weight: Weight | None) -> bool:
        """Whether a weight is made of the model's parameters."""
        if weight is not None and not all(id(p) in self._owners for p in weight.parameters):
            self._refresh()
        return weight is not None and any(id(p) in self._owners for p in weight.parameters)

    def _owner(self, function: str, weight: Weight | None) -> str:
        """The layer that runs, or the one that owns the weight; else the module that runs, and the function."""
        module = self._watch.inside[-1][0] if self._watch.inside else None
        if module in self._names:
            return self._names[module]
        owners = [self._owners.get(id(p), "") for p in weight.parameters] if weight and self._is_own(weight) else []
        return next(filter(None, owners), "") or f"{self._named(module)} ({function})"

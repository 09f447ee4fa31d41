"""Following signals through one run of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.signals import Signal, Term
from hw_targets.frontends.torch import functional, functions, layers, matrices, per_neuron, shaping
from hw_targets.frontends.torch.builder import Builder
from hw_targets.frontends.torch.calls import Call
from hw_targets.frontends.torch.evaluation import evaluated
from hw_targets.frontends.torch.frames import shown_as
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import Mark, Moment, Opaque, State, Traced
from hw_targets.frontends.torch.read_check import Recording
from hw_targets.frontends.torch.readout import Readout
from hw_targets.frontends.torch.refusals import reason_against
from hw_targets.frontends.torch.sites import Sites
from hw_targets.ir.network import GradedInput, SpikeInput
from neuroprune.frameworks import Framework, Recurrent, UnsupportedNeuron

#: Functions whose results are parts of one tensor along an axis.
_PARTS = frozenset({"unbind", "chunk", "split", "tensor_split"})


class Tracer(TorchFunctionMode):
    """Runs a model once on an example and builds its network (`network`, without its number of steps).

    What is known of a tensor is kept by its identity and version; tensors are kept alive, so that identity holds.
    """

    def __init__(self, model: nn.Module, framework: Framework, layout: Layout) -> None:
        super().__init__()
        self.model, self.framework, self.layout = model, framework, layout
        self._names = {module: name for name, module in model.named_modules()}
        self.network = Builder("input" if "input" not in self._names.values() else "image")
        self._marks: dict[int, tuple[Tensor, int, Mark]] = {}
        self._inside: list[nn.Module] = []
        self._path: list[nn.Module] = []
        self.recording = Recording()

    @property
    def seen(self) -> int:
        """How many tensors were followed: how far into the model reading went."""
        return len(self._marks)

    def run(self, example: Tensor) -> None:
        """Run the model, in evaluation mode and from a fresh state, and read it out.

        Raises:
            UnsupportedModel: the model does not run, or something it does has no counterpart on the chip.
        """
        self.network.add_input(self.layout.core, shown_as(_input_neuron(example), example, self.layout))
        entry = Signal(self.layout.core, (Term(self.network.entry, self.layout.core),))
        try:
            with evaluated(self.model, self.framework), self._hooks():
                shown = Traced(entry, self.layout.moment, self.layout.input_axes(example))
                self._set(example, shown)
                self.recording.sent(self.network.entry, self.layout.shown(example))
                with self:
                    output = self.model(example)
        except UnsupportedNeuron as error:
            raise UnsupportedModel(f"from_torch: {error}") from error
        except UnsupportedModel:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise UnsupportedModel(self._not_run(example, error)) from error
        Readout(self.network, self.layout).read(output, self._mark_of)

    def _not_run(self, example: Tensor, error: Exception) -> str:
        """Which module failed, and what may help; modules that fail stay on the path."""
        inner = next((m for m in reversed(self._path) if self._names.get(m)), None)
        who = "" if inner is None else f", but fails in {self._names[inner]} ({type(inner).__name__})"
        hints = (hint for m in reversed(self._path) if (hint := self.framework.instead_of_failing(m)) is not None)
        hint = next(hints, "")
        return (
            f"from_torch: the model does not run on an example of shape {tuple(example.shape)}{who}: {error}"
            f"{hint and f'; {hint}'}"
        )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._inside:
            return func(*args, **(kwargs or {}))
        named = {k: v for k, v in (kwargs or {}).items() if v is not None}
        # Before the call, which may write to its arguments.
        known = [(t, m) for t in functions.tensors_of(args, named) if (m := self._mark_of(t)) is not None]
        name = functions.short_name(func) if known else ""
        if name in functions.READS:
            text = (
                f"reads a tensor's values in Python (torch's `{name}`), and what it computes on other inputs may depend"
                " on them; take out branches, prints and conversions that look at values"
            )
            raise UnsupportedModel(f"from_torch: {self._named(text)}")
        result = func(*args, **(kwargs or {}))
        if not known:
            return result
        if isinstance(result, (tuple, list)):
            parts = [p for p in result if isinstance(p, Tensor)]
            places = _places(name, args, named, parts)
            for part, place in zip(parts, places, strict=True):
                whole = name if place is None else "__getitem__"
                self._set(part, self._function(whole, known, args if place is None else (args[0], place), {}, part))
        elif name not in functions.CONSTANTS and (isinstance(result, Tensor) or name == "__setitem__"):
            changed = result if isinstance(result, Tensor) else args[0]
            self._set(changed, self._function(name, known, args, named, changed))
        return result

    def _function(
        self,
        name: str,
        known: list[tuple[Tensor, Mark]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
    ) -> Mark:
        """What a function's result is; if nothing the chip can do, the reason is kept in case the output needs it."""
        try:
            for _, mark in known:
                if isinstance(mark, Opaque):
                    return mark
                if isinstance(mark, State):
                    return functions.of_state(name, mark, args, kwargs, [m for _, m in known])
            carried = [(t, m) for t, m in known if isinstance(m, Traced)]
            if name in functions.PRODUCTS and len(carried) == 2:
                return self.network.product(carried[0][1], carried[1][1])
            called = self._called(name, carried, args, kwargs, result)
            if called is not None:
                return called
            made = functions.apply(Call(name, args, kwargs, result, self.layout, carried))
            return replace(made, layer=self._innermost(name)) if name in matrices.HANDLERS else made
        except UnsupportedModel as error:
            text = str(error).removeprefix("from_torch: ")
            where = reason_against(self._path, self._names, self.framework)
            return Opaque(f"from_torch: {where}" if where else f"from_torch: {self._named(text)}")

    def _innermost(self, name: str) -> str:
        """Name of the innermost module that runs, or, in the model's own forward, of the function."""
        return next((self._names[m] for m in reversed(self._path) if self._names.get(m)), name)

    def _named(self, text: str) -> str:
        """A reason with the module in which it came up."""
        inner = next((m for m in reversed(self._path) if self._names.get(m)), None)
        if inner is None:
            return f"the model ({type(self.model).__name__}) {text.removeprefix('the model ')}"
        who = f"{self._names[inner]} ({type(inner).__name__})"
        return f"{who} {text.removeprefix('the model ')}"

    def _called(
        self,
        name: str,
        carried: list[tuple[Tensor, Traced]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
    ) -> Traced | None:
        """A layer called as a function; None for any other function."""
        pool = functional.MAX_POOLS.get(name)
        function = pool or functional.FUNCTIONS.get(name)
        if function is None or len(carried) != 1:
            return None
        module = functional.as_module(function, args, kwargs)
        tensor, mark = carried[0][0], functions.linear(carried[0][1])
        if mark.after:
            return None
        sites = Sites(self.layout)
        if pool is not None:
            spikes, rescaled = self._spikes(mark)
            return rescaled(self.network.add_pool(sites.through(spikes, tensor, pool, module, result)))
        if name in functional.WEIGHTED:
            mark = replace(mark, layer=self._innermost(name))
        return sites.through(mark, tensor, function, module, result)

    def _mark_of(self, value: Any) -> Mark | None:
        if id(value) not in self._marks:
            return None
        tensor, version, mark = self._marks[id(value)]
        if tensor._version != version:
            return Opaque("from_torch: the model writes to a tensor in place that it uses elsewhere; write to a clone")
        return mark

    def _set(self, tensor: Tensor, mark: Mark) -> None:
        self._marks[id(tensor)] = (tensor, tensor._version, mark)
        if self.layout.steps == 0 and isinstance(mark, Traced) and (steps := _steps_in(tensor, mark, self.layout)):
            self.layout = replace(self.layout, steps=steps)

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        handles: list[Any] = []
        for module in self._names:
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _is_read(self, module: nn.Module) -> bool:
        """Whether a module is read as a whole; of any other the functions that it calls are."""
        if self.framework.is_neuron(module) or self.framework.recurrent(module) is not None:
            return True
        if self.framework.is_own_layer(module):
            return True
        known = layers.kind_of(module) is not None or isinstance(module, layers.FLATTENS)
        return known and layers.is_plain(module, self.framework.is_plain_layer(module))

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._path.append(module)
        if self._inside or self._is_read(module):
            self._inside.append(module)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self._path.pop()
        if not self._inside:
            return
        try:
            if len(self._inside) == 1:
                self._record(self._names[module], module, [*args, *kwargs.values()], output)
        finally:
            self._inside.pop()

    def _record(self, name: str, module: nn.Module, inputs: list[Any], output: Any) -> None:
        mark, is_neuron = self._mark_of(inputs[0]) if inputs else None, self.framework.is_neuron(module)
        if is_neuron:
            self._refuse_unknown(name, module)
        if isinstance(mark, Opaque):
            raise UnsupportedModel(mark.reason)
        if isinstance(mark, Traced) and mark.after:
            raise UnsupportedModel(
                f"from_torch: {name} comes after torch's `{mark.after[-1]}`, which does not exist on the chip; end the"
                " model there, or leave it out"
            )
        if not isinstance(mark, Traced) or (len(inputs) != 1 and not is_neuron):
            raise UnsupportedModel(
                f"from_torch: {name} is called on something that was not computed from the model's input"
            )
        mark = functions.linear(mark)
        try:
            if is_neuron:
                self._neuron(name, module, inputs, mark, output)
            elif (block := self.framework.recurrent(module)) is not None:
                self._recurrent(module, block, mark, inputs[0], output)
            else:
                self._layer(name, module, mark, inputs[0], output)
        except (UnsupportedModel, UnsupportedNeuron) as error:
            text = str(error).removeprefix("from_torch: ")
            raise UnsupportedModel(f"from_torch: {name} {text.removeprefix('the model ')}") from error

    def _refuse_unknown(self, name: str, module: nn.Module) -> None:
        """Neurons that are not supported, whatever they are given."""
        try:
            self.framework.equation(module)
        except UnsupportedNeuron as error:
            raise UnsupportedModel(f"from_torch: {name} {error}") from error

    def _layer(self, name: str, module: nn.Module, mark: Traced, tensor: Tensor, output: Tensor) -> None:
        if isinstance(module, layers.FLATTENS):
            self._set(output, shaping.through_flatten(mark, module, self.layout, tuple(output.shape)))
            return
        mark = shaping.flattened(mark, self.layout)
        plain = self.framework.one_step_layer(module, mark.signal.shape)
        kind, sites = layers.kind_of(plain), Sites(self.layout)
        if kind is None:
            raise UnsupportedModel(f"is a {type(module).__name__}, which has no counterpart on the chip")
        if kind in layers.MAX_POOLS:
            spikes, rescaled = self._spikes(mark)
            counted = sites.through(spikes, tensor, kind, plain, output)
            self._set(output, rescaled(self.network.add_pool(counted, name)))
            return
        if isinstance(plain, layers.WEIGHTED):
            mark = replace(mark, layer=name)
        self._set(output, sites.through(mark, tensor, kind, plain, output))

    def _spikes(self, mark: Traced) -> tuple[Traced, Callable[[Traced], Traced]]:
        """The spikes in what a max-pool gets, and what turns those it sends into what it returns.

        Raises:
            UnsupportedModel: it gets something else than spikes, perhaps scaled.
        """
        scaled = signals.unscaled(mark.signal)
        if scaled is None:
            self.network.check_spikes(mark.signal)
            return mark, lambda pooled: pooled
        spikes, gain, shift = scaled
        self.network.check_spikes(spikes)
        return replace(mark, signal=spikes), lambda pooled: replace(
            pooled, signal=signals.scale(pooled.signal, gain, shift)
        )

    def _neuron(self, name: str, module: nn.Module, inputs: list[Any], mark: Traced, output: Any) -> None:
        mark = Sites(self.layout).driving(mark, inputs[0], self.framework.neuron_time_axis(module))
        if self.layout.steps == 0 and mark.moment.kind == "all":
            self.layout = replace(self.layout, steps=1)
        spikes, *states = output if isinstance(output, (tuple, list)) else (output,)
        block = self.framework.recurrent(module)
        self._check_states(name, inputs[1:], recurrent=block is not None)
        call, equation = self.network.calls.get(name, 0), self.framework.equation(module)
        gains = per_neuron.gains(equation, mark.signal.shape)
        if block is None:
            shape = (-1, *[1] * (len(mark.signal.shape) - 1))
            current = self.layout.first_sample(inputs[0], mark)
            self.recording.driven(name, current * torch.from_numpy(gains).to(current).reshape(shape))
        elif (bias := getattr(block.feedback, "bias", None)) is not None:
            mark = replace(mark, signal=signals.shifted(mark.signal, layers.array(bias)))
        self._set_spikes(name, spikes, self.network.add_neurons(name, mark, equation))
        if block is not None and block.feedback is not None:
            self.network.add_feedback(name, block.feedback, gains)
        for index, state in enumerate(states):
            self._set(state, State(name, call, index, is_potential=index == len(states) - 1))

    def _check_states(self, name: str, given: list[Any], *, recurrent: bool) -> None:
        """Refuse states that are not those of the step before; of recurrent neurons the first are their own spikes."""
        call = self.network.calls.get(name, 0)
        for index, state in enumerate(given, -1 if recurrent else 0):
            mark = self._mark_of(state)
            starts = call == 0 and mark is None and isinstance(state, Tensor) and not bool(state.any())
            own = isinstance(mark, State) and (mark.neuron, mark.call, mark.index) == (name, call - 1, index)
            if index < 0:
                own = isinstance(mark, Traced) and mark.signal.is_only(name) and mark.moment == Moment("step", call - 1)
            if state is not None and not (own or starts):
                raise UnsupportedModel(
                    "is given a state that is not the one it returned in the step before; start from zero and pass the"
                    " state on unchanged, and give each layer its own neurons"
                )

    def _recurrent(self, module: nn.Module, block: Recurrent, mark: Traced, driven: Tensor, output: Tensor) -> None:
        sites = Sites(self.layout)
        mark = sites.driving(mark, driven, self.framework.neuron_time_axis(module))
        current = mark
        if block.input is not None:
            kind = layers.kind_of(block.input)
            assert kind is not None
            current = sites.through(mark, driven, kind, block.input, output)
        name, equation = self._names[block.neuron], self.framework.equation(block.neuron)
        sent = self.network.add_neurons(name, current, equation)
        if block.feedback is not None:
            self.network.add_feedback(name, block.feedback, per_neuron.gains(equation, current.signal.shape))
        self._set_spikes(name, output, sent)

    def _set_spikes(self, name: str, tensor: Tensor, mark: Traced) -> None:
        self.recording.sent(name, self.layout.first_sample(tensor, mark))
        self._set(tensor, mark)


def _places(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], parts: list[Tensor]) -> list[Any]:
    """Indices of the parts that a function divides a tensor into; None for each where it does something else."""
    if name not in _PARTS:
        return [None] * len(parts)
    given = args[1:] if name == "unbind" else args[2:]
    axis = int(given[0] if given else kwargs.get("dim", 0)) % args[0].dim()
    before = (slice(None),) * axis
    if name == "unbind":
        return [(*before, i) for i in range(len(parts))]
    ends = list(accumulate(int(p.shape[axis]) for p in parts))
    return [(*before, slice(end - int(p.shape[axis]), end)) for end, p in zip(ends, parts, strict=True)]


def _steps_in(tensor: Tensor, mark: Traced, layout: Layout) -> int:
    """Size of the axis of time, where the tensor has one."""
    for place, held in enumerate(mark.axes):
        if "T" in held:
            return int(tensor.shape[place]) // (layout.batch if "N" in held else 1)
    return 0


def _input_neuron(example: Tensor) -> GradedInput | SpikeInput:
    low, high = float(example.min()), float(example.max())
    if low >= 0.0 and bool((example == example.round()).all()):
        return SpikeInput(max(1, int(high)))
    if not (low >= 0.0 and high <= 1.0):
        raise UnsupportedModel(
            f"from_torch: the example's values span {low:.3g} … {high:.3g}, but the chip takes integers 0 … 255 that"
            " stand for 0 … 1; train on images in 0 … 1 and let the first batch-norm do the normalisation"
        )
    return GradedInput()

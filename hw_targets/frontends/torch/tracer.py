"""Following signals through one run of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.signals import Signal, Term
from hw_targets.frontends.torch import functions, layers, per_neuron
from hw_targets.frontends.torch.builder import Builder
from hw_targets.frontends.torch.evaluation import evaluated
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import ALL, EVERY, Mark, Moment, Opaque, State, Traced, in_steps, stacked
from hw_targets.frontends.torch.read_check import Recording
from hw_targets.ir.network import LIF, Accumulator, GradedInput, SpikeInput
from neuroprune.frameworks import Framework, Recurrent, UnsupportedNeuron


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
        self._last_layer = "output"
        self.recording = Recording()

    def run(self, example: Tensor) -> None:
        """Run the model, in evaluation mode and from a fresh state, and read it out.

        Raises:
            UnsupportedModel: the model does not run, or something it does has no counterpart on the chip.
        """
        self.network.add_input(self.layout.core, _input_neuron(example))
        entry = Signal(self.layout.core, (Term(self.network.entry, self.layout.core),))
        try:
            with evaluated(self.model, self.framework), self._hooks():
                shown = Traced(entry, ALL if self.layout.has_all_steps else EVERY)
                self._set(example, shown)
                self.recording.sent(self.network.entry, self.layout.first_sample(example, shown))
                with self:
                    output = self.model(example)
        except UnsupportedNeuron as error:
            raise UnsupportedModel(f"from_torch: {error}") from error
        except UnsupportedModel:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise UnsupportedModel(
                f"from_torch: the model does not run on an example of shape {tuple(example.shape)}: {error}"
            ) from error
        self._read_out(self._output_mark(output))

    def _output_mark(self, output: Any) -> Traced | State:
        """Of what the model returns, the one that is no state of a neuron."""
        if isinstance(output, (tuple, list)) and len(output) > 1:
            marks = [self._mark_of(part) for part in output]
            known = [m for m in marks if isinstance(m, Traced)]
            opaque = [m for m in marks if isinstance(m, Opaque)]
            if len(known) == 1:
                return self._instead_of_silence(known[0], marks)
            if len(known) == len(output) and (whole := stacked(known)) is not None:
                return whole
            states = [m for m in marks if isinstance(m, State)]
            if len(states) == len(output):
                # One potential in every step, or the states of the last neurons, the potential last.
                return in_steps(states) or states[-1]
            if not known and opaque:
                raise UnsupportedModel(opaque[0].reason)
            raise UnsupportedModel(
                f"from_torch: the model returns {len(output)} things of which {len(known)} are spikes or currents; it"
                " must return one tensor computed from its input, besides the states of neurons"
            )
        mark = self._mark_of(output)
        if isinstance(mark, Opaque):
            raise UnsupportedModel(mark.reason)
        if not isinstance(mark, (Traced, State)):
            raise UnsupportedModel("from_torch: the model must return one tensor computed from its input")
        return mark

    def _instead_of_silence(self, spikes: Traced, marks: list[Mark | None]) -> Traced | State:
        """Of neurons that can never fire, the potential that the model returns beside their spikes."""
        states = [m for m in marks if isinstance(m, State) and spikes.signal.is_only(m.neuron) and m.is_potential]
        return states[-1] if states and self.network.is_silent(states[-1].neuron) else spikes

    def _read_out(self, mark: Traced | State) -> None:
        """Turn what the model returns into an accumulator, unless it is the spikes of one population."""
        if isinstance(mark, State):
            self.network.read_potential(mark, self.network.calls[mark.neuron])
            return
        loops = self.layout.per_call is None
        steps = self.network.steps if loops else self.layout.steps
        one_step = loops and self.layout.lead == 1 and steps <= 1
        whole = mark.moment == ALL or (mark.moment.is_reduced and mark.moment.number == steps)
        if mark.complement or not (whole or one_step):
            raise UnsupportedModel(
                f"from_torch: the model returns {mark.moment}{' of 1 − spikes' if mark.complement else ''}, not all"
                " steps; return torch.stack of every step's output, or their sum or mean"
            )
        signal = mark.signal
        if signal.is_spikes and len(signal.terms) == 1 and signal.terms[0].source != self.network.entry:
            name = signal.terms[0].source
            if self.network.is_silent(name):
                raise UnsupportedModel(
                    f"from_torch: {name} has an infinite threshold and never fires; return its potential"
                )
            self.network.keep_only(name)
            return
        self.network.add(self._last_layer, Traced(signal, ALL), Accumulator())
        self.network.keep_only(self._last_layer)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._inside:
            return func(*args, **(kwargs or {}))
        named = {k: v for k, v in (kwargs or {}).items() if v is not None}
        # Before the call, which may write to its arguments.
        marks = [m for t in functions.tensors_of(args, named) if (m := self._mark_of(t)) is not None]
        result = func(*args, **(kwargs or {}))
        if marks:
            name = functions.short_name(func)
            if isinstance(result, (tuple, list)):
                for step, part in enumerate(p for p in result if isinstance(p, Tensor)):
                    index = (args[0], step) if name == "unbind" and args[1:] in ((), (0,)) and not named else ()
                    self._set(part, self._function("__getitem__" if index else name, marks, index, {}, part))
            elif name not in functions.CONSTANTS and (isinstance(result, Tensor) or name == "__setitem__"):
                changed = result if isinstance(result, Tensor) else args[0]
                self._set(changed, self._function(name, marks, args, named, changed))
        return result

    def _function(
        self, name: str, marks: list[Mark], args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
    ) -> Mark:
        """What a function's result is; if nothing the chip can do, the reason is kept in case the output needs it."""
        try:
            for mark in marks:
                if isinstance(mark, Opaque):
                    return mark
                if isinstance(mark, State):
                    return functions.of_state(name, mark, args, kwargs, marks)
            traced = [m for m in marks if isinstance(m, Traced)]
            if name in functions.PRODUCTS and len(traced) == 2:
                return self.network.product(*traced)
            if name in ("mean", "sum") and not self.layout.has_time(args[0], traced[0].moment):
                raise functions.unsupported(name)
            return functions.apply(name, traced, args, kwargs, result, self.layout)
        except UnsupportedModel as error:
            text = str(error)
            return Opaque(text if text.startswith("from_torch: ") else f"from_torch: the model {text}")

    def _mark_of(self, value: Any) -> Mark | None:
        if id(value) not in self._marks:
            return None
        tensor, version, mark = self._marks[id(value)]
        if tensor._version != version:
            return Opaque("from_torch: the model writes to a tensor in place that it uses elsewhere; write to a clone")
        return mark

    def _set(self, tensor: Tensor, mark: Mark) -> None:
        self._marks[id(tensor)] = (tensor, tensor._version, mark)

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        handles: list[Any] = []
        for module in self._names:
            if self._is_read(module):
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _is_read(self, module: nn.Module) -> bool:
        if self.framework.is_neuron(module) or isinstance(module, layers.MAX_POOLS):
            return True
        if self.framework.recurrent(module) is not None:
            return True
        known = tuple(kind for kind, _ in layers.LAYERS)
        return isinstance(module, known) or self.framework.is_own_layer(module)

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._inside.append(module)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        try:
            if len(self._inside) == 1:
                self._record(self._names[module], module, [*args, *kwargs.values()], output)
        finally:
            self._inside.pop()

    def _record(self, name: str, module: nn.Module, inputs: list[Any], output: Any) -> None:
        mark = self._mark_of(inputs[0]) if inputs else None
        if isinstance(mark, Opaque):
            raise UnsupportedModel(mark.reason)
        is_neuron = self.framework.is_neuron(module)
        if not isinstance(mark, Traced) or mark.complement or (len(inputs) != 1 and not is_neuron):
            if is_neuron:
                self._refuse_unknown(name, module)
            raise UnsupportedModel(
                f"from_torch: {name} is called on something that was not computed from the model's input"
            )
        try:
            if is_neuron:
                self._neuron(name, module, inputs, mark, output)
            elif (block := self.framework.recurrent(module)) is not None:
                self._recurrent(block, inputs[0], mark, output)
            elif isinstance(module, layers.MAX_POOLS) and layers.is_plain(
                module, self.framework.is_plain_layer(module)
            ):
                self.layout.check_time(inputs[0], mark)
                pooled = layers.any_spike(
                    module, self.network.binary(mark.signal), self.layout.output(output, mark.moment)
                )
                self._set_spikes(name, output, self.network.add(name, Traced(pooled, mark.moment), LIF(1.0)))
            else:
                self._layer(name, module, mark, output)
        except (UnsupportedModel, UnsupportedNeuron) as error:
            raise UnsupportedModel(f"from_torch: {name} {error}") from error

    def _refuse_unknown(self, name: str, module: nn.Module) -> None:
        """Neurons that are not supported may take other things than one current; then that is what to say."""
        try:
            self.framework.equation(module)
        except UnsupportedNeuron as error:
            raise UnsupportedModel(f"from_torch: {name} {error}") from error

    def _layer(self, name: str, module: nn.Module, mark: Traced, output: Tensor) -> None:
        plain = self.framework.one_step_layer(module, mark.signal.shape)
        vouched = plain is not module or self.framework.is_plain_layer(module)
        signal = layers.apply(plain, vouched, mark.signal, self.layout.output(output, mark.moment))
        if mark.moment.kind == "sum" and signal.bias is not None:
            raise UnsupportedModel("adds its bias to a sum over steps, once; take the mean, or sum up after it")
        if isinstance(plain, layers.WEIGHTED):
            self._last_layer = name
        self._set(output, Traced(signal, mark.moment))

    def _neuron(self, name: str, module: nn.Module, inputs: list[Any], mark: Traced, output: Any) -> None:
        self.layout.check_time(inputs[0], mark)
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
                    " state on unchanged"
                )

    def _recurrent(self, block: Recurrent, driven: Tensor, mark: Traced, output: Tensor) -> None:
        assert block.input is not None
        self.layout.check_time(driven, mark)
        current = layers.apply(block.input, True, mark.signal, self.layout.output(output, mark.moment))
        name, equation = self._names[block.neuron], self.framework.equation(block.neuron)
        sent = self.network.add_neurons(name, Traced(current, mark.moment), equation)
        if block.feedback is not None:
            self.network.add_feedback(name, block.feedback, per_neuron.gains(equation, current.shape))
        self._set_spikes(name, output, sent)

    def _set_spikes(self, name: str, tensor: Tensor, mark: Traced) -> None:
        self.recording.sent(name, self.layout.first_sample(tensor, mark))
        self._set(tensor, mark)


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

"""A trained PyTorch model, exactly as it is, to a `Network`.

The model runs once on an example. Layers and neurons report what they did through module hooks, and the tensor
operations between them are watched through `__torch_function__`; so any Python control flow in `forward` is fine, and
anything that was not understood is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from hw_targets import _torch_layers as layers
from hw_targets import signals
from hw_targets.errors import UnsupportedModel
from hw_targets.network import LIF, Accumulator, Conv2d, GradedInput, Network, Population, SpikeInput, Synapses
from hw_targets.signals import Signal, Term
from neuroprune.backends import Backend, UnsupportedNeuron, backend_of


def from_torch(model: nn.Module, example_input: Tensor, *, time_steps: int | None = None) -> Network:
    """Read the populations and synapses of a spiking model, batch-norm folded, in evaluation mode.

    Args:
        model: a network of supported layers (Conv2d, Linear, BatchNorm, max-, average- and adaptive average pools,
            flatten, dropout) and of a backend's neurons; it is left in the mode and state it was in, its neurons reset.
        example_input: what the model takes: (T, N, C, H, W) for multi-step models, (N, C, H, W) for one step of a
            single-step model. Values 0/1 are spikes; others must lie in 0…1 and enter the chip as 8-bit integers.
        time_steps: T, the steps a sample lasts; needed for single-step models only.

    Returns:
        Network: populations are named after the neuron modules; a final linear layer becomes an `Accumulator`.

    Raises:
        UnsupportedModel: a layer, neuron or tensor operation without an exact counterpart; the message names it.
    """
    backend = backend_of(model)
    if backend is None:
        raise UnsupportedModel(
            "from_torch: the model has no spiking neurons of a known framework; convert it to a spiking network first"
        )
    try:
        multi_step = backend.time_axis(model) == 0
    except UnsupportedNeuron as error:
        raise UnsupportedModel(f"from_torch: {error}") from error
    if not multi_step and time_steps is None:
        raise UnsupportedModel(
            "from_torch: the model takes one time step per call; say how many a sample lasts, time_steps=..."
        )
    tracer = _Tracer(model, backend, lead=2 if multi_step else 1)
    output = tracer.run(example_input)
    steps = len(example_input) if multi_step else time_steps
    assert steps is not None
    tracer.read_out(output)
    return Network(tuple(tracer.populations), tuple(tracer.synapses), time_steps=steps)


class _Tracer(TorchFunctionMode):
    """Follows signals through one forward pass. Signals are kept per tensor, by identity."""

    def __init__(self, model: nn.Module, backend: Backend, lead: int) -> None:
        super().__init__()
        self.model = model
        self.backend = backend
        self.lead = lead
        self.populations: list[Population] = []
        self.synapses: list[Synapses] = []
        self._signals: dict[int, tuple[Tensor, Signal]] = {}
        self._names = {module: name for name, module in model.named_modules()}
        self._inside: list[str] = []
        self._last_layer = "output"
        self._entry = "input" if "input" not in self._names.values() else "image"
        self._batch: tuple[int, ...] = ()

    def run(self, example: Tensor) -> Tensor:
        """Run the model on the example and return its output."""
        shape = tuple(example.shape[self.lead :])
        if len(shape) not in (1, 3):
            raise UnsupportedModel(
                f"from_torch: example_input has shape {tuple(example.shape)}; expected"
                f" {'(T, N, C, H, W) or (T, N, F)' if self.lead == 2 else '(N, C, H, W) or (N, F)'}"
            )
        self._batch = tuple(example.shape[: self.lead])
        self.populations.append(Population(self._entry, shape, _input_neuron(example)))
        modes = {module: module.training for module in self.model.modules()}
        self.backend.reset(self.model)
        self.model.eval()
        try:
            with torch.no_grad(), self._hooks():
                self._set(example, Signal(shape, (Term(self._entry, shape),)))
                with self:
                    output = self.model(example)
        except UnsupportedNeuron as error:
            raise UnsupportedModel(f"from_torch: {error}") from error
        except RuntimeError as error:
            raise UnsupportedModel(
                f"from_torch: the model does not run on an example of shape {tuple(example.shape)}: {error}"
            ) from error
        finally:
            for module, training in modes.items():
                module.training = training
            self.backend.reset(self.model)
        if not isinstance(output, Tensor) or id(output) not in self._signals:
            raise UnsupportedModel("from_torch: the model must return one tensor computed from its input")
        return output

    def read_out(self, output: Tensor) -> None:
        """Turn what the model returns into an accumulator, unless it is the spikes of one population."""
        signal = self._signals[id(output)][1]
        if signal.is_spikes and len(signal.terms) == 1 and signal.terms[0].source != self._entry:
            return
        self._population(self._last_layer, signal, Accumulator())

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._inside:
            return result
        tensors = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor) and id(a) in self._signals]
        if tensors and (isinstance(result, Tensor) or _name(func) == "__setitem__"):
            self._set(result, self._function(_name(func), tensors, args, kwargs or {}, result))
        return result

    def _function(
        self, name: str, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
    ) -> Signal:
        known = [self._signals[id(t)][1] for t in tensors]
        if name in _SAME and result.shape == tensors[0].shape and torch.equal(result.to(tensors[0].dtype), tensors[0]):
            return known[0]
        if name in _ADDITIONS and len(known) == 2 and len(args) == 2 and not kwargs:
            return signals.add(known[0], known[1])
        if name == "mean" and self._has_time(tensors[0]) and (args[1:], kwargs) in (((0,), {}), ((), {"dim": 0})):
            return known[0]
        if name in _RESHAPES:
            return layers.reshaped(known[0], result)
        raise UnsupportedModel(
            f"from_torch: the model applies torch's `{name}` between its layers, which has no counterpart on the chip;"
            " supported are addition, flatten and reshape, and the mean over time"
        )

    def _has_time(self, tensor: Tensor) -> bool:
        return self.lead == 2 and tuple(tensor.shape[:2]) == self._batch

    def _set(self, tensor: Tensor, signal: Signal) -> None:
        # The tensor is kept alive, so that its identity stays unique.
        self._signals[id(tensor)] = (tensor, signal)

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        handles: list[Any] = []
        for module in self._names:
            if self._handler(module) is not None:
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._inside.append(self._names[module])

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name = self._inside.pop()
        if self._inside:
            return
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or id(inputs[0]) not in self._signals:
            raise UnsupportedModel(
                f"from_torch: {name} is called on something that was not computed from the model's input"
            )
        handler = self._handler(module)
        assert handler is not None
        signal = self._signals[id(inputs[0])][1]
        try:
            if self.backend.is_neuron(module) or isinstance(module, nn.MaxPool2d):
                self._check_time(inputs[0], signal)
            self._set(output, handler(name, module, signal, output))
        except (UnsupportedModel, UnsupportedNeuron) as error:
            raise UnsupportedModel(f"from_torch: {name} {error}") from error

    def _check_time(self, tensor: Tensor, signal: Signal) -> None:
        # A max-pool may see time and batch as one axis (SeqToANNContainer); neurons need time as it is.
        merged = (self._batch[0] * self._batch[-1],) if self.lead == 2 else self._batch
        before = tuple(tensor.shape[: tensor.dim() - len(signal.shape)])
        if before not in (self._batch, merged if len(signal.shape) == 3 else self._batch):
            raise UnsupportedModel(
                f"sees an input of shape {tuple(tensor.shape)}, without the time steps of the model's input; take the"
                " mean over time after the last neurons"
            )

    def _handler(self, module: nn.Module) -> Callable[[str, Any, Signal, Tensor], Signal] | None:
        if self.backend.is_neuron(module):
            return self._neuron
        for kind, handler in (
            (nn.Conv2d, self._conv),
            (nn.Linear, self._linear),
            (nn.BatchNorm1d, layers.batch_norm),
            (nn.BatchNorm2d, layers.batch_norm),
            (nn.BatchNorm3d, layers.batch_norm),
            (nn.MaxPool2d, self._max_pool),
            (nn.AvgPool2d, layers.average_pool),
            (nn.AdaptiveAvgPool2d, layers.average_pool),
            (nn.Identity, layers.unchanged),
            (nn.Dropout, layers.unchanged),
            (nn.Dropout2d, layers.unchanged),
            (nn.Flatten, layers.flatten),
        ):
            # A subclass with a forward of its own may compute anything, unless its framework vouches for it.
            if isinstance(module, kind):
                plain = type(module).forward is kind.forward or self.backend.is_plain_layer(module)
                return handler if plain else layers.refuse
        return None

    def _conv(self, name: str, module: nn.Conv2d, signal: Signal, output: Tensor) -> Signal:
        if module.padding_mode != "zeros":
            raise UnsupportedModel(f"pads with {module.padding_mode}; only zero padding exists on the chip")
        weight, padding = layers.array(module.weight), layers.padding(module)
        op = Conv2d(weight, layers.pair(module.stride), padding, layers.pair(module.dilation), module.groups)
        self._last_layer = name
        return signals.conv(signal, op, layers.optional(module.bias), tuple(output.shape[-3:]))

    def _linear(self, name: str, module: nn.Linear, signal: Signal, _: Tensor) -> Signal:
        if len(signal.shape) != 1:
            raise UnsupportedModel(f"takes an input of shape {signal.shape}; flatten it first")
        self._last_layer = name
        return signals.dense(signal, layers.array(module.weight), layers.optional(module.bias))

    def _max_pool(self, name: str, module: nn.MaxPool2d, signal: Signal, output: Tensor) -> Signal:
        """Over binary spikes the maximum is an OR: an integrate-and-fire neuron that any one spike makes fire."""
        if not signal.is_spikes or len(signal.terms) != 1 or not self._is_binary(signal.terms[0].source):
            raise UnsupportedModel(
                "max-pools something other than the spikes of one layer (a sum of spikes, currents or an image), where"
                " the maximum is no OR; move the pool straight after neurons, or use an average pool"
            )
        channels, shape = signal.shape[0], tuple(output.shape[-3:])
        weight = np.ones((channels, 1, *layers.pair(module.kernel_size)))
        op = Conv2d(
            weight, layers.pair(module.stride), layers.pair(module.padding), layers.pair(module.dilation), channels
        )
        if op.output_shape(signal.shape) != shape:
            raise UnsupportedModel("max-pools with ceil_mode; use a kernel that tiles the input")
        return self._population(name, signals.conv(signal, op, None, shape), LIF(1.0))

    def _neuron(self, name: str, module: nn.Module, signal: Signal, _: Tensor) -> Signal:
        equation = self.backend.equation(module)
        gain = np.full(signal.shape[0], equation.input_gain)
        driven = signal if equation.input_gain == 1.0 else signals.scale(signal, gain)
        return self._population(name, driven, LIF(equation.v_threshold, equation.v_decay))

    def _is_binary(self, population: str) -> bool:
        return not isinstance(next(p for p in self.populations if p.name == population).neuron, GradedInput)

    def _population(self, name: str, signal: Signal, neuron: LIF | Accumulator) -> Signal:
        if any(p.name == name for p in self.populations):
            raise UnsupportedModel("is called twice in one pass; give each use its own neurons")
        self.populations.append(Population(name, signal.shape, neuron, signal.bias))
        for source in dict.fromkeys(t.source for t in signal.terms):
            ops = [signals.as_op(t) for t in signal.terms if t.source == source]
            self.synapses += [Synapses(source, name, op) for op in ops]
        return Signal(signal.shape, (Term(name, signal.shape),))


#: Operations that leave every value as it is; whether they did is checked on the example.
_SAME = frozenset({"clone", "contiguous", "detach", "to", "float", "double", "data", "dropout"})
_ADDITIONS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})
_RESHAPES = frozenset({"flatten", "reshape", "view", "unflatten", "squeeze", "unsqueeze"})


def _name(func: Callable[..., Any]) -> str:
    """Short name of a torch function; of an attribute (`x.data`), the attribute's."""
    name: str = resolve_name(func) or getattr(func, "__name__", str(func))
    parts = name.split(".")
    return parts[-2] if parts[-1] == "__get__" and len(parts) > 1 else parts[-1]


def _input_neuron(example: Tensor) -> GradedInput | SpikeInput:
    if bool(((example == 0) | (example == 1)).all()):
        return SpikeInput()
    low, high = float(example.min()), float(example.max())
    if not (low >= 0.0 and high <= 1.0):
        raise UnsupportedModel(
            f"from_torch: the example's values span {low:.3g} … {high:.3g}, but the chip takes integers 0 … 255 that"
            " stand for 0 … 1; train on images in 0 … 1 and let the first batch-norm do the normalisation"
        )
    return GradedInput()

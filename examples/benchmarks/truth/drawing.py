"""Torch models made up at random, from a tape."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from examples.benchmarks.truth.models import Block, Model, Net, Value
from examples.benchmarks.truth.neurons import draw_neuron
from examples.benchmarks.truth.tape import Tape, sparse, sparsity_kind

#: How modules are driven: all steps at once, one step per call (both SpikingJelly), one step per call with hidden
#: states, or in the model's own loop (both snnTorch).
LAYOUTS = ("multi-step", "single-step", "hidden", "loop")


def draw_steps(tape: Tape) -> int:
    """T of 1 … 64, mostly few."""
    return tape.choice(1, *[tape.integer(2, 8)] * 8, tape.integer(9, 20), tape.integer(21, 64))


def draw_model(tape: Tape, *, most_steps: int = 64) -> Model:
    """A whole network, its input and what is in it."""
    layout = tape.choice(*LAYOUTS)
    graded, steps, samples = tape.chance(50), min(most_steps, draw_steps(tape)), tape.integer(1, 3)
    flat = tape.chance(20)
    shape = (
        (tape.integer(1, 10),)
        if flat
        else (tape.integer(1, 3), *[tape.choice(tape.integer(1, 6), 4, 6, 6) for _ in "hw"])
    )
    numbers = tape.numbers()
    values = torch.from_numpy(numbers.integers(0, 256 if graded else 2, (steps, samples, *shape)))
    model = Model(Net(layout), values, graded, [f"{layout}, {'images' if graded else 'spikes'} {shape}, T = {steps}"])
    maker = _Maker(tape, model, [Value(shape, frozenset({"input"}))])
    for _ in range(tape.integer(1, 5)):
        maker.add_block()
    if tape.chance(60):
        maker.add_readout()
    model.features.update([layout, "images" if graded else "spikes", _steps_kind(steps)])
    model.features["more than one sample"] += samples > 1
    _set_mode(model.net)
    model.net.double().eval()
    return model


def _steps_kind(steps: int) -> str:
    return "T = 1" if steps == 1 else "T of 2 … 8" if steps <= 8 else "T of 9 … 20" if steps <= 20 else "T of 21 … 64"


def _set_mode(net: Net) -> None:
    if net.layout in ("multi-step", "single-step"):
        from spikingjelly.activation_based import functional

        functional.set_step_mode(net, "m" if net.layout == "multi-step" else "s")


class _Maker:
    """Adds one block after the other to a model."""

    def __init__(self, tape: Tape, model: Model, values: list[Value]) -> None:
        self.tape, self.model, self.values = tape, model, values
        if model.net.layout in ("multi-step", "single-step"):
            from spikingjelly.activation_based import layer

            self.layers: Any = layer
        else:
            self.layers = nn

    def add_block(self) -> None:
        """A layer of neurons that reads the last value, perhaps pooled, and joins an earlier one."""
        index, tape = len(self.model.net.blocks), self.tape
        value, words = self.values[-1], [f"block {index}:"]
        pool, value = self._pool(index, value, words)
        make_neuron, lasting, name = draw_neuron(tape, self.model.net.layout)
        has_bias, has_norm = tape.chance(50) and not lasting, tape.chance(30) and not lasting
        convolves = len(value.shape) == 3 and tape.chance(75)
        if convolves:
            shape = self._conv(index, value, bias=has_bias, words=words)
        else:
            outputs = tape.choice(tape.integer(1, 8), value.shape[0])
            shape = self._linear(index, value, outputs, bias=has_bias, words=words)
        if has_norm:
            self._norm(index, shape, words)
        side = self._side(index, shape, value, words, bias=has_bias) if convolves else None
        self._add(f"fire{index}", make_neuron())
        self._say(words, name)
        sent = Value(shape, frozenset({f"fire{index}"}))
        join, other, sent = self._join(sent, words)
        flattened = f"flat{index}" in self.model.net.parts
        sources = len(value.sources)
        self.model.net.blocks.append(Block(pool, flattened, side, join, other, sources))
        self.values.append(sent)
        self.model.description.append(" ".join(words))

    def add_readout(self) -> None:
        """A linear layer whose currents are the output."""
        index, words = len(self.model.net.blocks), ["readout:"]
        _, value = self._pool(index, self.values[-1], words)
        self._linear(index, value, self.tape.integer(1, 4), bias=self.tape.chance(50), words=words)
        self.model.features["readout"] += 1
        self.model.description.append(" ".join(words))

    def _add(self, name: str, module: nn.Module) -> None:
        self.model.net.parts[name] = module

    def _say(self, words: list[str], *features: str) -> None:
        words += features
        self.model.features.update(features)

    def _pool(self, index: int, value: Value, words: list[str]) -> tuple[int, Value]:
        """Perhaps a pool of spikes of whole windows: its size (0 for none), and what leaves it."""
        if len(value.shape) != 3 or len(self.values) == 1 or min(value.shape[1:]) < 2:
            return 0, value
        if not self.tape.chance(45):
            return 0, value
        size = self.tape.choice(*[k for k in (2, 3) if not any(n % k for n in value.shape[1:])] or [0])
        if not size:
            return 0, value
        shape = (value.shape[0], *[n // size for n in value.shape[1:]])
        if value.binary and self.tape.chance(40):
            self._add(f"pool{index}", self.layers.MaxPool2d(size))
            self._say(words, "max-pool")
            return 0, Value(shape, frozenset({f"pool{index}"}))
        self._add(f"pool{index}", self.layers.AvgPool2d(size))
        self._say(words, "average pool")
        return size, Value(shape, value.sources, binary=False)

    def _conv(self, index: int, value: Value, *, bias: bool, words: list[str]) -> tuple[int, ...]:
        tape, channels = self.tape, value.shape[0]
        keeps, pooled = tape.chance(65), f"pool{index}" in self.model.net.parts
        groups = channels if tape.chance(25) else 1
        outputs = channels if keeps else groups * tape.integer(1, 3)
        kernel = tape.choice(3, 1) if keeps else (tape.integer(1, 3), tape.integer(1, 3))
        options: dict[str, Any] = {"padding": 1 if kernel == 3 else 0}
        if not keeps:
            # A padded convolution of a pool is one convolution only where the pool's windows tile its source, as here.
            options = {k: (tape.integer(low, high), tape.integer(low, high)) for k, low, high in _RANGES}
        made = self.layers.Conv2d(channels, outputs, kernel, groups=groups, bias=bias, **options)
        sizes = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, p, d, s in zip(
                value.shape[1:], made.kernel_size, made.padding, made.dilation, made.stride, strict=True
            )
        ]
        if min(sizes) < 1:
            made, sizes, groups = self.layers.Conv2d(channels, outputs, 1, bias=bias), list(value.shape[1:]), 1
        self._weights(made, words)
        self._add(f"layer{index}", made)
        self._say(words, "conv", *(("pool before conv",) if pooled else ()))
        for feature, used in _conv_features(made):
            if used:
                self._say(words, feature)
        return (outputs, *sizes)

    def _linear(self, index: int, value: Value, outputs: int, *, bias: bool, words: list[str]) -> tuple[int, ...]:
        if len(value.shape) > 1:
            self._add(f"flat{index}", self.layers.Flatten())
            self._say(words, "flatten")
        size = int(torch.Size(value.shape).numel())
        made = self.layers.Linear(size, outputs, bias=bias)
        self._weights(made, words)
        self._add(f"layer{index}", made)
        self._say(words, "linear")
        return (outputs,)

    def _weights(self, made: Any, words: list[str]) -> None:
        """Gaussian weights and biases, some of them zero: about 1 leaves for every input that fires."""
        tape = self.tape
        percent = tape.choice(0, tape.integer(1, 99), 50, 90, 100 if tape.chance(40) else 0)
        numbers = tape.numbers()
        shape = tuple(made.weight.shape)
        width = (made.weight[0].numel() * max(0.05, 1 - percent / 100)) ** 0.5
        weight = sparse(numbers, numbers.normal(0.3, 1.0, shape) * 1.5 / width, percent)
        if tape.chance(30):
            # All others are then few units of the chip, so that what it rounds is soon a spike more or less.
            weight.flat[int(numbers.integers(weight.size))] *= 12
            self._say(words, "heavy weight")
        with torch.no_grad():
            made.weight.copy_(torch.from_numpy(weight))
            if made.bias is not None:
                made.bias.copy_(torch.from_numpy(numbers.normal(0.05, 0.2, len(weight))))
                self._say(words, "bias")
        self._say(words, sparsity_kind(weight))

    def _norm(self, index: int, shape: tuple[int, ...], words: list[str]) -> None:
        kind = self.layers.BatchNorm2d if len(shape) == 3 else self.layers.BatchNorm1d
        made, numbers = kind(shape[0]), self.tape.numbers()
        with torch.no_grad():
            for tensor, mean, spread in ((made.running_mean, 0, 0.1), (made.weight, 1, 0.3), (made.bias, 0.1, 0.2)):
                tensor.copy_(torch.from_numpy(numbers.normal(mean, spread, shape[0])))
            made.running_var.copy_(torch.from_numpy(numbers.uniform(0.3, 1.5, shape[0])))
        self._add(f"norm{index}", made)
        self._say(words, "batch-norm")

    def _side(self, index: int, shape: tuple[int, ...], main: Value, words: list[str], *, bias: bool) -> int | None:
        """Perhaps a 1×1 convolution of an earlier value of the same grid, whose current adds."""
        fitting = [
            i
            for i, value in enumerate(self.values[:-1])
            if value.shape[1:] == shape[1:] and not value.sources & main.sources and i > 0
        ]
        if not fitting or not self.tape.chance(60):
            return None
        chosen = self.tape.choice(*fitting)
        made = self.layers.Conv2d(self.values[chosen].shape[0], shape[0], 1, bias=bias)
        self._weights(made, words)
        self._add(f"side{index}", made)
        self._say(words, "shortcut of currents")
        return chosen

    def _join(self, sent: Value, words: list[str]) -> tuple[str, int, Value]:
        """Perhaps a spike-element-wise ADD, AND or IAND with an earlier value of the same shape."""
        fitting = [i for i, v in enumerate(self.values) if i > 0 and v.shape == sent.shape]
        if not fitting or not self.tape.chance(75):
            return "", 0, sent
        chosen = self.tape.choice(*fitting)
        other = self.values[chosen]
        join = self.tape.choice("ADD", "ADD", "AND", "IAND") if other.binary else "ADD"
        self._say(words, f"SEW {join}")
        if join == "ADD":
            return join, chosen, Value(sent.shape, sent.sources | other.sources, binary=False)
        return join, chosen, Value(sent.shape, frozenset({f"{join} {len(self.values)}"}))


_RANGES = (("stride", 1, 2), ("padding", 0, 2), ("dilation", 1, 2))


def _conv_features(made: Any) -> list[tuple[str, bool]]:
    wide = max(made.kernel_size) > 1
    return [
        ("stride", max(made.stride) > 1),
        ("padding", max(made.padding) > 0),
        ("dilation", max(made.dilation) > 1 and wide),
        ("groups", made.groups > 1),
    ]

"""Chip networks made up at random, in integers: what netx can hold, and what torch models do not have."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from examples.benchmarks.truth.drawing import draw_model
from examples.benchmarks.truth.tape import Tape, sparse, sparsity_kind
from hw_targets import from_torch, load_chip, quantize
from hw_targets.ir.network import (
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Op,
    Population,
    Shape,
    SpikeInput,
    Synapses,
)
from hw_targets.targets.loihi.neuron import CubaLIF

Integers = npt.NDArray[np.int32]


@dataclass
class ChipCase:
    """A chip network and frames (T, N, *shape) for it; `reset_offset` as `emulate`'s."""

    network: ChipNetwork
    frames: Integers
    reset_offset: int | None
    description: str
    features: Counter[str] = field(default_factory=Counter)


def draw_chip_case(tape: Tape) -> ChipCase:
    """A network drawn in integers, or quantized from a torch model.

    Raises:
        HardwareTargetError: a model that does not fit the chip.
    """
    return _from_model(tape) if tape.chance(40) else _in_integers(tape)


def _from_model(tape: Tape) -> ChipCase:
    model = draw_model(tape, most_steps=8)
    example, steps = model.example
    network = from_torch(model.net, example, time_steps=steps)
    chip = quantize(network, load_chip("loihi1"), for_format="netx")
    frames = model.inputs.numpy().astype(np.int32)
    words = "; ".join(["from torch", *model.description])
    return ChipCase(chip, frames, None, words, model.features + Counter(["from torch"]))


def _in_integers(tape: Tape) -> ChipCase:
    graded, steps, samples = tape.chance(40), tape.integer(1, 8), tape.integer(1, 3)
    shape = (tape.integer(1, 6),) if tape.chance(35) else (tape.integer(1, 3), tape.integer(1, 5), tape.integer(1, 5))
    maker = _Maker(tape, Population("in", shape, GradedInput() if graded else SpikeInput()))
    maker.say(f"in integers, {'images' if graded else 'spikes'} {shape}, T = {steps}, {samples} samples")
    if tape.chance(30):
        maker.add_entry()
    for _ in range(tape.integer(1, 4)):
        maker.add_layer()
    if tape.chance(40):
        maker.add_readout()
    network = ChipNetwork(tuple(maker.populations), tuple(maker.synapses), chip="loihi1", time_steps=steps)
    frames = tape.numbers().integers(0, 256 if graded else 2, (steps, samples, *shape)).astype(np.int32)
    offset = tape.choice(None, None, None, 0, 2)
    features = ["in integers", "images" if graded else "spikes", "T = 1" if steps == 1 else "T of 2 … 8"]
    features += ["several samples in a row"] * (samples > 1) + ["other reset offset"] * (offset is not None)
    return ChipCase(network, frames, offset, "; ".join(maker.words), maker.features + Counter(features))


class _Maker:
    """Adds one layer after the other."""

    def __init__(self, tape: Tape, entry: Population) -> None:
        self.tape = tape
        self.populations, self.synapses = [entry], list[Synapses]()
        self.words: list[str] = []
        self.features: Counter[str] = Counter()

    def say(self, words: str, *features: str) -> None:
        """Describe a layer."""
        self.words.append(" ".join([words, *features]))
        self.features.update(features)

    def add_entry(self) -> None:
        """Neurons of the input layer, each fed by its own input."""
        shape, weight = self.populations[0].shape, self.tape.integer(1, 127)
        unit = np.full((shape[0], 1, 1, 1), weight, np.int32)
        op: Op = Conv2d(unit, groups=shape[0]) if len(shape) == 3 else Dense(np.eye(shape[0], dtype=np.int32) * weight)
        bias = np.full(shape[0], self.tape.integer(-20, 60), np.int32)
        neuron = CubaLIF(self.tape.integer(0, 300), v_decay=self._decay())
        self._add(Population("entry", shape, neuron, bias), Synapses("in", "entry", op, immediate=True))
        self.say("entry", "neurons on the input")

    def add_layer(self) -> None:
        """A convolution or a dense layer, perhaps with delays, recurrence or a term of a SEW ADD."""
        tape, source = self.tape, self.populations[-1]
        name = f"n{len(self.populations)}"
        shortcut = self._shortcut()
        convolves = len(source.shape) == 3 and tape.chance(70)
        op, features = self._conv(source.shape) if convolves else self._dense(source.size)
        shape = op.output_shape(source.shape)
        features.append(sparsity_kind(op.weight))
        delay = None
        plain = shortcut is None
        if plain and not convolves and tape.chance(40):
            delay = self._delay(prod(shape), source.size)
            features.append("delays")
        loop = self._loop(name, op, prod(shape), delay, features) if plain and not convolves else None
        neuron = self._neuron(features)
        self._add(Population(name, shape, neuron, self._bias(shape, features)), Synapses(source.name, name, op, delay))
        if loop is not None:
            self.synapses.append(loop)
        if shortcut is not None:
            self.synapses.append(Synapses(shortcut, name, op))
            features.append("SEW ADD over relays")
        self.say(f"{name} {shape}", *features)

    def add_readout(self) -> None:
        """An accumulator behind all neurons of the last layer."""
        source, outputs = self.populations[-1], self.tape.integer(1, 4)
        op, features = self._dense(source.size, outputs)
        bias = self._bias((outputs,), features)
        self._add(Population("out", (outputs,), Accumulator(), bias), Synapses(source.name, "out", op))
        self.say("readout", "readout", *features)

    def _add(self, population: Population, synapses: Synapses) -> None:
        self.populations.append(population)
        self.synapses.append(synapses)

    def _shortcut(self) -> str | None:
        """The layer before last, if it has the last one's shape and spikes can be relayed through that."""
        if len(self.populations) < 3:
            return None
        before, last = self.populations[-2:]
        neuron = last.neuron
        relays = isinstance(neuron, CubaLIF) and neuron.v_threshold < 127 and neuron.i_decay == 4096
        relays = relays and before.shape == last.shape and not before.is_input and before.name != "entry"
        busy = any(s.delay is not None or s.is_recurrent for s in self.synapses if s.target == last.name)
        return before.name if relays and not busy and self.tape.chance(80) else None

    def _conv(self, source: Shape) -> tuple[Op, list[str]]:
        tape, keeps = self.tape, self.tape.chance(50)
        groups = source[0] if tape.chance(25) else 1
        outputs = source[0] if keeps else groups * tape.integer(1, 3)
        kernel = (3, 3) if keeps else (tape.integer(1, 3), tape.integer(1, 3))
        pairs = [(1, 1), (1, 1), (1, 1)] if keeps else [(tape.integer(a, b), tape.integer(a, b)) for a, b in _RANGES]
        stride, padding, dilation = pairs
        op = Conv2d(self._weights((outputs, source[0] // groups, *kernel)), stride, padding, dilation, groups)
        if min(op.output_shape(source)[1:]) < 1:
            op = Conv2d(self._weights((outputs, source[0] // groups, 1, 1)), groups=groups)
        used = {
            "stride": max(op.stride) > 1,
            "padding": max(op.padding) > 0,
            "dilation": max(op.dilation) > 1,
            "groups": op.groups > 1,
        }
        return op, ["conv", *(feature for feature, is_used in used.items() if is_used)]

    def _dense(self, sources: int, outputs: int = 0) -> tuple[Op, list[str]]:
        size = outputs or self.tape.choice(self.tape.integer(1, 6), sources if sources < 9 else 2)
        return Dense(self._weights((size, sources))), ["linear"]

    def _weights(self, shape: tuple[int, ...]) -> Integers:
        """Odd and even weights of both signs, even ones of 9 bits, or of one sign; some of them zero."""
        tape = self.tape
        low, high, step = tape.choice((-5, 5, 1), (-40, 40, 1), (-5, 5, 1), (-127, 127, 1), (-256, 254, 2), (0, 255, 1))
        percent = tape.choice(0, 50, tape.integer(1, 99), 90, 100 if tape.chance(30) else 0)
        numbers = tape.numbers()
        weight = numbers.integers(low // step, high // step + 1, shape) * step
        return sparse(numbers, weight, percent).astype(np.int32)

    def _delay(self, targets: int, sources: int) -> npt.NDArray[Any]:
        shape = self.tape.choice((1, 1), (targets, 1), (1, sources), (targets, sources))
        return self.tape.numbers().integers(0, self.tape.choice(2, 5, 9), shape)

    def _loop(
        self, name: str, op: Op, size: int, delay: npt.NDArray[Any] | None, features: list[str]
    ) -> Synapses | None:
        """Recurrence; with delays netx has it only where a layer's weights fill 8 bits and both delays are the same."""
        if not self.tape.chance(45) or (delay is not None and delay.shape not in ((1, 1), (size, 1))):
            return None
        features.append("recurrence")
        weight = self._weights((size, size))
        if delay is not None:
            features.append("recurrence with delays")
            weight = weight // 2 * 2
            weight[0, 0], op.weight[0, 0] = 254, -254
            op.weight[:] = op.weight // 2 * 2
        return Synapses(name, name, Dense(weight), delay)

    def _neuron(self, features: list[str]) -> CubaLIF:
        tape = self.tape
        bright = isinstance(self.populations[0].neuron, GradedInput) and len(self.populations) == 1
        # The lower it is, the more a rounded 64th of a unit matters.
        threshold = tape.choice(
            tape.integer(0, 9), tape.integer(0, 60), tape.integer(0, 126), tape.integer(0, 2000)
        ) * (60 if bright else 1)
        v_decay, i_decay = self._decay(), tape.choice(4096, 4096, 4096, 0, tape.integer(1, 4095))
        features += ["leaky"] * (0 < v_decay < 4096) + ["forgets"] * (v_decay == 4096)
        features += ["lasting current"] * (i_decay != 4096)
        return CubaLIF(threshold, v_decay=v_decay, i_decay=i_decay)

    def _decay(self) -> int:
        return self.tape.choice(0, 0, 4096, self.tape.integer(1, 4095), 1, 4095)

    def _bias(self, shape: Shape, features: list[str]) -> Integers | None:
        kind = self.tape.choice("none", "bias", "bias per neuron")
        if kind == "none":
            return None
        features.append("bias")
        if kind == "bias per neuron" and len(shape) == 3 and prod(shape) != shape[0]:
            features.append(kind)
        size = prod(shape) if kind == "bias per neuron" else shape[0]
        return self.tape.numbers().integers(-30, 60, size).astype(np.int32)


#: Of stride, padding and dilation.
_RANGES = ((1, 2), (0, 2), (1, 2))

"""Reading Lava netx (.net) files, of this package or of lava-dl, as a `ChipNetwork`.

The file means what lava-dl 0.6.0's `netx.hdf5.Network` makes of it, weight formats and delays included. Whatever that
loader refuses, skips or changes is refused here by name; `lossy=True` reads what it only changes as it would.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

import numpy as np

from hw_targets.errors import InvalidFile, UnsupportedModel
from hw_targets.files.hdf5 import SafeGroup, open_safely
from hw_targets.ir.network import (
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Neuron,
    Op,
    Population,
    Shape,
    SpikeInput,
    Synapses,
)
from hw_targets.targets.loihi.netx.arrays import bias_of, delay_of, loaded_weights, matrix_of
from hw_targets.targets.loihi.netx.fields import INT8, INT16, Fields
from hw_targets.targets.loihi.netx.layering import NEVER
from hw_targets.targets.loihi.netx.weights import Integers
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.loihi.target import LOIHI

NOT_LOADED = ("pool", "convT", "unpool", "average", "concat", "dense_comp")
#: The loader's neuron for a dense layer without one (it integrates the current, not the potential).
DEFAULT_NEURON = CubaLIF(1 << 17, v_decay=4096, i_decay=0)
#: The scale lava-dl gives an input of 1 in front of an input layer's neurons.
DEFAULT_INPUT_WEIGHT = 64
MAX_STEPS, MAX_MESSAGE_BITS = 1 << 20, 24
#: Numbers that may be asked for: 256 GiB.
MAX_READ = 1 << 36
LAYER_KEYS = {"type", "shape", "weight", "bias", "delay", "neuron"}


def read_netx(
    path: str | os.PathLike[str],
    *,
    time_steps: int | None = None,
    input_message_bits: int | None = None,
    lossy: bool = False,
    max_numbers: int | None = None,
) -> ChipNetwork:
    """Read a netx file.

    Args:
        path: the .net file.
        time_steps: T, steps a sample lasts; by default the file's attribute of that name. Where neither says it,
            `emulate` takes it from inputs (T, N, C, H, W) alone.
        input_message_bits: bits of a graded input, 0 for spikes; by default the file's attribute, or 0.
        lossy: also read what the loader accepts but changes, as it does: it cuts off fractions, clips weights, clamps
            delays, and ignores refractory periods, delays of convolutions and entries it does not know.
        max_numbers: how many numbers, 4 bytes each, the file may hold in all. A compressed file can declare a thousand
            times its own length; by default 2^27 are read, or 64 for each of its bytes, up to 2^29.

    Returns:
        Populations `input`, `conv1`, `dense3` …, numbered as in the file. A last layer that never fires, as
        `export_netx` writes readouts, is an `Accumulator`.

    Raises:
        InvalidFile: no such file, no HDF5, or damaged, contradictory or unsafe content; the message names the entry.
        UnsupportedModel: layers, neurons or entries that the loader refuses, skips or changes.
        QuantizationError: weights that the loader cannot put into 8 bits.
    """
    whole = isinstance(max_numbers, int) and not isinstance(max_numbers, bool)
    if max_numbers is not None and not (whole and 1 <= max_numbers <= MAX_READ):
        raise InvalidFile(f"read_netx: max_numbers is {max_numbers!r}, expected 1 … {MAX_READ:,}, or None")
    with open_safely(path, max_numbers) as root:
        steps = _setting(root, "time_steps", time_steps, 1, (1, MAX_STEPS))
        steps_assumed = time_steps is None and root.attribute("time_steps") is None
        bits = _setting(root, "input_message_bits", input_message_bits, 0, (0, MAX_MESSAGE_BITS))
        layers = _layers(root.subgroup("layer"))
        builder = _Builder(GradedInput(bits, float((1 << bits) - 1)) if bits else SpikeInput(), lossy)
        for index, group in enumerate(layers):
            builder.add(index, group, last=index == len(layers) - 1)
        builder.finish(str(path))
    names = [p.name for p in builder.populations]
    return ChipNetwork(
        tuple(builder.populations),
        tuple(builder.synapses),
        time_steps=steps,
        scales=dict.fromkeys(names, 1.0),
        steps_assumed=steps_assumed,
        file_format="netx",
        readout_dynamics=LOIHI.dynamics,
    )


def _setting(root: SafeGroup, key: str, given: int | None, default: int, bounds: tuple[int, int]) -> int:
    stored = root.attribute(key) if given is None else given
    value = default if stored is None else stored
    if not bounds[0] <= value <= bounds[1]:
        raise InvalidFile(f"{root.where()} {key} is {value}, expected {bounds[0]} … {bounds[1]}")
    return value


def _layers(group: SafeGroup) -> list[SafeGroup]:
    keys = group.keys()
    expected = {str(i) for i in range(len(keys))}
    if not keys or set(keys) != expected:
        odd = sorted(set(keys) ^ expected)[:4]
        raise InvalidFile(f"{group.where()} must hold layers 0 … n − 1 without gaps, but {odd or 'all'} do not fit")
    return [group.subgroup(str(i)) for i in range(len(keys))]


@dataclass
class _Builder:
    """Layers read so far; `tip` is the population the next one reads."""

    entry: Neuron
    lossy: bool
    populations: list[Population] = field(default_factory=list)
    synapses: list[Synapses] = field(default_factory=list)
    flattened: bool = False

    def add(self, index: int, group: SafeGroup, *, last: bool) -> None:
        """Read one layer."""
        kind, fields = group.text("type"), Fields(group, self.lossy)
        if kind == "input" and index == 0:
            self._input(fields)
        elif kind == "input":
            raise UnsupportedModel(f"{group.where()}: an input in the middle; netx has one, layer 0")
        elif kind == "flatten":
            self.flattened = True
        elif kind == "conv":
            self._conv(f"conv{index}", fields, last=last)
        elif kind in ("dense", "dense_rec"):
            self._dense(f"dense{index}", fields, recurrent=kind == "dense_rec", last=last)
        else:
            why = "which lava-dl's loader does not implement" if kind in NOT_LOADED else "which the loader would skip"
            raise UnsupportedModel(
                f"{group.where()} is of type {kind[:20]!r}, {why}; use input, conv, flatten, dense and dense_rec"
                + (": a pool is a convolution of stride k" if "pool" in kind else "")
            )

    def finish(self, path: str) -> None:
        """Refuse a file without a layer of neurons."""
        if not self.synapses:
            raise UnsupportedModel(f"{path} has an input but no layer of neurons")

    def _input(self, fields: Fields) -> None:
        shape = fields.shape()
        self.populations.append(Population("input", shape, self.entry))
        if not fields.has("neuron"):
            fields.only({"type", "shape"})
            return
        neuron = fields.neuron()
        fields.only({"type", "shape", "neuron", "weight", "bias"})
        weight = fields.number("weight", -INT16, INT16) if fields.has("weight") else DEFAULT_INPUT_WEIGHT
        bias = fields.number("bias", -INT16, INT16) if fields.has("bias") else 0
        fields.drops(
            neuron.i_decay != 4096,
            f"{fields.group.where('neuron/iDecay')} is {neuron.i_decay}, but in Lava the input enters as a bias, which"
            " lasts one step; train the input layer with current_decay=1",
        )
        op: Op = Dense(np.eye(shape[0], dtype=np.int32) * np.int32(weight))
        if len(shape) == 3:
            op = Conv2d(np.full((shape[0], 1, 1, 1), weight, np.int32), groups=shape[0])
        biases = np.full(shape[0], bias, np.int32) if bias else None
        self.populations.append(Population("input0", shape, replace(neuron, i_decay=4096), biases))
        self.synapses.append(Synapses("input", "input0", op, immediate=True))

    def _conv(self, name: str, fields: Fields, *, last: bool) -> None:
        where = fields.group.where
        if not self.populations or len(self.populations[-1].shape) != 3 or self.flattened:
            raise InvalidFile(f"{where()}: a convolution needs (channels, height, width) before it, not a flat vector")
        fields.only(LAYER_KEYS | {"inChannels", "outChannels", "kernelSize", "stride", "padding", "dilation", "groups"})
        if fields.has("delay"):
            fields.drops(
                bool(fields.integers("delay").any()),
                f"{where('delay')}: the loader ignores delays of convolutions; train without",
            )
        op = self._kernel(fields)
        source, shape = self.populations[-1], fields.shape()
        if op.weight.shape[1] * op.groups != source.shape[0]:
            raise InvalidFile(
                f"{where('weight')} reads {op.weight.shape[1]} channels in {op.groups} groups, but {source.name} has"
                f" {source.shape[0]}"
            )
        if op.output_shape(source.shape) != shape:
            raise InvalidFile(f"{where('shape')} is {shape}, but the convolution gives {op.output_shape(source.shape)}")
        self._append(name, shape, fields, op, last=last)

    def _kernel(self, fields: Fields) -> Conv2d:
        where = fields.group.where
        if fields.group.holds_group("weight"):
            raise UnsupportedModel(f"{where('weight')} is complex; only real weights are read")
        weight = fields.integers("weight")
        if weight.ndim < 4 or weight.size != np.prod(weight.shape[:4]) or not weight.size:
            raise InvalidFile(f"{where('weight')} has shape {weight.shape}, expected (out, in/groups, kH, kW)")
        weight = weight.reshape(weight.shape[:4])
        if max(weight.shape[2:]) > INT8 or int(weight.min()) < -256 or int(weight.max()) > 255:
            raise InvalidFile(
                f"{where('weight')} has a kernel {weight.shape[2:]} of {weight.min()} … {weight.max()}; chips hold"
                f" up to {INT8} × {INT8} of -256 … 255"
            )
        groups = fields.number("groups", 1, INT8)
        if len(weight) % groups:
            raise InvalidFile(f"{where('groups')} is {groups}, which does not divide {len(weight)} channels")
        fields.agrees("outChannels", len(weight))
        fields.agrees("inChannels", weight.shape[1] * groups)
        if fields.has("kernelSize") and fields.pair("kernelSize", 1) != weight.shape[2:]:
            raise InvalidFile(f"{where('kernelSize')} contradicts the weights {weight.shape}")
        stride, padding, dilation = (fields.pair(k, low) for k, low in (("stride", 1), ("padding", 0), ("dilation", 1)))
        return Conv2d(weight.astype(np.int32, copy=False), stride, padding, dilation, groups)

    def _dense(self, name: str, fields: Fields, *, recurrent: bool, last: bool) -> None:
        where, outputs = fields.group.where, int(np.prod(fields.shape()))
        fields.only(LAYER_KEYS | {"inFeatures", "outFeatures"} | ({"weight_rec"} if recurrent else set()))
        if fields.group.holds_group("weight"):
            raise UnsupportedModel(f"{where('weight')} is complex; only real weights are read")
        parts = [matrix_of(fields, key, outputs) for key in (("weight", "weight_rec") if recurrent else ("weight",))]
        inputs = parts[0].shape[1]
        fields.agrees("inFeatures", inputs)
        fields.agrees("outFeatures", outputs)
        if recurrent and parts[1].shape[1] != outputs:
            raise InvalidFile(f"{where('weight_rec')} has shape {parts[1].shape}, expected {(outputs, outputs)}")
        delay = delay_of(fields, (outputs, inputs)) if fields.has("delay") else None
        if recurrent and delay is not None and inputs != outputs:
            raise InvalidFile(
                f"{where('delay')}: the loader uses delays for both matrices of a recurrent layer, which needs as many"
                f" inputs as neurons; got {inputs} and {outputs}"
            )
        self._check_before(fields, inputs)
        weights = loaded_weights(fields, parts, keeps_shift=recurrent and delay is not None)
        self._append(name, (outputs,), fields, Dense(weights[0]), last=last and not recurrent, delay=delay)
        if recurrent:
            self.synapses.append(Synapses(name, name, Dense(weights[1]), delay))

    def _check_before(self, fields: Fields, inputs: int) -> None:
        """What stands before a dense layer: nothing, a vector, or a grid and `flatten`."""
        where = fields.group.where()
        if not self.populations:
            self.populations.append(Population("input", (inputs,), self.entry))
        before = self.populations[-1]
        has_neurons = not before.is_input
        if before.size != inputs:
            raise InvalidFile(f"{where} reads {inputs} values, but {before.name} {before.shape} has {before.size}")
        if has_neurons and (len(before.shape) == 3) != self.flattened:
            hint = "needs a flatten layer before it" if not self.flattened else "has a flatten without a grid before it"
            raise InvalidFile(f"{where} {hint}: {before.name} has shape {before.shape}")
        self.flattened = False

    def _append(
        self, name: str, shape: Shape, fields: Fields, op: Op, *, last: bool, delay: Integers | None = None
    ) -> None:
        dense = not op.is_spatial
        neuron: Neuron = fields.neuron() if not dense or fields.has("neuron") else DEFAULT_NEURON
        if last and neuron == CubaLIF(NEVER):
            neuron = Accumulator()
        bias = bias_of(fields, shape) if fields.has("bias") else None
        before = self.populations[-1].name
        self.populations.append(Population(name, shape, neuron, bias))
        self.synapses.append(Synapses(before, name, op, delay))

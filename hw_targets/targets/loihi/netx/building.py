"""The layers of a netx file, one after the other, as populations and synapses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hw_targets.errors import InvalidFile, UnsupportedModel
from hw_targets.files.hdf5 import SafeGroup
from hw_targets.ir.network import Accumulator, Conv2d, Dense, Neuron, Op, Population, Shape, Synapses
from hw_targets.ir.transposed import LARGEST_MATRIX
from hw_targets.targets.loihi.netx.arrays import bias_of, delay_of, loaded_weights, matrix_of
from hw_targets.targets.loihi.netx.fields import INT8, INT16, Fields
from hw_targets.targets.loihi.netx.layering import NEVER
from hw_targets.targets.loihi.netx.weights import Integers
from hw_targets.targets.loihi.neuron import CubaLIF

NOT_LOADED = ("pool", "convT", "unpool", "average", "concat", "dense_comp")
#: The loader's neuron for a dense layer without one (it integrates the current, not the potential).
DEFAULT_NEURON = CubaLIF(1 << 17, v_decay=4096, i_decay=0)
#: The scale lava-dl gives an input of 1 in front of an input layer's neurons.
DEFAULT_INPUT_WEIGHT = 64
LAYER_KEYS = {"type", "shape", "weight", "bias", "delay", "neuron"}


@dataclass
class Builder:
    """Layers read so far; `tip` is the population the next one reads."""

    entry: Neuron
    lossy: bool
    populations: list[Population] = field(default_factory=list)
    synapses: list[Synapses] = field(default_factory=list)
    flattened: bool = False

    def begin(self, shape: Shape, first: SafeGroup) -> None:
        """The input's shape, of a file whose first layer is no input.

        Raises:
            InvalidFile: the file has an input of its own that says otherwise.
        """
        if first.text("type") != "input":
            self.populations.append(Population("input", shape, self.entry))
        elif (stated := Fields(first, self.lossy).shape()) != shape:
            raise InvalidFile(f"{first.where('shape')} is {stated}, but input_shape is {shape}; leave that out")

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
                + (f"; num_layers={index} reads the layers before it" if self.synapses else "")
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
        if len(shape) == 1:
            if shape[0] ** 2 > LARGEST_MATRIX:
                raise UnsupportedModel(
                    f"{fields.group.where('shape')}: {shape[0]:,} neurons of an input layer in a row take a matrix of"
                    f" {shape[0] ** 2:,} numbers, more than {LARGEST_MATRIX:,}; give them the shape (neurons, 1, 1)"
                    " and put a flatten layer after them"
                )
            op: Op = Dense(np.eye(shape[0], dtype=np.int32) * np.int32(weight))
        else:
            op = Conv2d(np.full((shape[0], 1, 1, 1), weight, np.int32), groups=shape[0])
        biases = np.full(shape[0], bias, np.int32) if bias else None
        self.populations.append(Population("input0", shape, replace(neuron, i_decay=4096), biases))
        self.synapses.append(Synapses("input", "input0", op, immediate=True))

    def _conv(self, name: str, fields: Fields, *, last: bool) -> None:
        where = fields.group.where
        if not self.populations or len(self.populations[-1].shape) != 3 or self.flattened:
            before = "nothing: pass input_shape" if not self.populations else "a flat vector"
            raise InvalidFile(f"{where()}: a convolution needs (channels, height, width) before it, but has {before}")
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

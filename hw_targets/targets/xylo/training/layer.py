"""A layer of Xylo's neurons and the synapses that lead to them, to be trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hw_targets.errors import UnsupportedModel
from hw_targets.targets.xylo.arithmetic import HIGH, LARGEST_SHIFT, MOST_HIDDEN, MOST_OUTPUT
from hw_targets.targets.xylo.neuron import XyloNeuron
from hw_targets.targets.xylo.training.framework import FRAMEWORK
from hw_targets.targets.xylo.training.functions import charged, decayed, received, spikes_of, weights_of, whole

#: The integer that stands for a weight of 1.0: weights reach ±127/64.
UNIT = 64


class XyloNeurons(nn.Module):
    """Neurons of one layer: given currents that have just been received, they decay, charge, fire and reset.

    Attributes:
        equation: the integer neuron that all of them are.
        saturations: how many currents and potentials were held at the end of their 16 bits since the last reset.
    """

    neuron_framework = FRAMEWORK

    def __init__(self, equation: XyloNeuron) -> None:
        super().__init__()
        self.equation = equation
        self.saturations = 0
        self.isyn: Tensor | None = None
        self.vmem: Tensor | None = None
        self.spikes: Tensor | None = None

    def reset(self) -> None:
        """Forget all states, and count saturations anew."""
        self.isyn = self.vmem = self.spikes = None
        self.saturations = 0

    def forward(self, isyn: Tensor, bias: Tensor | None = None) -> Tensor:
        """Spikes (N, neurons) of one step, whole numbers."""
        mine = self.equation
        vmem = torch.zeros_like(isyn) if self.vmem is None else self.vmem
        self.isyn = decayed(isyn, mine.dash_syn)
        vmem, held = charged(vmem, self.isyn, bias, mine.dash_mem)
        self.saturations += int(held.sum())
        spikes = spikes_of(vmem, mine.v_threshold, mine.most)
        self.vmem = vmem - mine.v_threshold * spikes.detach()
        self.spikes = spikes
        return spikes


class XyloLayer(nn.Module):
    """Synapses and neurons whose forward pass is a Xylo core's, integer by integer, with a surrogate gradient.

    Weights are real parameters; what computes is `clip(round(weight·unit), ±127)`, shifted by `weight_shift` bits. A
    network of these layers is read exactly by `from_torch`, and `quantize` finds nothing to round. On the chip
    spikes of hidden neurons take one step to the next layer, so that a layer behind others should have no bias.

    Args:
        in_features: channels it hears.
        out_features: its neurons.
        recurrent: whether the neurons hear each other's spikes, one step later.
        output: neurons of the chip's output: one spike a step at most, 31 otherwise.
        bias: a value added to each potential in every step.
        dash_mem: potentials decay by a factor of 1 − 2^−dash_mem a step.
        dash_syn: likewise currents, in the step they arrive in, too: at least 1, as 0 would swallow the input.
        threshold: in the weights' unit; on the chip round(threshold·unit) shifted by `weight_shift`.
        weight_shift: all hidden layers of a network need the same.
        unit: the integer that stands for a weight of 1.0.
        step_mode: "m", inputs (T, N, in_features) with all steps, or "s", one step (N, in_features) a call.

    Raises:
        UnsupportedModel: a step mode, shift or decay that there is not, outputs that hear themselves, or a threshold
            beyond 16 bits.
    """

    neuron_framework = FRAMEWORK

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        recurrent: bool = False,
        output: bool = False,
        bias: bool = False,
        dash_mem: int = 4,
        dash_syn: int = 2,
        threshold: float = 1.0,
        weight_shift: int = 3,
        unit: int = UNIT,
        step_mode: str = "m",
    ) -> None:
        super().__init__()
        if step_mode not in ("m", "s") or dash_syn < 1 or not 0 <= weight_shift <= LARGEST_SHIFT:
            raise UnsupportedModel(
                f"XyloLayer: step_mode is {step_mode!r} ('m' or 's'), dash_syn {dash_syn} (at least 1, since 0 swallows"
                f" the input), weight_shift {weight_shift} (0 … {LARGEST_SHIFT})"
            )
        if output and recurrent:
            raise UnsupportedModel("XyloLayer: the chip's outputs do not hear themselves; recurrent=False")
        level = round(threshold * unit) << weight_shift
        if not 1 <= level <= HIGH:
            raise UnsupportedModel(
                f"XyloLayer: a threshold of {threshold:g} is {level} on the chip, which holds 1 … {HIGH}; change"
                " threshold, unit or weight_shift"
            )
        self.in_features, self.out_features, self.unit, self.step_mode = in_features, out_features, unit, step_mode
        most = MOST_OUTPUT if output else MOST_HIDDEN
        self.neuron = XyloNeurons(XyloNeuron(level, dash_mem, dash_syn, weight_shift, most))
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.recurrent_weight = nn.Parameter(torch.empty(out_features, out_features)) if recurrent else None
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        for weight in (self.weight, self.recurrent_weight):
            if weight is not None:
                bound = 1.0 / math.sqrt(weight.shape[1])
                nn.init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        """Its size and neuron."""
        return f"{self.in_features}, {self.out_features}, {self.neuron.equation}"

    @property
    def chip_weight(self) -> Tensor:
        """(out, in) 8-bit weights, whole numbers in float32."""
        return weights_of(self.weight, self.unit)

    @property
    def chip_recurrent_weight(self) -> Tensor | None:
        """(out, out) likewise; None without recurrence."""
        return None if self.recurrent_weight is None else weights_of(self.recurrent_weight, self.unit)

    @property
    def chip_bias(self) -> Tensor | None:
        """(out,) whole numbers in the potential's unit; None without one."""
        return None if self.bias is None else whole(self.bias, self.unit << self.neuron.equation.shift, HIGH)

    @property
    def saturations(self) -> int:
        """How many sums were held at the end of 16 bits since the last reset; 0 means that integers were exact sums."""
        return self.neuron.saturations

    def reset(self) -> None:
        """Forget all states."""
        self.neuron.reset()

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T, N, out_features) for (T, N, in_features), or (N, …) in step mode "s"."""
        axes = 3 if self.step_mode == "m" else 2
        if x.dim() != axes or x.shape[-1] != self.in_features:
            raise ValueError(
                f"XyloLayer: got an input of shape {tuple(x.shape)}, expected {axes} axes,"
                f" {'(T, N' if axes == 3 else '(N'}, {self.in_features})"
            )
        weights = self.chip_weight, self.chip_recurrent_weight, self.chip_bias
        if self.step_mode == "s":
            return self._step(x, *weights)
        return torch.stack([self._step(step, *weights) for step in x])

    def _step(self, x: Tensor, weight: Tensor, recurrent: Tensor | None, bias: Tensor | None) -> Tensor:
        neuron = self.neuron
        shift = neuron.equation.shift
        isyn = x.new_zeros(len(x), self.out_features) if neuron.isyn is None else neuron.isyn
        isyn, held = received(isyn, x, weight, shift)
        neuron.saturations += int(held.sum())
        if recurrent is not None and neuron.spikes is not None:
            isyn, held = received(isyn, neuron.spikes, recurrent, shift)
            neuron.saturations += int(held.sum())
        spikes: Tensor = neuron(isyn, bias)
        return spikes

"""SpikingJelly 2.x (`activation_based`): IF, LIF, PLIF and CUBA-LIF neurons, single-step and multi-step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.frameworks.base import NeuronEquation, UnsupportedNeuron

base = require("spikingjelly.activation_based.base", "spikingjelly")
functional = require("spikingjelly.activation_based.functional", "spikingjelly")
layer = require("spikingjelly.activation_based.layer", "spikingjelly")
neuron = require("spikingjelly.activation_based.neuron", "spikingjelly")

_PLAIN_LAYERS = (
    *("Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "Linear"),
    *("BatchNorm1d", "BatchNorm2d"),
    *("MaxPool1d", "MaxPool2d"),
    *("AvgPool1d", "AvgPool2d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d"),
    *("Dropout", "Dropout1d", "Dropout2d", "Flatten"),
)
#: What these hold stays single-step, whatever `set_step_mode` is asked for.
_CONTAINERS = tuple(
    getattr(layer, name)
    for name in (
        *("MultiStepContainer", "SeqToANNContainer", "StepModeContainer"),
        *("TLastMultiStepContainer", "TLastSeqToANNContainer"),
        *("ElementWiseRecurrentContainer", "LinearRecurrentContainer"),
    )
    if hasattr(layer, name)
)
_LAYERS = "spikingjelly.activation_based.layer."
_PER_STEP = (
    "computes with other numbers in every step, but a chip's weights are the same in all of them; use"
    " layer.BatchNorm2d or layer.ThresholdDependentBatchNorm2d, and train with it"
)
_ADVICE = {
    **dict.fromkeys((f"BatchNormThroughTime{n}d" for n in (1, 2, 3)), _PER_STEP),
}
_NEURONS = (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.CUBALIFNode)


class SpikingJelly:
    """Multi-step modules take (T, N, ...), single-step modules one step (N, ...)."""

    name = "spikingjelly"

    def is_neuron(self, module: nn.Module) -> bool:
        """All stateful modules that fire."""
        return isinstance(module, (neuron.BaseNode, neuron.SimpleBaseNode))

    def sends_spikes(self, module: nn.Module) -> bool:
        """Known neurons, unless their surrogate function was told to replace the step itself (`spiking=False`)."""
        surrogate = getattr(module, "surrogate_function", None)
        return type(module) in _NEURONS and bool(getattr(surrogate, "spiking", False))

    def is_plain_layer(self, module: nn.Module) -> bool:
        """SpikingJelly's own `layer.Conv2d`, `layer.Linear` and so on, which add the time axis alone."""
        plain = (getattr(layer, name, None) for name in _PLAIN_LAYERS)
        return type(module) in plain

    def is_own_layer(self, module: nn.Module) -> bool:
        """`VotingLayer` alone: the other layers are torch's."""
        return type(module) is layer.VotingLayer

    def one_step_layer(self, module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """The module itself; for a `VotingLayer`, which takes means of neighbouring features, a linear one."""
        if not self.is_own_layer(module):
            return module
        size: Any = module.voting_size
        if len(shape) != 1 or shape[0] < size:
            raise UnsupportedNeuron(f"votes on an input of shape {shape}; flatten it to at least {size} features first")
        voting = nn.Linear(shape[0], shape[0] // size, bias=False)
        voting.weight = nn.Parameter(torch.zeros(voting.weight.shape), requires_grad=False)
        for row in range(len(voting.weight)):
            voting.weight[row, row * size : (row + 1) * size] = 1.0 / size
        return voting

    def advice(self, module: nn.Module) -> str | None:
        """For SpikingJelly's layers that keep a state, change with time or normalise each sample by itself."""
        return _ADVICE.get(type(module).__name__) if type(module).__module__.startswith(_LAYERS) else None

    def recurrent(self, module: nn.Module) -> None:
        """Recurrent neurons are not read."""

    def equation(self, module: nn.Module) -> NeuronEquation:
        """What an IFNode, LIFNode, ParametricLIFNode or CUBALIFNode computes.

        IF: v ← v + x. LIF: v ← v + (x − (v − v_reset))/τ; without decay_input v ← v − (v − v_reset)/τ + x. PLIF is LIF
        with 1/τ = sigmoid(w). CUBA: c ← c_decay·c + x; v ← v_decay·v + c (these two are what is kept). All fire at
        v ≥ v_threshold and then reset to v_reset, or, if that is None, by subtracting v_threshold.
        The potential is counted from v_reset, which is also where it starts.
        """
        kind = type(module).__name__
        if type(module) not in _NEURONS:
            raise UnsupportedNeuron(f"{kind} is not supported; use IFNode, LIFNode, ParametricLIFNode or CUBALIFNode")
        node: Any = module  # SpikingJelly's attributes have no types
        v_reset = 0.0 if node.v_reset is None else float(node.v_reset)
        plain = NeuronEquation(
            float(node.v_threshold) - v_reset,
            reset="subtract" if node.v_reset is None else "zero",
        )
        if type(module) is neuron.IFNode:
            return plain
        if type(module) is neuron.CUBALIFNode:
            if v_reset != 0.0:
                # v itself decays towards 0, not towards v_reset.
                raise UnsupportedNeuron(f"{kind}(v_reset={v_reset}) decays towards 0; use v_reset=0.0")
            return replace(plain, v_decay=1.0 - float(node.v_decay), i_decay=1.0 - float(node.c_decay))
        decay = _leak(node)
        if node.decay_input and v_reset != 0.0:
            # v − v_reset then decays towards x, which is itself not counted from v_reset.
            raise UnsupportedNeuron(
                f"{kind}(decay_input=True, v_reset={v_reset}) needs an extra constant current; use v_reset=0.0"
            )
        return replace(plain, v_decay=decay, input_gain=decay if node.decay_input else 1.0)

    def make_hard_reset(self, module: nn.Module) -> bool:
        """`v_reset` 0 where it was None."""
        node: Any = module
        if node.v_reset is not None:
            return False
        node.v_reset = 0.0
        return True

    def make_sum(self, module: nn.Module) -> bool:
        """Neurons return no potential to read."""
        raise UnsupportedNeuron(f"{type(module).__name__} returns spikes alone; leave the last neurons out instead")

    def check_alignment(self, model: nn.Module) -> None:
        """Nothing shifts spikes in time."""

    def reset(self, model: nn.Module) -> None:
        """`functional.reset_net`."""
        functional.reset_net(model)

    def predict(self, model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
        """Mean over time of the model's output for a constant input."""
        self.reset(model)
        if self.time_axis(model) == 0:
            scores: Tensor = model(images.expand(time_steps, *images.shape)).mean(0)
            return scores
        return torch.stack([model(images) for _ in range(time_steps)]).mean(0)

    def neuron_time_axis(self, model: nn.Module) -> int | None:
        """That of the model; of a neuron module inside a container, its own."""
        return self.time_axis(model)

    def time_axis(self, model: nn.Module) -> int | None:
        """0 for multi-step models, None for single-step ones; what containers hold is theirs to step through."""
        modes = set(_outer_modes(model))
        if len(modes) > 1:
            raise UnsupportedNeuron(
                "the model mixes single-step and multi-step modules; call"
                " spikingjelly.activation_based.functional.set_step_mode(model, 'm') first"
            )
        return 0 if modes == {"m"} else None


def _outer_modes(module: nn.Module) -> Iterator[str]:
    """Step modes of a model's modules, without those inside containers, which stay single-step."""
    if isinstance(module, base.StepModule):
        yield getattr(module, "step_mode", "m")
    if not isinstance(module, _CONTAINERS):
        for child in module.children():
            yield from _outer_modes(child)


def _leak(node: Any) -> float:
    """1/τ, in the precision the neuron computes it in."""
    return float(node.w.detach().sigmoid()) if type(node) is neuron.ParametricLIFNode else 1.0 / float(node.tau)


FRAMEWORK = SpikingJelly()

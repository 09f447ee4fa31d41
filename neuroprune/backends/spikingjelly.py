"""SpikingJelly 2.x (`activation_based`): IF and LIF neurons, single-step and multi-step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.backends.base import NeuronEquation, UnsupportedNeuron

base = require("spikingjelly.activation_based.base", "spikingjelly")
functional = require("spikingjelly.activation_based.functional", "spikingjelly")
layer = require("spikingjelly.activation_based.layer", "spikingjelly")
neuron = require("spikingjelly.activation_based.neuron", "spikingjelly")

_PLAIN_LAYERS = (
    "Conv2d",
    "Linear",
    "BatchNorm1d",
    "BatchNorm2d",
    "MaxPool2d",
    "AvgPool2d",
    "AdaptiveAvgPool2d",
    "Dropout",
    "Dropout2d",
    "Flatten",
)


class SpikingJelly:
    """Multi-step modules take (T, N, ...), single-step modules one step (N, ...)."""

    name = "spikingjelly"

    def is_neuron(self, module: nn.Module) -> bool:
        """All stateful modules that fire."""
        return isinstance(module, (neuron.BaseNode, neuron.SimpleBaseNode))

    def sends_spikes(self, module: nn.Module) -> bool:
        """IF and LIF neurons, unless their surrogate function was told to replace the step itself (`spiking=False`)."""
        surrogate = getattr(module, "surrogate_function", None)
        return type(module) in (neuron.IFNode, neuron.LIFNode) and bool(getattr(surrogate, "spiking", False))

    def is_plain_layer(self, module: nn.Module) -> bool:
        """SpikingJelly's own `layer.Conv2d`, `layer.Linear` and so on, which add the time axis alone."""
        plain = (getattr(layer, name, None) for name in _PLAIN_LAYERS)
        return type(module) in plain

    def equation(self, module: nn.Module) -> NeuronEquation:
        """IFNode: v ← v + x. LIFNode: v ← v + (x − (v − v_reset))/τ; without decay_input v ← v − (v − v_reset)/τ + x.

        The potential is counted from v_reset, which is also where it starts.
        """
        kind = type(module).__name__
        if type(module) not in (neuron.IFNode, neuron.LIFNode):
            raise UnsupportedNeuron(f"{kind} is not supported; use IFNode or LIFNode")
        node: Any = module  # SpikingJelly's attributes have no types
        if node.v_reset is None:
            raise UnsupportedNeuron(
                f"{kind}(v_reset=None) resets by subtraction, which the chip's neurons cannot do; train with a hard"
                f" reset, {kind}(v_reset=0.0)"
            )
        v_reset = float(node.v_reset)
        v_threshold = float(node.v_threshold) - v_reset
        if type(module) is neuron.IFNode:
            return NeuronEquation(v_threshold)
        decay = 1.0 / float(node.tau)
        if node.decay_input and v_reset != 0.0:
            # v − v_reset then decays towards x, which is itself not counted from v_reset.
            raise UnsupportedNeuron(
                f"{kind}(decay_input=True, v_reset={v_reset}) needs an extra constant current; use v_reset=0.0"
            )
        return NeuronEquation(v_threshold, v_decay=decay, input_gain=decay if node.decay_input else 1.0)

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

    def time_axis(self, model: nn.Module) -> int | None:
        """0 for multi-step models, None for single-step ones."""
        modes = {getattr(m, "step_mode", "m") for m in model.modules() if isinstance(m, base.StepModule)}
        if len(modes) > 1:
            raise UnsupportedNeuron(
                "the model mixes single-step and multi-step modules; call"
                " spikingjelly.activation_based.functional.set_step_mode(model, 'm') first"
            )
        return 0 if modes == {"m"} else None


BACKEND = SpikingJelly()

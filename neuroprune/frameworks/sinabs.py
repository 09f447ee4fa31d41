"""sinabs 3.x: integrate-and-fire neurons that send several spikes a step, as DYNAP-CNN and Speck do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.frameworks.base import NeuronEquation, UnsupportedNeuron

activation = require("sinabs.activation", "sinabs")
layers = require("sinabs.layers", "sinabs")

#: As many spikes as a step has: far more than a byte counts, so that nobody takes it for a limit that binds.
MANY = 1 << 15
_STEPPED = (layers.IAFSqueeze, layers.LIFSqueeze)


class Sinabs:
    """Neurons take one step a call: `IAFSqueeze(num_timesteps=1)`, or `batch_size=1` for one sample at a time."""

    name = "sinabs"

    def is_neuron(self, module: nn.Module) -> bool:
        """All stateful layers that fire."""
        return isinstance(module, (layers.LIF, layers.LIFRecurrent, layers.ALIF, layers.ALIFRecurrent))

    def sends_spikes(self, module: nn.Module) -> bool:  # noqa: ARG002 - whatever it is
        """None: several spikes a step are no zeros and ones."""
        return False

    def is_plain_layer(self, module: nn.Module) -> bool:  # noqa: ARG002
        """There are none: sinabs is used with torch's own layers."""
        return False

    def is_own_layer(self, module: nn.Module) -> bool:
        """`SumPool2d`."""
        return type(module) is layers.SumPool2d

    def one_step_layer(self, module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """The module itself; for a `SumPool2d` an average pool that divides by nothing."""
        if not self.is_own_layer(module):
            return module
        node: Any = module  # sinabs' attributes have no types
        if len(shape) != 3 or node.norm_type != 1 or node.ceil_mode:
            raise UnsupportedNeuron(
                f"sums to the power of {node.norm_type} over an input of shape {shape}; use SumPool2d(size) on"
                " (C, H, W)"
            )
        return nn.AvgPool2d(node.kernel_size, node.stride, divisor_override=1)

    def advice(self, module: nn.Module) -> str | None:  # noqa: ARG002 - asked of every framework
        """None: nothing is known."""
        return None

    def instead_of_failing(self, module: nn.Module) -> str | None:  # noqa: ARG002 - asked of every framework
        """None: nothing is known."""
        return None

    def recurrent(self, module: nn.Module) -> None:
        """Recurrent neurons are not read."""

    def equation(self, module: nn.Module) -> NeuronEquation:
        """v ← v + x; s = ⌊v/θ⌋ (MultiSpike) or [v ≥ θ] (SingleSpike); v ← v − sθ, or 0 where s; v ← max(v, min_v_mem).

        A LIF's v ← αv + (1 − α)x, α = e^(−1/τ), or αv + x with norm_input=False; a synaptic current is refused, since
        sinabs decays it in the step in which it arrives.
        """
        node: Any = module  # sinabs' attributes have no types
        kind = type(module).__name__
        if not isinstance(module, _STEPPED):
            raise UnsupportedNeuron(
                f"{kind} takes all steps at once, samples first; use IAFSqueeze(num_timesteps=1), one step a call"
            )
        if node.num_timesteps != 1 and node.batch_size != 1:
            raise UnsupportedNeuron(
                f"{kind}(batch_size={node.batch_size}, num_timesteps={node.num_timesteps}) takes several steps a call;"
                f" use {kind}(num_timesteps=1), one step a call"
            )
        if node.tau_syn is not None:
            raise UnsupportedNeuron(f"{kind}(tau_syn=…) decays a current in the step it arrives in; use tau_syn=None")
        decay, gain = 0.0, 1.0
        if not isinstance(module, layers.IAF):
            alpha = float(node.alpha_mem_calculated)
            decay, gain = 1.0 - alpha, 1.0 - alpha if node.norm_input else 1.0
        return NeuronEquation(
            _threshold(node, kind),
            v_decay=decay,
            input_gain=gain,
            reset=_reset(node, kind),
            max_spikes=_most(node, kind),
            v_min=None if node.min_v_mem is None else float(node.min_v_mem),
        )

    def make_hard_reset(self, module: nn.Module) -> bool:
        """Not in place: only neurons that were made so."""
        found = self.equation(module)
        if found.reset == "zero" and found.max_spikes == 1:
            return False
        kind = type(module).__name__
        raise UnsupportedNeuron(
            f"{kind} is made with its reset; use {kind}(reset_fn=MembraneReset(), spike_fn=SingleSpike)"
        )

    def make_sum(self, module: nn.Module) -> bool:
        """Neurons return no potential to read."""
        raise UnsupportedNeuron(f"{type(module).__name__} returns spikes alone; leave the last neurons out instead")

    def check_alignment(self, model: nn.Module) -> None:
        """Nothing shifts spikes in time."""

    def reset(self, model: nn.Module) -> None:
        """Forget every state."""
        for module in model.modules():
            if isinstance(module, layers.StatefulLayer):
                node: Any = module
                for name, _ in list(node.named_buffers(recurse=False)):
                    setattr(node, name, torch.zeros(0, device=getattr(node, name).device))

    def predict(self, model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
        """Mean over time of the model's output for a constant input."""
        self.reset(model)
        return torch.stack([model(images) for _ in range(time_steps)]).mean(0)

    def shows_image(self, model: nn.Module, image: Tensor, time_steps: int) -> bool:  # noqa: ARG002
        """No model does."""
        return False

    def neuron_time_axis(self, model: nn.Module) -> None:
        """One step a call."""

    def time_axis(self, model: nn.Module) -> None:
        """One step a call."""


def _threshold(node: Any, kind: str) -> float:
    values = torch.as_tensor(node.spike_threshold).detach().reshape(-1)
    if len(values) != 1:
        raise UnsupportedNeuron(f"{kind} has {len(values)} thresholds; give the layer one")
    return float(values[0])


def _reset(node: Any, kind: str) -> Any:
    how = node.reset_fn
    if isinstance(how, activation.MembraneReset) and how.reset_value == 0:
        return "zero"
    if isinstance(how, activation.MembraneSubtract) and how.subtract_value is None:
        return "subtract"
    raise UnsupportedNeuron(f"{kind}(reset_fn={how}) resets in another way; use MembraneSubtract() or MembraneReset()")


def _most(node: Any, kind: str) -> int:
    if node.spike_fn is activation.MultiSpike:
        return MANY
    if node.spike_fn is activation.SingleSpike:
        return 1
    raise UnsupportedNeuron(f"{kind}(spike_fn={node.spike_fn}) fires in another way; use MultiSpike or SingleSpike")


FRAMEWORK = Sinabs()

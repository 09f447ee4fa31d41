"""Xylo's layers as a framework: what the package asks of the modules of any surrogate-gradient framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuroprune.frameworks.base import NeuronEquation, Recurrent, UnsupportedNeuron

if TYPE_CHECKING:
    from hw_targets.targets.xylo.training.layer import XyloLayer


class XyloFramework:
    """Modules take all steps at once, time first, or one step per call (`step_mode`)."""

    name = "xylo"

    def is_neuron(self, module: nn.Module) -> bool:
        """A layer's `neuron`, which a layer calls once per step."""
        return _is(module, "XyloNeurons")

    def sends_spikes(self, module: nn.Module) -> bool:
        """Outputs; hidden neurons send up to 31 spikes a step."""
        node: Any = module
        return self.is_neuron(module) and node.equation.most == 1

    def is_plain_layer(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every framework
        """There are none."""
        return False

    def is_own_layer(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every framework
        """None: a layer is read with its neurons."""
        return False

    def one_step_layer(self, module: nn.Module, shape: tuple[int, ...]) -> nn.Module:  # noqa: ARG002
        """The module itself."""
        return module

    def advice(self, module: nn.Module) -> str | None:  # noqa: ARG002 - asked of every framework
        """None: it has no layers that are not read."""
        return None

    def instead_of_failing(self, module: nn.Module) -> str | None:  # noqa: ARG002 - asked of every framework
        """None: nothing is known."""
        return None

    def recurrent(self, module: nn.Module) -> Recurrent | None:
        """A layer: its integer weights, and those of the neurons to each other."""
        if not _is(module, "XyloLayer"):
            return None
        layer: XyloLayer = module  # type: ignore[assignment]  # told by name, as importing it here would be a cycle
        with torch.no_grad():
            feedback = layer.chip_recurrent_weight
            return Recurrent(
                _linear(layer.chip_weight, layer.chip_bias),
                None if feedback is None else _linear(feedback, None),
                layer.neuron,
            )

    def equation(self, module: nn.Module) -> NeuronEquation:
        """Its integer neuron; beside it, for information, the real one it is near to."""
        if not self.is_neuron(module):
            raise UnsupportedNeuron(f"{type(module).__name__} is no neuron of Xylo's; use XyloLayer")
        node: Any = module
        mine = node.equation
        return NeuronEquation(
            float(mine.v_threshold),
            v_decay=2.0**-mine.dash_mem,
            i_decay=2.0**-mine.dash_syn,
            reset="subtract",
            exact=mine,
        )

    def make_hard_reset(self, module: nn.Module) -> bool:
        """They reset as the chip does, by subtraction."""
        raise UnsupportedNeuron(f"{type(module).__name__} is Xylo's own neuron; keep it, it runs there as it is")

    def make_sum(self, module: nn.Module) -> bool:
        """Neurons return no potential to read."""
        raise UnsupportedNeuron(f"{type(module).__name__} returns spikes alone; count them")

    def check_alignment(self, model: nn.Module) -> None:
        """Refuse layers of which some take one step and others all."""
        modes = {str(m.step_mode) for m in model.modules() if _is(m, "XyloLayer")}
        if len(modes) > 1:
            raise UnsupportedNeuron(f"the model's XyloLayers have step modes {sorted(modes)}; give all of them one")

    def reset(self, model: nn.Module) -> None:
        """Forget all states."""
        for module in model.modules():
            if self.is_neuron(module):
                node: Any = module
                node.reset()

    def predict(self, model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
        """Mean over time of the outputs' spikes, of one input shown in every step."""
        self.reset(model)
        if self.time_axis(model) is None:
            return torch.stack([model(images) for _ in range(time_steps)]).mean(0)
        scores: Tensor = model(images.expand(time_steps, *images.shape)).mean(0)
        return scores

    def shows_image(self, model: nn.Module, image: Tensor, time_steps: int) -> bool:  # noqa: ARG002
        """No model does."""
        return False

    def neuron_time_axis(self, model: nn.Module) -> int | None:
        """As `time_axis`: a layer takes what the model does."""
        return self.time_axis(model)

    def time_axis(self, model: nn.Module) -> int | None:
        """0, or None for layers of one step per call."""
        return None if any(_is(m, "XyloLayer") and m.step_mode == "s" for m in model.modules()) else 0


def _is(module: nn.Module, name: str) -> bool:
    return any(c.__module__ == f"{__package__}.layer" and c.__name__ == name for c in type(module).__mro__)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


FRAMEWORK = XyloFramework()

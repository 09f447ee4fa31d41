"""lava-dl 0.6 (`lava.lib.dl.slayer`): CUBA neurons and the blocks made of them.

Lava itself is not imported: a model that holds its classes has imported it, and they are recognised by name.
SLAYER computes in the chip's own integers: weights in 1/64 (`scale`), states in 1/4096, decays in 1/4096.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroprune.backends.base import NeuronEquation, UnsupportedNeuron, spikes_of

_SLAYER = "lava.lib.dl.slayer"
_UNITY = 4096


class Slayer:
    """Modules take all steps at once, time last: (N, C, H, W, T) or (N, F, T)."""

    name = "lava"

    def is_neuron(self, module: nn.Module) -> bool:
        """All of slayer's neurons; CUBA is the only one with an equation."""
        return any(c.__module__ == f"{_SLAYER}.neuron.base" and c.__name__ == "Neuron" for c in type(module).__mro__)

    def sends_spikes(self, module: nn.Module) -> bool:
        """CUBA neurons, unless their spikes are graded."""
        return _is(module, "neuron.cuba", "Neuron") and not getattr(module, "graded_spike", False)

    def is_plain_layer(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every backend
        """None is: slayer's synapses are three-dimensional convolutions with rounded weights."""
        return False

    def one_step_layer(self, module: nn.Module, axes: int) -> nn.Module:
        """Synapses with their rounded weights: Dense as a linear layer, on (C, H, W) and for Conv as a Conv2d."""
        dense, conv = _is(module, "synapse.layer", "Dense"), _is(module, "synapse.layer", "Conv")
        if not (dense or conv):
            return module
        node: Any = module
        with torch.no_grad():
            weight = node.weight if node.pre_hook_fx is None else node.pre_hook_fx(node.weight)
            kernel = weight[..., 0].detach()  # (out, in/groups, kH, kW)
        outputs, inputs, *size = kernel.shape
        layer: nn.Linear | nn.Conv2d
        if dense and axes == 1:
            layer, kernel = nn.Linear(inputs * size[0] * size[1], outputs, bias=False), kernel.flatten(1)
        else:
            options = {key: getattr(node, key)[:2] for key in ("stride", "padding", "dilation")}
            layer = nn.Conv2d(inputs * node.groups, outputs, tuple(size), groups=node.groups, bias=False, **options)
        layer.weight = nn.Parameter(kernel, requires_grad=False)
        return layer

    def equation(self, module: nn.Module) -> NeuronEquation:
        """u ← (1 − α_u)·u + x; v ← (1 − α_v)·v + u; s = [v > threshold]; v ← 0 where s. Decays are rounded to 1/4096.

        Fires above the threshold: slayer compares v ≥ threshold + 0.01/4096, and v is a multiple of 1/4096.
        """
        if not _is(module, "neuron.cuba", "Neuron"):
            raise UnsupportedNeuron(f"{type(module).__name__} of {type(module).__module__} is not supported; use cuba")
        node: Any = module
        if node.graded_spike:
            raise UnsupportedNeuron("cuba.Neuron(graded_spike=True) sends more than 0 and 1; use graded_spike=False")
        if node.norm is not None:
            raise UnsupportedNeuron(
                "cuba.Neuron(norm=...) normalises the synaptic current, which the chip cannot; train without it, or"
                " with weight_norm=True on the block"
            )
        return NeuronEquation(
            float(node.threshold),
            v_decay=_decay(node, "voltage_decay"),
            i_decay=_decay(node, "current_decay"),
            strict=True,
            unit=int(node.w_scale),
        )

    def check_alignment(self, model: nn.Module) -> None:
        """Refuse `delay_shift` and axonal delays."""
        for name, module in model.named_modules():
            if getattr(module, "delay_shift", False) is True:
                raise UnsupportedNeuron(
                    f"{name or type(module).__name__} shifts its spikes by one step (delay_shift=True), as the chip"
                    " does by itself; set block.delay_shift = False on every block before reading the model"
                )
            if _is(module, "axon.delay", "Delay"):
                raise UnsupportedNeuron(f"{name} delays spikes along axons; use blocks with delay=False")

    def reset(self, model: nn.Module) -> None:
        """Zero states; they differ from zero only for `persistent_state=True`."""
        for module in model.modules():
            if self.is_neuron(module):
                for key, state in list(module.named_buffers(recurse=False)):
                    if key.endswith("_state"):
                        setattr(module, key, torch.zeros_like(state))

    def predict(self, model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
        """Mean over time of the model's spikes (N, classes, T) for a constant input."""
        self.reset(model)
        scores = spikes_of(model(images.unsqueeze(-1).expand(*images.shape, time_steps)))
        return scores.mean(-1).flatten(1)

    def neuron_time_axis(self, model: nn.Module) -> int | None:  # noqa: ARG002 - asked of every backend
        """-1 likewise."""
        return -1

    def time_axis(self, model: nn.Module) -> int | None:  # noqa: ARG002 - asked of every backend
        """-1: time is the last axis."""
        return -1


def _is(module: nn.Module, place: str, name: str) -> bool:
    return type(module).__module__ == f"{_SLAYER}.{place}" and type(module).__name__ == name


def _decay(node: Any, name: str) -> float:
    values = torch.round(getattr(node, name).detach()).clamp(0, _UNITY)
    if not bool((values == values[0]).all()):
        raise UnsupportedNeuron(
            f"cuba.Neuron's {name} differs between channels ({float(values.min()):g} … {float(values.max()):g} in"
            " 1/4096), but the neurons of a population share one; use shared_param=True"
        )
    return float(values[0]) / _UNITY


BACKEND = Slayer()

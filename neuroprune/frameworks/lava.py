"""lava-dl 0.6 (`lava.lib.dl.slayer`): CUBA neurons and the blocks made of them.

Lava itself is not imported: a model that holds its classes has imported it, and they are recognised by name.
SLAYER computes in the chip's own integers: weights in 1/64 (`scale`), states in 1/4096, decays in 1/4096.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuroprune.frameworks.base import NeuronEquation, Recurrent, UnsupportedNeuron, spikes_of

_SLAYER = "lava.lib.dl.slayer"
_UNITY = 4096
#: Blocks that are not read, and what to use instead.
_REFUSED = {
    "ConvT": "is a transposed convolution; use Conv, or Dense",
    "Unpool": "is a transposed convolution; use Conv, or Dense",
    "KWTA": "lets neurons inhibit each other by a bias that depends on their number; use Recurrent",
    "TimeDecimation": "changes the number of steps; bring the input to the steps that the network runs for",
}


class Slayer:
    """Modules take all steps at once, time last: (N, C, H, W, T) or (N, F, T)."""

    name = "lava"

    def is_neuron(self, module: nn.Module) -> bool:
        """All of slayer's neurons; CUBA is the only one with an equation."""
        return any(c.__module__ == f"{_SLAYER}.neuron.base" and c.__name__ == "Neuron" for c in type(module).__mro__)

    def sends_spikes(self, module: nn.Module) -> bool:
        """CUBA neurons, unless their spikes are graded."""
        return _is(module, "neuron.cuba", "Neuron") and not getattr(module, "graded_spike", False)

    def is_plain_layer(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every framework
        """None is: slayer's synapses are three-dimensional convolutions with rounded weights."""
        return False

    def is_own_layer(self, module: nn.Module) -> bool:
        """Synapses, and the block that averages groups of neurons."""
        return any(_is(module, "synapse.layer", kind) for kind in ("Dense", "Conv", "Pool")) or _is_average(module)

    def one_step_layer(self, module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """Synapses with their rounded weights: Dense as a linear layer, on (C, H, W) and for Conv as a Conv2d."""
        if not self.is_own_layer(module):
            return module
        node: Any = module
        if _is_average(module):
            return _averages(node, shape)
        kernel = _rounded(node)[..., 0]  # (out, in/groups, kH, kW)
        if _is(module, "synapse.layer", "Pool"):
            return _pool(node, kernel, shape)
        outputs, inputs, height, width = kernel.shape
        if _is(module, "synapse.layer", "Dense") and len(shape) == 1:
            return _linear(kernel.flatten(1))
        options = {key: getattr(node, key)[:2] for key in ("stride", "padding", "dilation")}
        layer = nn.Conv2d(inputs * node.groups, outputs, (height, width), groups=node.groups, bias=False, **options)
        layer.weight = nn.Parameter(kernel, requires_grad=False)
        return layer

    def advice(self, module: nn.Module) -> str | None:  # noqa: ARG002 - asked of every framework
        """None: all of its layers that are not read are refused by `check_alignment`."""
        return None

    def instead_of_failing(self, module: nn.Module) -> str | None:  # noqa: ARG002 - asked of every framework
        """None: nothing is known."""
        return None

    def recurrent(self, module: nn.Module) -> Recurrent | None:
        """A Recurrent block: its matrices, rounded, and its neurons."""
        if not _is(module, "block.cuba", "Recurrent"):
            return None
        node: Any = module
        return Recurrent(
            _linear(_rounded(node.input_synapse).flatten(1)),
            _linear(_rounded(node.recurrent_synapse).flatten(1)),
            node.neuron,
        )

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

    def make_hard_reset(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every framework
        """CUBA neurons do so already."""
        return False

    def make_sum(self, module: nn.Module) -> bool:
        """Blocks are made of synapses and neurons."""
        raise UnsupportedNeuron(f"{type(module).__name__} always fires; end in a synapse without neurons instead")

    def check_alignment(self, model: nn.Module) -> None:
        """Refuse `delay_shift`, axonal delays, and blocks without a counterpart on the chip."""
        for name, module in model.named_modules():
            _check_block(name or type(module).__name__, module)
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

    def shows_image(self, model: nn.Module, image: Tensor, time_steps: int) -> bool:  # noqa: ARG002
        """No model does."""
        return False

    def neuron_time_axis(self, model: nn.Module) -> int | None:  # noqa: ARG002 - asked of every framework
        """-1 likewise."""
        return -1

    def time_axis(self, model: nn.Module) -> int | None:  # noqa: ARG002 - asked of every framework
        """-1: time is the last axis."""
        return -1


def _check_block(name: str, module: nn.Module) -> None:
    node: Any = module
    kind = type(module).__name__
    reason = _REFUSED.get(kind)
    if kind == "Affine" and node.dynamics:
        reason = "returns potentials (dynamics=True), which do not leave a neuron; use dynamics=False, or Dense"
    if kind == "Input" and node.neuron is not None:
        reason = "drives neurons with the input itself; give it no neuron_params, and the input to Dense or Conv"
    if reason is not None and _is(module, "block.cuba", kind):
        raise UnsupportedNeuron(f"{name} ({kind}) {reason}")


def _is_average(module: nn.Module) -> bool:
    return _is(module, "block.cuba", "Average")


def _rounded(synapse: Any) -> Tensor:
    """A synapse's weights (out, in, kH, kW, 1) as it computes with them."""
    with torch.no_grad():
        weight: Tensor = synapse.weight if synapse.pre_hook_fx is None else synapse.pre_hook_fx(synapse.weight)
    return weight.detach()


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def _averages(node: Any, shape: tuple[int, ...]) -> nn.Linear:
    """The mean of each of `num_outputs` groups of neurons that follow each other."""
    if node.count_log:
        raise UnsupportedNeuron("returns a count beside its means (count_log=True); use count_log=False")
    members = math.prod(shape) // node.num_outputs
    return _linear(torch.eye(node.num_outputs, dtype=torch.float64).repeat_interleave(members, 1) / members)


def _pool(node: Any, kernel: Tensor, shape: tuple[int, ...]) -> nn.Conv2d:
    """The sum over windows of each channel.

    Slayer puts the channels below each other, so that a window must not reach from one into the next; and it adds
    n % k zeros after the last row and column of a grid that kernels do not tile. Here they come before the kernel's
    first tap instead, with as many of padding on both sides.
    """
    channels, (rows, columns) = shape[0], tuple(n % k for n, k in zip(shape[1:], kernel.shape[2:], strict=True))
    (stride, _), (above, beside), (dilation, wide) = (getattr(node, k)[:2] for k in ("stride", "padding", "dilation"))
    reach = dilation * (kernel.shape[2] - 1) + 1
    if above or reach > stride or (shape[1] + rows) % stride or ((rows or columns) and (dilation, wide) != (1, 1)):
        raise UnsupportedNeuron(
            f"pools {shape[1]} rows in windows of {reach}, stride {stride}, padding {above}, which slayer lets reach"
            " from one channel into the next; use windows that tile the rows, without padding or dilation"
        )
    size = (kernel.shape[2] + rows, kernel.shape[3] + columns)
    options = {"stride": node.stride[:2], "padding": (rows, beside + columns), "dilation": (dilation, wide)}
    layer = nn.Conv2d(channels, channels, size, groups=channels, bias=False, **options)
    padded = functional.pad(kernel, (columns, 0, rows, 0))
    layer.weight = nn.Parameter(padded.expand(channels, -1, -1, -1).clone(), requires_grad=False)
    return layer


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


FRAMEWORK = Slayer()

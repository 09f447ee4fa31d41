"""SpikingJelly 2.x (`activation_based`), single-step and multi-step; its neurons: `spikingjelly_equations`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.frameworks import spikingjelly_equations
from neuroprune.frameworks.base import NeuronEquation, Recurrent, UnsupportedNeuron
from neuroprune.frameworks.trial import unwatched

base = require("spikingjelly.activation_based.base", "spikingjelly")
functional = require("spikingjelly.activation_based.functional", "spikingjelly")
layer = require("spikingjelly.activation_based.layer", "spikingjelly")

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
_RECURRENT = (layer.ElementWiseRecurrentContainer, layer.LinearRecurrentContainer)
_PER_STEP = (
    "computes with other numbers in every step, but a chip's weights are the same in all of them; use"
    " layer.BatchNorm2d or layer.ThresholdDependentBatchNorm2d, and train with it"
)
_ATTENDS = (
    "multiplies what several layers, positions or steps sent with each other (attention), which synapses do not; use"
    " convolutions and spiking neurons (layer.Conv2d, LIFNode)"
)
_HOLDS_MORE = (
    "feeds back more than neurons' spikes added or through its own layer; put one IFNode or LIFNode alone inside, and"
    " for an ElementWiseRecurrentContainer use lambda y, x: y + x"
)
#: Why layers have no counterpart, and what to use instead.
_ADVICE = {
    **dict.fromkeys((f"BatchNormThroughTime{n}d" for n in (1, 2, 3)), _PER_STEP),
    **dict.fromkeys((f"TemporalEffectiveBatchNorm{n}d" for n in (1, 2, 3)), _PER_STEP),
    "NeuNorm": "divides by a trace of its channels' spikes; use layer.BatchNorm2d before the neurons",
    "SynapseFilter": "filters spikes into graded traces; use CUBALIFNode, whose current decays behind the synapses",
    "Delay": "delays its input; leave it out, as aligned time is what is read",
    **dict.fromkeys(("TemporalBinSum", "SpikeCountToBinary"), "regroups steps of time; sum over time after the model"),
    **dict.fromkeys(("MaxUnpool1d", "MaxUnpool2d"), "places values where a pool found them; use layer.Upsample"),
    **dict.fromkeys(
        (
            *("TemporalWiseAttention", "MultiDimensionalAttention", "SpikingSelfAttention", "QKAttention"),
            *("TokenQKAttention", "ChannelQKAttention", "SpikeDrivenSelfAttention"),
        ),
        _ATTENDS,
    ),
    **dict.fromkeys(("ElementWiseRecurrentContainer", "LinearRecurrentContainer"), _HOLDS_MORE),
}


class SpikingJelly:
    """Multi-step modules take (T, N, ...), single-step modules one step (N, ...)."""

    name = "spikingjelly"

    def is_neuron(self, module: nn.Module) -> bool:
        """All of SpikingJelly's neurons, those that are refused too."""
        return spikingjelly_equations.is_neuron(module)

    def sends_spikes(self, module: nn.Module) -> bool:
        """Known neurons, unless their surrogate function was told to replace the step itself (`spiking=False`)."""
        surrogate = getattr(module, "surrogate_function", None)
        return spikingjelly_equations.is_known(module) and bool(getattr(surrogate, "spiking", False))

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

    def instead_of_failing(self, module: nn.Module) -> str | None:
        """For layers and containers of the other step mode than what they are given."""
        if not isinstance(module, base.StepModule):
            return None
        mode = getattr(module, "step_mode", "s")
        if mode == "s":
            return (
                "it is single-step (step_mode 's'); where it gets all steps (T, N, …), call"
                " spikingjelly.activation_based.functional.set_step_mode(model, 'm')"
            )
        return (
            "it is multi-step (step_mode 'm') and takes (T, N, …); where it gets one step or an image (N, …), give it"
            " step_mode 's', or use torch's own layer"
        )

    def recurrent(self, module: nn.Module) -> Recurrent | None:
        """A container that gives neurons their own spikes of the step before, through a layer or added to the input.

        LinearRecurrentContainer: neuron(W·(x, y) + b). ElementWiseRecurrentContainer: neuron(a·y + x).
        """
        node: Any = module
        if not isinstance(module, _RECURRENT) or not self.is_neuron(node.sub_module):
            return None
        if isinstance(module, layer.LinearRecurrentContainer):
            features = node.rc.in_features - node.sub_module_out_features
            return Recurrent(
                _linear(node.rc.weight[:, :features], node.rc.bias),
                _linear(node.rc.weight[:, features:], None),
                node.sub_module,
            )
        share = _added_share(node.element_wise_function)
        return None if share is None else Recurrent(None, torch.tensor(share), node.sub_module)

    def equation(self, module: nn.Module) -> NeuronEquation:
        """`spikingjelly_equations.equation`."""
        return spikingjelly_equations.equation(module)

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
        """Mean over time of the model's output for a constant input.

        A model that shows an image in every step itself gets (N, …); where it sums over time too, it returns (N, …).
        """
        if self.shows_image(model, images[:1], time_steps):
            scores: Tensor = model(images)
            return scores.mean(0) if scores.dim() > 2 else scores
        if self.time_axis(model) == 0:
            scores = model(images.expand(time_steps, *images.shape))
            return scores.mean(0) if scores.dim() > 2 else scores
        return torch.stack([model(images) for _ in range(time_steps)]).mean(0)

    def shows_image(self, model: nn.Module, image: Tensor, time_steps: int) -> bool:
        """Where it repeats an image or loops over steps, as SpikingJelly's examples; neurons are reset afterwards.

        Seen by the first neurons on one image (1, …): all steps of it, or one step of several.
        """
        seen: list[int] = []
        axis = self.time_axis(model)
        first = next((m for m in model.modules() if self.is_neuron(m)), None)
        if first is None:
            return False
        self.reset(model)
        with unwatched(model):
            handle = first.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
            try:
                model.eval()(image)
            except (RuntimeError, ValueError, IndexError, TypeError):
                return False
            finally:
                handle.remove()
                self.reset(model)
        return len(seen) > 1 if axis is None else seen == [time_steps] or len(seen) == time_steps > 1

    def neuron_time_axis(self, model: nn.Module) -> int | None:
        """That of the model; of a neuron module inside a container, its own."""
        return self.time_axis(model)

    def time_axis(self, model: nn.Module) -> int | None:
        """0 where its neurons are multi-step, None where single-step; what containers hold is theirs to step through.

        Layers without a state have a mode too, but do the same in both: it says what axes they take.
        """
        modes = dict(_outer_modes(model))
        if len(set(modes.values())) > 1:
            one, other = (next(name for name, mode in modes.items() if mode == each) for each in "sm")
            raise UnsupportedNeuron(
                f"the model mixes single-step and multi-step neurons ({one}: 's', {other}: 'm'); where forward takes"
                " all steps at once, call spikingjelly.activation_based.functional.set_step_mode(model, 'm'), and where"
                " it loops over them, set_step_mode(model, 's')"
            )
        return 0 if "m" in modes.values() else None


def _outer_modes(module: nn.Module, name: str = "") -> Iterator[tuple[str, str]]:
    """Step modes of a model's neurons by name, and of the containers that hold some, without those inside these."""
    holds = isinstance(module, _CONTAINERS) and any(spikingjelly_equations.is_neuron(m) for m in module.modules())
    if holds or spikingjelly_equations.is_neuron(module):
        yield name, getattr(module, "step_mode", "m")
    elif not isinstance(module, _CONTAINERS):
        for key, child in module.named_children():
            yield from _outer_modes(child, f"{name}.{key}" if name else key)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made


def _added_share(function: Callable[[Tensor, Tensor], Tensor]) -> float | None:
    """a of an element-wise function (y, x) → a·y + x, tried on some numbers; None for any other."""
    y = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    x = torch.tensor([0.0, 0.0, 0.7, -1.3, 2.0, -0.4], dtype=torch.float64)
    try:
        with torch.no_grad():
            made = function(y, x)
    except (RuntimeError, TypeError, ValueError):
        return None
    if not isinstance(made, Tensor) or made.shape != x.shape:
        return None
    share = float(made[1])
    return share if torch.allclose(made, share * y + x, atol=1e-12) else None


FRAMEWORK = SpikingJelly()

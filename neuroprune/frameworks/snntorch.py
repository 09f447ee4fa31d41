"""snnTorch 1.0: `Leaky` and `Synaptic`, with hidden states (`init_hidden=True`) or with states passed by the model.

What they compute was read from the source and measured: with `reset_delay=True` (the default) a `Leaky` that resets to
zero does so before the next step's decay, which leaves the spikes of a reset within the step; a `Synaptic` wipes out
all that the next step has computed, so that what arrives then never reaches its potential; a reset by subtraction
comes after the next step's decay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.frameworks.base import NeuronEquation, UnsupportedNeuron, spikes_of

snn = require("snntorch", "snntorch")

_NEURONS = (snn.Leaky, snn.Synaptic)


class SnnTorch:
    """Models whose neurons hide their states take one step; others loop over time in their own `forward`."""

    name = "snntorch"

    def is_neuron(self, module: nn.Module) -> bool:
        """All of snnTorch's spiking neurons."""
        return isinstance(module, snn.SpikingNeuron)

    def sends_spikes(self, module: nn.Module) -> bool:
        """Leaky and Synaptic with a surrogate that is a step going forward, and spikes of size 1."""
        return type(module) in _NEURONS and _is_step(module) and _is_one(module)

    def is_plain_layer(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every framework
        """SnnTorch has no layers of its own."""
        return False

    def is_own_layer(self, module: nn.Module) -> bool:  # noqa: ARG002 - asked of every framework
        """None is: layers are torch's."""
        return False

    def one_step_layer(self, module: nn.Module, shape: tuple[int, ...]) -> nn.Module:  # noqa: ARG002 - as above
        """The module itself."""
        return module

    def recurrent(self, module: nn.Module) -> None:
        """Recurrent neurons are not read."""

    def equation(self, module: nn.Module) -> NeuronEquation:
        """Leaky: v ← βv + x. Synaptic: u ← αu + x; v ← βv + u. Both fire where v > threshold; β and α clipped to 0 … 1.

        A reset by subtraction within the step takes the threshold off once a step: where v is above the threshold even
        then, the neuron fires in the next step only above twice the threshold (`withholds`).
        """
        kind = type(module).__name__
        if type(module) not in _NEURONS:
            raise UnsupportedNeuron(f"{kind} is not supported; use snntorch.Leaky or snntorch.Synaptic")
        node: Any = module  # snnTorch's attributes have no types
        _check_options(node, kind)
        threshold = _scalar(node, "threshold")
        if not threshold > 0:
            raise UnsupportedNeuron(f"{kind} has the threshold {threshold:g}, at or below its reset value 0; raise it")
        synaptic = type(module) is snn.Synaptic
        late = bool(node.reset_delay) and node.reset_mechanism != "none"
        return NeuronEquation(
            threshold,
            v_decay=1.0 - min(max(_scalar(node, "beta"), 0.0), 1.0),
            i_decay=1.0 - min(max(_scalar(node, "alpha"), 0.0), 1.0) if synaptic else 1.0,
            strict=True,
            reset=node.reset_mechanism,
            reset_delay=late and (synaptic or node.reset_mechanism == "subtract"),
            withholds=node.reset_mechanism == "subtract" and not node.reset_delay,
        )

    def check_alignment(self, model: nn.Module) -> None:
        """Nothing shifts spikes in time."""

    def reset(self, model: nn.Module) -> None:
        """Zero states for every neuron, however deep (`snntorch.utils.reset` sees direct children only)."""
        for module in model.modules():
            if isinstance(module, snn.SpikingNeuron) and hasattr(module, "reset_mem"):
                module.reset_mem()

    def predict(self, model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
        """Mean over time of the spikes (or currents) the model returns for a constant input.

        A model that loops over time gets (T, N, …) and may return (T, N, classes), or (N, classes) as it sums them up.
        """
        self.reset(model)
        if self.time_axis(model) is None:
            return torch.stack([spikes_of(model(images)) for _ in range(time_steps)]).mean(0)
        scores = spikes_of(model(images.expand(time_steps, *images.shape)))
        return scores.mean(0) if scores.dim() > 2 else scores

    def neuron_time_axis(self, model: nn.Module) -> int | None:  # noqa: ARG002 - asked of every framework
        """None: neurons take one step per call."""
        return None

    def time_axis(self, model: nn.Module) -> int | None:
        """None where all neurons hide their states; 0 where the model carries them through its own loop over time."""
        hidden = {bool(m.init_hidden) for m in model.modules() if isinstance(m, snn.SpikingNeuron)}
        if len(hidden) > 1:
            raise UnsupportedNeuron(
                "the model mixes neurons with init_hidden=True and False, so that neither it nor its caller owns the"
                " loop over time; give all of them the same"
            )
        return None if hidden == {True} else 0


def _check_options(node: Any, kind: str) -> None:
    if node.inhibition:
        raise UnsupportedNeuron(
            f"{kind}(inhibition=True) lets one neuron of a layer silence the others, which needs to compare potentials;"
            " use inhibition=False"
        )
    if node.state_quant:
        raise UnsupportedNeuron(f"{kind}(state_quant=...) rounds its states in its own way; use state_quant=False")
    if not _is_one(node):
        raise UnsupportedNeuron(
            f"{kind} sends spikes of size graded_spikes_factor = {node.graded_spikes_factor.tolist()}; multiply the"
            " next layer's weights by it and set it to 1"
        )
    if not _is_step(node):
        raise UnsupportedNeuron(f"{kind}'s spike_grad is no step going forward; use one of snntorch.surrogate")


def _is_one(node: Any) -> bool:
    return bool((node.graded_spikes_factor == 1).all())


def _is_step(node: Any) -> bool:
    """Whether the surrogate is [x > 0] going forward, tried on both sides of and at zero."""
    x = torch.tensor([-2.0, -1e-6, 0.0, 1e-6, 2.0])
    with torch.no_grad():
        return torch.equal(node.spike_grad(x).float(), (x > 0).float())


def _scalar(node: Any, name: str) -> float:
    values: Tensor = getattr(node, name).detach()
    low, high = float(values.min()), float(values.max())
    if not low == high:
        raise UnsupportedNeuron(
            f"{type(node).__name__}'s {name} differs between neurons ({low:g} … {high:g}), but the neurons of a"
            " population share one; give the layer one value, or split it into several"
        )
    return low


FRAMEWORK = SnnTorch()

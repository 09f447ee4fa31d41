"""What snnTorch 1.0's neurons compute, kind by kind, read from its source and measured.

With `reset_delay=True` (the default) a `Leaky` that resets to zero does so before the next step's decay, which leaves
the spikes of a reset within the step. The others wipe out all that the next step has computed, so that what arrives
then never reaches the potential; a reset by subtraction comes after the next step's decay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import nan
from typing import Any, cast

import torch
from torch import Tensor, nn

from neuroprune._require import require
from neuroprune.frameworks.base import NeuronEquation, Reset, UnsupportedNeuron
from neuroprune.frameworks.surrogates import is_step

snn = require("snntorch", "snntorch")

#: What is refused, and what to use instead.
_OTHERS = {
    "DeltaLeaky": "fires where its potential moves by more than a threshold, up or down; use Leaky",
    "LeakyParallel": "keeps its potential above zero (torch's RNN with a ReLU), and never resets; use Linear and Leaky",
    "SLSTM": "multiplies states with each other (an LSTM's gates); use RSynaptic or RLeaky",
    "SConv2dLSTM": "multiplies states with each other (an LSTM's gates); use RLeaky with conv2d_channels",
    "AssociativeLeaky": "multiplies states with each other; use Leaky",
    "LinearLeaky": "hides a linear layer; use torch.nn.Linear and StateLeaky(beta, channels=out_features)",
}


def equation(module: nn.Module) -> NeuronEquation:
    """A neuron's equation.

    Raises:
        UnsupportedNeuron: it has none of this form.
    """
    kind = type(module).__name__
    make = _EQUATIONS.get(type(module))
    if make is None:
        raise UnsupportedNeuron(f"{kind} {_OTHERS.get(kind, 'is not supported; use snntorch.Leaky or Synaptic')}")
    node: Any = module  # snnTorch's attributes have no types
    _check_options(node, kind)
    return _with_threshold(make(node), node, kind)


def is_known(module: nn.Module) -> bool:
    """Whether a neuron's kind has an equation."""
    return type(module) in _EQUATIONS


def sends_ones(node: Any) -> bool:
    """Whether its spikes are zeros and ones: a surrogate that is the step [x > 0] going forward, and spikes of 1."""
    return _is_step(node) and _is_one(node)


def said(node: Any) -> str:
    """The reset that a neuron names."""
    return ("subtract", "zero", "none")[int(node.reset_mechanism_val)]


def computed(node: Any) -> str:
    """The reset that a neuron computes: it is chosen when the neuron is made."""
    return {"_base_sub": "subtract", "_base_zero": "zero"}.get(node.state_function.__name__, "none")


def _mechanism(node: Any) -> str:
    """What a neuron's reset does, if what it says is what it computes.

    Raises:
        UnsupportedNeuron: it was changed after it had been made.
    """
    says, computes = said(node), computed(node)
    if says != computes:
        raise UnsupportedNeuron(
            f"{type(node).__name__} says reset_mechanism={says!r} but computes {computes!r}, as snnTorch 1.0 chooses it"
            f" when a neuron is made; make it with reset_mechanism={says!r}, or call neuroprune.to_hard_reset(model)"
        )
    return says


def _leaky(node: Any) -> NeuronEquation:
    """v ← βv + x, β clipped to 0 … 1."""
    plain = _with(NeuronEquation(1.0, strict=True), v_decay=1.0 - _clipped(node.beta))
    return _with_reset(plain, node, prompt=bool(node.reset_delay) and _mechanism(node) == "zero")


def _synaptic(node: Any) -> NeuronEquation:
    """u ← αu + x; v ← βv + u, α and β clipped to 0 … 1."""
    decays = {"v_decay": 1.0 - _clipped(node.beta), "i_decay": 1.0 - _clipped(node.alpha)}
    return _with_reset(_with(NeuronEquation(1.0, strict=True), **decays), node)


def _lapicque(node: Any) -> NeuronEquation:
    """v ← (1 − Δt/RC)·v + Δt/C·x."""
    resistance, capacity, step = (getattr(node, name).detach().double() for name in ("R", "C", "time_step"))
    found = _with(
        NeuronEquation(1.0, strict=True),
        v_decay=step / (resistance * capacity),
        input_gain=resistance / (resistance * capacity) * step,
    )
    return _with_reset(found, node)


def _rleaky(node: Any) -> NeuronEquation:
    """v ← βv + x + what its own spikes cause, all of which a reset to zero wipes out one step late."""
    return _with_reset(_with(NeuronEquation(1.0, strict=True), v_decay=1.0 - _clipped(node.beta)), node)


def _rsynaptic(node: Any) -> NeuronEquation:
    """A Synaptic whose current hears its own spikes."""
    if not node.reset_delay:
        raise UnsupportedNeuron(
            "RSynaptic(reset_delay=False) fails in snnTorch 1.0 with hidden states, and resets late with others; use"
            " reset_delay=True"
        )
    return _synaptic(node)


def _alpha(node: Any) -> NeuronEquation:
    """e ← αe + x; i ← βi + x; v = τ·(e − i), τ = 1 + ln α/(ln β − ln α); a reset to zero clears all, a step late."""
    reset = _mechanism(node)
    if reset == "subtract":
        raise UnsupportedNeuron(
            'Alpha(reset_mechanism="subtract") takes the threshold off a current, and its inhibition off the potential,'
            ' which is no reset of this form; use reset_mechanism="zero"'
        )
    alpha, beta = _clipped(node.alpha), _clipped(node.beta)
    gain = torch.log(alpha) / (torch.log(beta) - torch.log(alpha)) + 1.0
    found = _with(NeuronEquation(1.0, strict=True), i_decay=1.0 - alpha, v_decay=1.0 - beta, input_gain=gain)
    return replace(found, difference=True, reset=cast(Reset, reset), reset_delay=reset == "zero")


def _state_leaky(node: Any) -> NeuronEquation:
    """v ← e^(−1/τ)·v + x, τ = 1/(1 − β), for all steps at once; nothing resets it."""
    if node.kernel_truncation_steps is not None:
        raise UnsupportedNeuron(
            f"StateLeaky(kernel_truncation_steps={node.kernel_truncation_steps}) forgets all at once what is so many"
            " steps old; use None"
        )
    if not node.output:
        raise UnsupportedNeuron("StateLeaky(output=False) sends its potential instead of spikes; use output=True")
    decay = 1.0 - torch.exp(-1.0 / node.tau.detach().double())
    return replace(_with(NeuronEquation(1.0, strict=True), v_decay=decay), reset="none")


_EQUATIONS: dict[type[nn.Module], Callable[[Any], NeuronEquation]] = {
    snn.Leaky: _leaky,
    snn.Synaptic: _synaptic,
    snn.Lapicque: _lapicque,
    snn.RLeaky: _rleaky,
    snn.RSynaptic: _rsynaptic,
    snn.Alpha: _alpha,
    snn.StateLeaky: _state_leaky,
}


def _with_reset(equation: NeuronEquation, node: Any, *, prompt: bool = False) -> NeuronEquation:
    """The neuron's reset, one step late unless it is told not to be, or (`prompt`) what it does late is as good.

    A reset by subtraction within the step takes the threshold off once a step: where v is above the threshold even
    then, the neuron fires in the next step only above twice the threshold (`withholds`).
    """
    reset, late = _mechanism(node), bool(getattr(node, "reset_delay", True))
    return replace(
        equation,
        reset=cast(Reset, reset),
        reset_delay=late and reset != "none" and not prompt,
        withholds=reset == "subtract" and not late,
    )


def _with_threshold(equation: NeuronEquation, node: Any, kind: str) -> NeuronEquation:
    threshold: Tensor = node.threshold.detach().double()
    if not bool((threshold > 0).all()):
        raise UnsupportedNeuron(
            f"{kind} has the threshold {float(threshold.min()):g}, at or below its reset value 0; raise it"
        )
    return _with(equation, v_threshold=threshold)


def _with(equation: NeuronEquation, **values: Tensor) -> NeuronEquation:
    """An equation with one value for all neurons where they are equal, or each neuron's own."""
    changes: dict[str, Any] = {}
    for name, of_neurons in values.items():
        first = float(of_neurons.reshape(-1)[0])
        if bool((of_neurons == first).all()):
            changes[name] = first
        else:
            changes |= {name: nan, f"{name}s": of_neurons}
    return replace(equation, **changes)


def _clipped(values: Tensor) -> Tensor:
    return values.detach().double().clamp(0.0, 1.0)


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
    """Whether the surrogate is [x > 0] going forward."""
    return is_step(node.spike_grad, at_zero=0.0)

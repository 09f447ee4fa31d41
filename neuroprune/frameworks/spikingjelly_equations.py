"""What SpikingJelly 2.x's neurons compute in evaluation, kind by kind, and why the others have no such equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from neuroprune._require import require
from neuroprune.frameworks.base import NeuronEquation, UnsupportedNeuron
from neuroprune.frameworks.surrogates import is_step

neuron = require("spikingjelly.activation_based.neuron", "spikingjelly")

_USE = "use IFNode, LIFNode, ParametricLIFNode, KLIFNode or CUBALIFNode, and train with it"
_ALL_STEPS = "weighs the currents of several steps by numbers of its own instead of keeping a potential"
_GRADED = "sends values between or beyond 0 and 1, which are no spikes"
_TERNARY = "sends spikes of both signs, of which a chip has one"
_NOISY = "adds noise to its potential"
_ILC = "feeds a sum over neighbouring neurons back into their potentials"
_NEVER = "never fires and sends its potential; end in a linear layer without neurons, which is read as that"

#: What is refused, and why; each continues with `_USE` unless it says what to use itself.
_OTHERS = {
    **dict.fromkeys(("PSN", "MaskedPSN", "SlidingPSN"), _ALL_STEPS),
    "GatedLIFNode": "mixes decays, inputs and resets by gates that change from step to step",
    **dict.fromkeys(("DSRIFNode", "DSRLIFNode"), "sends spikes of its threshold's size, at a fraction of it"),
    "ActivationAwareIFNode": "fires by a threshold and an offset of each channel's own",
    **dict.fromkeys(("QIFNode", "EIFNode"), "charges by a non-linear function of its potential"),
    "IzhikevichNode": "has a quadratic potential and a second variable that adapts it",
    **dict.fromkeys(("AdaptBaseNode",), "adapts itself by a second variable"),
    "ComplementaryLIFNode": "has a second memory that shifts its reset by a sigmoid",
    "LIAFNode": "sends an activation of its potential instead of spikes",
    "ILIFNode": "sends the rounded number of thresholds in its potential",
    "HalfThresholdIFNode": (
        "starts at half its threshold instead of its reset value (with ann2snn, RateCodingRecipe makes IFNodes instead)"
    ),
    "STBIFNode": f"remembers all it sent; {_TERNARY}",
    **dict.fromkeys(("TernaryIFNode", "TernaryLIFNode"), _TERNARY),
    **dict.fromkeys(("FewSpikeNode", "OutlierAwareThresholdNode", "HGNode"), "has a threshold for every step"),
    "RAFNode": "rotates a complex potential",
    "FlexSN": "runs a step of the user's own",
    **dict.fromkeys(("MPBNBaseNode", "MPBNLIFNode"), "normalises its potential"),
    **dict.fromkeys(("ILCBaseNode", "ILCIFNode", "ILCLIFNode", "ILCCUBALIFNode"), _ILC),
    **dict.fromkeys(("NoisyBaseNode", "NoisyCUBALIFNode", "NoisyILCBaseNode", "NoisyILCCUBALIFNode"), _NOISY),
}


def is_neuron(module: nn.Module) -> bool:
    """Whether a module's class, or one that it derives from, stands among SpikingJelly's neurons."""
    return any(c.__module__.startswith(neuron.__name__) for c in type(module).__mro__)


def is_known(module: nn.Module) -> bool:
    """Whether a neuron's kind has an equation."""
    return _kind(module) in _EQUATIONS


def _kind(module: nn.Module) -> type[nn.Module]:
    """A neuron's class; of the one that SpikeDHS searches with, which only notes its potential, LIFNode."""
    cls = type(module)
    noting = (cls.__module__, cls.__name__) == ("spikingjelly.activation_based.model.spike_dhs", "save_v_LIFNode")
    return neuron.LIFNode if noting else cls


def equation(module: nn.Module) -> NeuronEquation:
    """A neuron's equation; its potential is counted from `v_reset`, which is also where it starts.

    All fire at v ≥ v_threshold and then reset to v_reset, or, if that is None, by subtracting v_threshold.

    Raises:
        UnsupportedNeuron: it has none of this form.
    """
    kind = type(module).__name__
    make = _EQUATIONS.get(_kind(module))
    if make is None:
        raise UnsupportedNeuron(f"({kind}) {_reason(kind)}")
    node: Any = module  # SpikingJelly's attributes have no types
    _check_surrogate(node, kind)
    v_reset = 0.0 if node.v_reset is None else float(node.v_reset)
    return make(
        node,
        NeuronEquation(float(node.v_threshold) - v_reset, reset="subtract" if node.v_reset is None else "zero"),
        v_reset,
    )


def _reason(kind: str) -> str:
    if "NonSpiking" in kind:
        return _NEVER
    return f"{_OTHERS.get(kind, 'computes in a way of its own that is not known')}; {_USE}"


def _check_surrogate(node: Any, kind: str) -> None:
    """Refuse a surrogate that going forward is something else than the step [x ≥ 0], though it claims to spike."""
    surrogate = node.surrogate_function
    if not getattr(surrogate, "spiking", True) or type(node) in (neuron.OTTTLIFNode, neuron.SLTTLIFNode):
        return
    if not is_step(surrogate, at_zero=1.0):
        raise UnsupportedNeuron(
            f"({kind}) has the surrogate function {type(surrogate).__name__}, which going forward is not the step 0 or"
            " 1; use surrogate.ATan or surrogate.Sigmoid"
        )


def _integrate(_node: Any, plain: NeuronEquation, _v_reset: float) -> NeuronEquation:
    """v ← v + x."""
    return plain


def _leaky(node: Any, plain: NeuronEquation, _v_reset: float) -> NeuronEquation:
    """v ← v + (x − (v − v_reset))/τ; without decay_input v ← v − (v − v_reset)/τ + x."""
    return _decaying(node, plain, 1.0 / float(node.tau))


def _parametric(node: Any, plain: NeuronEquation, _v_reset: float) -> NeuronEquation:
    """LIF with 1/τ = sigmoid(w), in the precision the neuron computes it in."""
    return _decaying(node, plain, float(node.w.detach().sigmoid()))


def _decaying(node: Any, plain: NeuronEquation, decay: float) -> NeuronEquation:
    return replace(plain, v_decay=decay, input_gain=decay if node.decay_input else 1.0)


def _current_based(node: Any, plain: NeuronEquation, v_reset: float) -> NeuronEquation:
    """c ← c_decay·c + x; v ← v_decay·v + c (these two are what is kept)."""
    if v_reset != 0.0:
        # v itself decays towards 0, not towards v_reset.
        raise UnsupportedNeuron(f"(CUBALIFNode) decays towards 0, but resets to v_reset={v_reset}; use v_reset=0.0")
    return replace(plain, v_decay=1.0 - float(node.v_decay), i_decay=1.0 - float(node.c_decay))


def _rectified(node: Any, plain: NeuronEquation, v_reset: float) -> NeuronEquation:
    """v ← max(0, k·(v − v/τ + x/τ)), x alone without decay_input; with scale_reset what is kept is divided by k."""
    k = float(node.k.detach())
    if v_reset != 0.0 or k <= 0:
        raise UnsupportedNeuron(
            f"(KLIFNode) with v_reset={node.v_reset} and k = {k:g} rectifies towards another value than it resets to;"
            " use v_reset=0.0 or None, and a positive k"
        )
    decay = 1.0 / float(node.tau)
    gain = k * (decay if node.decay_input else 1.0)
    kept = 1.0 - decay if node.scale_reset else k * (1.0 - decay)
    if kept > 1.0:
        raise UnsupportedNeuron(
            f"(KLIFNode) has k = {k:g}, by which its potential grows by itself ({kept:g} of it in the next step); use"
            " scale_reset=True, or keep k at τ/(τ − 1) or below"
        )
    return replace(plain, v_decay=1.0 - kept, input_gain=gain, v_min=0.0)


def _simple(node: Any, plain: NeuronEquation, v_reset: float) -> NeuronEquation:
    """As IF and LIF, but starting at 0."""
    if v_reset != 0.0:
        raise UnsupportedNeuron(
            f"({type(node).__name__}) starts at 0 and resets to v_reset={v_reset}; use v_reset=0.0, or LIFNode"
        )
    if type(node) is neuron.SimpleIFNode:
        return plain
    if node.v_reset is None:
        raise UnsupportedNeuron("(SimpleLIFNode) fails with v_reset=None; use LIFNode")
    return _leaky(node, plain, v_reset)


_EQUATIONS: dict[type[nn.Module], Callable[[Any, NeuronEquation, float], NeuronEquation]] = {
    neuron.IFNode: _integrate,
    neuron.LIFNode: _leaky,
    neuron.ParametricLIFNode: _parametric,
    neuron.CUBALIFNode: _current_based,
    neuron.KLIFNode: _rectified,
    neuron.SimpleIFNode: _simple,
    neuron.SimpleLIFNode: _simple,
    neuron.OTTTLIFNode: _leaky,
    neuron.SLTTLIFNode: _leaky,
}

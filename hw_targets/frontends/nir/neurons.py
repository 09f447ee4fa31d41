"""NIR's neurons, which are differential equations, as steps of a given length.

Over one step of length dt a leak of time constant τ takes the fraction d of what is there:
  "euler"        d = dt/τ             forward Euler; what snnTorch, SpikingJelly and Norse compute
  "exponential"  d = 1 − exp(−dt/τ)   exact for an input that is constant over the step; what Sinabs computes
so that τ·v̇ = (v_leak − v) + R·I becomes v ← (1 − d)·v + d·(v_leak + R·I), and v̇ = R·I becomes v ← v + dt·R·I. Of two
coupled equations (CubaLIF) the current takes its step first. Source of the equations: nir 1.0.8, `ir/neuron.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, prod
from typing import Literal, cast

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.nir.tree import Node
from hw_targets.frontends.signals import Floats
from hw_targets.ir.network import LIF, Accumulator, Shape
from hw_targets.ir.neurons import Reset

Solver = Literal["euler", "exponential"]

#: Exporters compute in float32: what is 1 within this is 1.
ROUNDING = 1e-6
#: An input that reaches the potential with less than this was most likely meant for another dt.
FAINT = 1e-3


@dataclass(frozen=True)
class Step:
    """Length of a step in the file's unit of time (`assumed`: nobody gave it), how it is taken, and v > or ≥ θ.

    `reset` and `reset_delay` are for neurons that do not say it themselves; None: nobody said, zero within the step.
    """

    dt: float
    assumed: bool = False
    solver: Solver = "euler"
    strict: bool | None = None
    reset: Reset | None = None
    reset_delay: bool | None = None

    def decay(self, tau: float) -> float:
        """d of the module's equations.

        Raises:
            UnsupportedModel: a time constant below dt, where forward Euler overshoots, or not above 0.
        """
        if tau <= 0 or self.dt / tau > (1 + ROUNDING if self.solver == "euler" else np.inf):
            raise UnsupportedModel(
                f"has a time constant of {tau:g}, shorter than a step of dt = {self.dt:g}; pass the dt that the file"
                " was written for (Norse 1.1 stores its time constants in seconds times its dt: pass dt squared, 1e-6"
                " by default)"
            )
        return min(1.0, self.dt / tau) if self.solver == "euler" else -expm1(-self.dt / tau)


@dataclass(frozen=True, eq=False)
class Dynamics:
    """The chip's neuron, what each channel's input is multiplied by on its way in, and what a leak adds to each."""

    neuron: LIF | Accumulator
    gain: Floats
    bias: Floats | None = None


def dynamics(node: Node, shape: Shape, step: Step) -> Dynamics:
    """A NIR neuron of a population of that shape, potentials counted from v_reset.

    Thresholds that differ between channels are made equal by scaling what comes in, which changes no spike.

    Raises:
        UnsupportedModel: no exact counterpart on a chip; the message is a verb phrase.
    """
    if node.kind in ("LI", "CubaLI"):
        return _leaky_readout(node, shape, step)
    if node.kind == "I":
        return Dynamics(Accumulator(), _snapped(step.dt * _channels(node, "r", shape), step))
    if node.kind == "Threshold":
        theta = _channels(node, "threshold", shape)
        return _firing(node, theta, np.ones(len(theta)), np.zeros(len(theta)), step, v_decay=1.0)
    reset = _channels(node, "v_reset", shape)
    theta, r = _channels(node, "v_threshold", shape) - reset, _channels(node, "r", shape)
    if node.kind == "IF":
        return _firing(node, theta, step.dt * r, np.zeros(len(r)), step)
    leak = _channels(node, "v_leak", shape) - reset
    d = step.decay(_same(node, "tau" if node.kind == "LIF" else "tau_mem", shape))
    if node.kind == "LIF":
        return _firing(node, theta, d * r, d * leak, step, v_decay=d)
    i = step.decay(_same(node, "tau_syn", shape))
    w_in = _channels(node, "w_in", shape, missing=1.0)
    return _firing(node, theta, d * r * i * w_in, d * leak, step, v_decay=d, i_decay=i)


def _leaky_readout(node: Node, shape: Shape, step: Step) -> Dynamics:
    """A potential that nothing resets, counted from 0, where it starts."""
    r, leak = _channels(node, "r", shape), _channels(node, "v_leak", shape)
    d = step.decay(_same(node, "tau" if node.kind == "LI" else "tau_mem", shape))
    bias = d * leak if leak.any() else None
    if node.kind == "LI":
        return Dynamics(Accumulator(d), _snapped(d * r, step), bias)
    i = step.decay(_same(node, "tau_syn", shape))
    gain = d * r * i * _channels(node, "w_in", shape, missing=1.0)
    return Dynamics(Accumulator(d, i), _snapped(gain, step), bias)


def _firing(
    node: Node, theta: Floats, gain: Floats, bias: Floats, step: Step, *, v_decay: float = 0.0, i_decay: float = 1.0
) -> Dynamics:
    gain = _snapped(gain, step)
    if (theta != theta[0]).any():
        if (theta <= 0).any():
            raise UnsupportedModel("has thresholds that differ and are not all above v_reset; give each its own node")
        gain, bias = gain * theta[0] / theta, bias * theta[0] / theta
    strict = bool(node.metadata.get("strict", True)) if step.strict is None else step.strict
    unit, v_min = node.metadata.get("unit"), node.metadata.get("v_min")
    neuron = LIF(
        float(theta[0]),
        v_decay,
        i_decay,
        strict,
        None if unit is None else int(unit),
        reset=_reset(node, step),
        reset_delay=_is_late(node, step),
        max_spikes=int(node.metadata.get("max_spikes", 1)),
        withholds=bool(node.metadata.get("withholds", False)),
        v_min=None if v_min is None else float(v_min),
    )
    return Dynamics(neuron, gain, bias if bias.any() else None)


def says_reset(node: Node) -> bool:
    """Whether a neuron of the file says how it resets; NIR 1.0.8 itself has no place for it but v_reset's name."""
    return "reset" in node.metadata or node.kind not in ("IF", "LIF", "CubaLIF")


def _reset(node: Node, step: Step) -> Reset:
    said = node.metadata.get("reset", step.reset or "zero")
    if said not in ("zero", "subtract", "none"):
        raise UnsupportedModel(f"says that it resets as {said!r}, known are zero, subtract and none; pass reset")
    return cast(Reset, said)


def _is_late(node: Node, step: Step) -> bool:
    """Whether the reset acts one step late; a file that says how its neurons reset says this, too, where it is so."""
    said = "reset" in node.metadata
    return bool(node.metadata.get("reset_delay", False)) if said else bool(step.reset_delay)


def _snapped(gain: Floats, step: Step) -> Floats:
    if step.assumed and 0 < np.abs(gain).max() < FAINT:
        raise UnsupportedModel(
            f"takes only {np.abs(gain).max():.2g} of its input in a step of dt = {step.dt:g}, which is assumed, since"
            " the file does not say; pass dt (1 for a file of Sinabs), or this one if it is meant"
        )
    return np.where(np.abs(gain - 1.0) <= ROUNDING, 1.0, gain)


def _same(node: Node, key: str, shape: Shape) -> float:
    """A parameter that the neurons of a population must share."""
    values = _whole(node, key, shape)
    if (values != values.flat[0]).any():
        raise UnsupportedModel(
            f"has {key} from {values.min():g} to {values.max():g}, but a population has one; give each its own node"
        )
    return float(values.flat[0])


def _channels(node: Node, key: str, shape: Shape, missing: float = 0.0) -> Floats:
    """A parameter of every neuron as one of every channel, (C,) or (F,)."""
    rows = _whole(node, key, shape, missing).reshape(shape[0], -1)
    if (rows != rows[:, :1]).any():
        raise UnsupportedModel(
            f"has {key} that differs between the neurons of one channel; a convolution's neurons share it: make it one"
            " value per channel"
        )
    return rows[:, 0].copy()


def _whole(node: Node, key: str, shape: Shape, missing: float = 0.0) -> Floats:
    """A parameter of every neuron, from one for all or one for each."""
    values = node.floats(key, missing)
    try:
        return values.reshape(shape) if values.size == prod(shape) else np.broadcast_to(values, shape)
    except ValueError:
        raise UnsupportedModel(
            f"has {key} of shape {values.shape}, but gets a signal of shape {shape}; if a batch axis is counted as"
            " part of the shape, pass input_shape"
        ) from None

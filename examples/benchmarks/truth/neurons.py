"""Neurons of the generated models, and one that rounds as the chip does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from examples.benchmarks.truth.tape import Tape

#: Loihi counts decays in 1/4096 and states in 1/64 of the weights' unit, in 24 bits (lava-nc 0.10.0 `proc/lif`).
DECAYS, FRACTIONS, STATE_LIMIT = 4096, 64, (1 << 23) - 1


def draw_neuron(tape: Tape, layout: str) -> tuple[Callable[[], nn.Module], bool, str]:
    """A maker of neurons, whether their current lasts over steps (then the layer has no bias), and their name."""
    threshold = tape.choice(1.0, 0.5, 0.25, 0.1, tape.integer(1, 200) / 100)
    if layout in ("multi-step", "single-step"):
        return _draw_spikingjelly(tape, threshold)
    return _draw_snntorch(tape, threshold, hidden=layout == "hidden")


def _draw_decay(tape: Tape) -> float:
    """Powers of two and whole 4096ths, which the chip holds exactly, and others."""
    return tape.choice(0.5, 0.25, tape.integer(1, 4095) / 4096, tape.integer(1, 99) / 100, 1 / 4096, 4095 / 4096)


def _draw_spikingjelly(tape: Tape, threshold: float) -> tuple[Callable[[], nn.Module], bool, str]:
    from spikingjelly.activation_based import neuron

    kind = tape.choice("IF", "IF", "LIF", "PLIF", "CUBA")
    if kind == "IF":
        return (lambda: neuron.IFNode(v_threshold=threshold)), False, "IF"
    decay, gains = _draw_decay(tape), tape.chance(50)
    if kind == "CUBA":
        fade, keep = _draw_current(tape), tape.choice(1.0, 0.0, 1.0 - decay)
        return (lambda: neuron.CUBALIFNode(fade, keep, v_threshold=threshold)), True, "CUBA-LIF"
    # With `decay_input` the input is divided by τ, so the threshold shrinks with it.
    level = threshold * decay if gains else threshold
    node = neuron.LIFNode if kind == "LIF" else neuron.ParametricLIFNode
    return (lambda: node(1.0 / decay, gains, v_threshold=level)), False, f"{kind}{' with input decay' * gains}"


def _draw_snntorch(tape: Tape, threshold: float, *, hidden: bool) -> tuple[Callable[[], nn.Module], bool, str]:
    import snntorch as snn

    kind = tape.choice("IF", "IF", "Leaky", "Leaky that forgets", "Synaptic")
    options: dict[str, Any] = {"threshold": threshold, "reset_mechanism": "zero", "init_hidden": hidden}
    options |= {"spike_grad": above_zero, "reset_delay": tape.chance(50) and kind != "Synaptic"}
    beta = {"IF": 1.0, "Leaky that forgets": 0.0}.get(kind, 1.0 - _draw_decay(tape))
    if kind == "Synaptic":
        alpha, beta = _draw_current(tape), tape.choice(1.0, 0.0, beta)
        return (lambda: snn.Synaptic(alpha, beta, **options)), True, kind
    return (lambda: snn.Leaky(beta, **options)), False, kind if kind != "IF" else "Leaky that never forgets"


def _draw_current(tape: Tape) -> float:
    """What is left of a current after one step."""
    return tape.choice(0.5, 0.0, 1.0, 1.0 - _draw_decay(tape))


def above_zero(x: Tensor) -> Tensor:
    """[x > 0] in the precision of x; snnTorch's own surrogates go through float32."""
    return (x > 0).to(x.dtype)


class ChipNeuron(nn.Module):
    """u ← rz(u) + x; v ← rz(v) + u, clipped; s = [v > θ]; v ← 0 where s, in real units.

    rz(x) takes what the decay leaves of x toward zero to a whole 64th of the chip's unit. It stands in for a model's
    own neuron where the chip rounds or clips what no model of real numbers does. States are whole numbers of 64ths, so
    float64 holds them exactly.
    """

    def __init__(self, threshold: float, v_decay: int, i_decay: int, scale: float, *, multi_step: bool) -> None:
        super().__init__()
        self.threshold, self.v_decay, self.i_decay = threshold, v_decay, i_decay
        self.unit, self.multi_step = scale * FRACTIONS, multi_step
        self.u: Tensor | float = 0.0
        self.v: Tensor | float = 0.0
        self.clips = 0

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of all steps, or of one."""
        return torch.stack([self._step(step) for step in x]) if self.multi_step else self._step(x)

    def _step(self, x: Tensor) -> Tensor:
        arriving = (x * self.unit).round()
        # A bias is added to x by the layer before; it enters v alone, but layers with lasting currents have none.
        self.u = _kept(self.u, self.i_decay) + arriving
        v = _kept(self.v, self.v_decay) + self.u
        clipped = v.clamp(-STATE_LIMIT, STATE_LIMIT)
        self.clips += int((clipped != v).sum())
        fired = clipped > self.threshold * self.unit
        self.v = clipped.masked_fill(fired, 0.0)
        return fired.to(x.dtype)


def _kept(state: Tensor | float, decay: int) -> Tensor | float:
    """What a decay leaves, rounded toward zero."""
    if isinstance(state, float):
        return state
    return (state * (DECAYS - decay) / DECAYS).trunc()

"""What a surrogate-gradient framework must say about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


class UnsupportedNeuron(ValueError):
    """A neuron whose dynamics cannot be written as a `NeuronEquation`; the message says what to use instead."""


@dataclass(frozen=True)
class NeuronEquation:
    """Discrete-time leaky integrate-and-fire with hard reset, the potential counted from its reset value.

    v ← (1 − v_decay)·v + input_gain·x;  s = [v ≥ v_threshold];  v ← 0 where s;  v = 0 before the first step.
    """

    v_threshold: float
    v_decay: float = 0.0
    input_gain: float = 1.0


class Backend(Protocol):
    """One framework."""

    name: str

    def is_neuron(self, module: nn.Module) -> bool:
        """Whether a module turns currents into spikes."""
        ...

    def sends_spikes(self, module: nn.Module) -> bool:
        """Whether a module's output is zeros and ones by its very definition (a neuron with a Heaviside output)."""
        ...

    def is_plain_layer(self, module: nn.Module) -> bool:
        """Whether a subclass of a torch layer computes what that layer does (for every time step)."""
        ...

    def equation(self, module: nn.Module) -> NeuronEquation:
        """What a neuron computes. Raises UnsupportedNeuron when it does not have this form."""
        ...

    def reset(self, model: nn.Module) -> None:
        """Put every neuron of a model into its initial state."""
        ...

    def predict(self, model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
        """Class scores (N, classes) of static images (N, C, H, W) shown for `time_steps` steps, from a fresh state."""
        ...

    def time_axis(self, model: nn.Module) -> int | None:
        """Axis of the model's input that is time: 0 where it takes all steps at once, None where it takes one."""
        ...

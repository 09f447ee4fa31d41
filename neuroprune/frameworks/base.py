"""What a surrogate-gradient framework must say about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from torch import Tensor, nn

Reset: TypeAlias = Literal["zero", "subtract", "none"]


class UnsupportedNeuron(ValueError):
    """A neuron whose dynamics cannot be written as a `NeuronEquation`; the message says what to use instead."""


@dataclass(frozen=True)
class Recurrent:
    """Neurons that hear their own spikes one step later: s[t] = neuron(input(x[t]) + feedback(s[t − 1])).

    Attributes:
        input: a layer before the neurons that belongs to them; None: there is none.
        feedback: a layer, or, where each neuron hears itself alone, the weights, which broadcast to one step; None:
            they do not hear themselves, and the module is but a layer and its neurons.
        neuron: the neurons, which may be the recurrent module itself.
    """

    input: nn.Linear | None
    feedback: nn.Module | Tensor | None
    neuron: nn.Module


@dataclass(frozen=True)
class NeuronEquation:
    """Discrete-time leaky integrate-and-fire, the potential counted from its reset value.

    u ← (1 − i_decay)·u + input_gain·x;  v ← (1 − v_decay)·v + u;  s = [v ≥ v_threshold];  then the reset:
    "zero" v ← 0 where s;  "subtract" v ← v − v_threshold·s;  "none" nothing.  u = v = 0 before the first step.

    Attributes:
        i_decay: 1 where there is no synaptic current: what arrives lasts for one step.
        strict: the neuron fires above its threshold, s = [v > v_threshold].
        reset_delay: the reset acts one step late, on what the next step has computed. With r = s of the step before:
            "zero" v ← (1 − r)·((1 − v_decay)·v + u), so that what arrives in that step is lost;
            "subtract" v ← (1 − v_decay)·v + u − v_threshold·r.
        withholds: a neuron whose potential is above the threshold after its reset fires in the next step only above
            twice the threshold.
        unit: the integer that stands for a potential of 1.0 where the framework itself computes in integers.
        difference: v is the difference of two traces instead: u ← (1 − i_decay)·u + input_gain·x;
            w ← (1 − v_decay)·w + input_gain·x;  v = u − w. A reset clears both.
        exact: the chip's own neuron that it is, integer by integer, its input in whole numbers; the rest says what that
            is near to.
        max_spikes: spikes a neuron may send in one step: s = min(max_spikes, ⌊v / v_threshold⌋).
        v_min: the potential never stays below it: v ← max(v, v_min) at the end of a step.
        v_thresholds, v_decays, i_decays, input_gains: each neuron's own, where they differ; they broadcast to one step
            of the input, (N, *shape), and the single one is NaN.
    """

    v_threshold: float
    v_decay: float = 0.0
    input_gain: float = 1.0
    i_decay: float = 1.0
    strict: bool = False
    reset: Reset = "zero"
    reset_delay: bool = False
    withholds: bool = False
    unit: int | None = None
    difference: bool = False
    exact: object | None = field(default=None, compare=False)
    max_spikes: int = 1
    v_min: float | None = None
    v_thresholds: Tensor | None = field(default=None, compare=False)
    v_decays: Tensor | None = field(default=None, compare=False)
    i_decays: Tensor | None = field(default=None, compare=False)
    input_gains: Tensor | None = field(default=None, compare=False)


class Framework(Protocol):
    """One framework."""

    name: str

    def is_neuron(self, module: nn.Module) -> bool:
        """Whether a module turns currents into spikes."""
        ...

    def sends_spikes(self, module: nn.Module) -> bool:
        """Whether a module's output is zeros and ones by its very definition (a neuron with a Heaviside output).

        Of a neuron that returns its state too, the first element of the tuple it returns.
        """
        ...

    def is_plain_layer(self, module: nn.Module) -> bool:
        """Whether a subclass of a torch layer computes what that layer does (for every time step)."""
        ...

    def is_own_layer(self, module: nn.Module) -> bool:
        """Whether a module is a layer of the framework's own kind, for which `one_step_layer` has another."""
        ...

    def one_step_layer(self, module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """The torch layer that does to one step of shape (F,) or (C, H, W) what a module does.

        The module itself, unless it is a layer of the framework's own kind. Raises UnsupportedNeuron where none does.
        """
        ...

    def advice(self, module: nn.Module) -> str | None:
        """Why one of the framework's own layers has no counterpart on a chip, and what to use; None: nothing is known.

        A verb phrase: "delays its input by steps of its own; …".
        """
        ...

    def instead_of_failing(self, module: nn.Module) -> str | None:
        """What to try where a module cannot run on what it is given; None: nothing is known."""
        ...

    def recurrent(self, module: nn.Module) -> Recurrent | None:
        """The parts of a recurrent block, or of neurons that are one by themselves; None for anything else."""
        ...

    def equation(self, module: nn.Module) -> NeuronEquation:
        """What a neuron computes. Raises UnsupportedNeuron when it does not have this form."""
        ...

    def make_hard_reset(self, module: nn.Module) -> bool:
        """Make a neuron that resets in another way reset to zero in the step it fires; whether that changed it.

        Raises UnsupportedNeuron where it has no such reset. A neuron that never resets stays as it is.
        """
        ...

    def make_sum(self, module: nn.Module) -> bool:
        """Make neurons sum their input and never fire; whether that changed them. Raises UnsupportedNeuron likewise."""
        ...

    def check_alignment(self, model: nn.Module) -> None:
        """Raise UnsupportedNeuron where spikes reach the next layer later than in the step they were sent in."""
        ...

    def reset(self, model: nn.Module) -> None:
        """Put every neuron of a model into its initial state."""
        ...

    def predict(self, model: nn.Module, images: Tensor, time_steps: int) -> Tensor:
        """Class scores (N, classes) of static images (N, C, H, W) shown for `time_steps` steps, from a fresh state."""
        ...

    def shows_image(self, model: nn.Module, image: Tensor, time_steps: int) -> bool:
        """Whether a model shows an image (1, …) in every step itself, so that it takes (N, …) for a whole sample."""
        ...

    def neuron_time_axis(self, model: nn.Module) -> int | None:
        """Axis of a neuron module's input that is time; None where it takes one step per call.

        Of a model, that of its neurons; of a neuron module, its own.
        """
        ...

    def time_axis(self, model: nn.Module) -> int | None:
        """Axis of the model's input that is time: 0 or -1 where it takes all steps at once, None where it takes one."""
        ...


def spikes_of(output: Any) -> Tensor:
    """The spikes in what a neuron, or a model that ends in one, returns: the tensor, or the first of a tuple."""
    spikes: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return spikes

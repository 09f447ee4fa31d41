"""From neurons that reset by subtraction, the default of snnTorch, to those that most chips have."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from neuroprune.frameworks import framework_of
from neuroprune.frameworks.base import UnsupportedNeuron


def to_hard_reset(model: nn.Module, *, readout: str | None = None) -> tuple[str, ...]:
    """Make a model's neurons reset to zero in the step they fire, in place; train it (on) afterwards.

    The forward pass stays as it is written. Neurons that never reset stay as they are. What the neurons send changes,
    so that a trained model loses accuracy until it is trained again; an optimizer made before keeps its parameters, but
    for those of the readout.

    Args:
        model: of SpikingJelly, snnTorch or lava-dl.
        readout: name of the last neurons, of which the model returns the potential (snnTorch's `mem_rec`): they only
            sum what they get, and never fire, which is a linear readout. A chip has that exactly, and it learns better
            than spikes counted over a few steps (docs/snntorch-to-chip.md). `readout_loss` is its loss. None: the last
            neurons spike like the others.

    Returns:
        Names of the neurons that it changed.

    Raises:
        UnsupportedNeuron: neurons that cannot be changed, of which the message says what to use instead; or no neurons.
    """
    framework = framework_of(model)
    if framework is None:
        raise UnsupportedNeuron("to_hard_reset: the model has no spiking neurons of a known framework")
    neurons = {name: module for name, module in model.named_modules() if framework.is_neuron(module)}
    if readout is not None and readout not in neurons:
        raise UnsupportedNeuron(f"to_hard_reset: {readout!r} names no neurons of the model; they are {list(neurons)}")
    changed = []
    for name, module in neurons.items():
        try:
            change = framework.make_sum if name == readout else framework.make_hard_reset
            if change(module):
                changed.append(name)
        except UnsupportedNeuron as error:
            raise UnsupportedNeuron(f"to_hard_reset: {name}: {error}") from error
    return tuple(changed)


def readout_loss(potentials: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a linear readout: of the mean of what it got, its last potential over the number of steps.

    Args:
        potentials: (T, N, classes), those of every step (`torch.stack(mem_rec)`), of neurons that only sum.
        labels: (N,) classes.
    """
    return functional.cross_entropy(potentials[-1] / len(potentials), labels)

"""How far a network's spikes are from those of the torch model it was read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hw_targets.emulation.emulate import emulate
from hw_targets.errors import InvalidNetwork
from hw_targets.frontends.torch.evaluation import evaluated
from hw_targets.ir.network import ChipNetwork, Network
from neuroprune.frameworks import Framework, framework_of, spikes_of


@dataclass(frozen=True)
class SpikeDifference:
    """Per population, over all steps, samples and neurons: spikes of the model, of the network, and how many differ.

    One that is sent a step early or late counts twice: it is missing in one step and unexpected in another.
    """

    model: Mapping[str, int]
    network: Mapping[str, int]
    different: Mapping[str, int]

    @property
    def total(self) -> int:
        """All that differ."""
        return sum(self.different.values())

    def __str__(self) -> str:
        return f"{self.total} spikes differ; the model sent {sum(self.model.values())}, the network" + (
            f" {sum(self.network.values())}"
        )


def spike_difference(model: nn.Module, network: Network | ChipNetwork, inputs: Tensor) -> SpikeDifference:
    """Run a model and a network read from it on the same inputs, and compare the spikes of every neuron module.

    Args:
        model: run in evaluation mode, as it was read, and left in its own; its neurons are reset before and after.
        network: what `from_torch` read from it, or what `quantize` made of that.
        inputs: what the model takes, as for `from_torch`; a model that takes one step per call gets it in every step.
            Images are rounded to the chip's 8 bits for both.

    Raises:
        InvalidNetwork: the network holds none of the model's neurons, or the model runs for another number of steps.
    """
    framework = framework_of(model)
    if framework is None:
        raise InvalidNetwork("spike_difference: the model has no spiking neurons of a known framework")
    neuron = network.inputs[0].neuron
    shown = (inputs * neuron.unit_sent).round() / neuron.unit_sent if neuron.is_graded else inputs
    with _recorded(model, framework) as seen:
        _run(model, framework, shown, seen, network.time_steps)
    axis = framework.neuron_time_axis(model)
    modules = dict(model.named_modules())
    sent = {name: _steps(seen[name], framework.neuron_time_axis(modules[name])) for name in seen if seen[name]}
    ours = emulate(network, _as_samples(shown.movedim(-1, 0) if axis == -1 else shown, network)).spikes
    names = [name for name in sent if name in ours]
    if not names or any(len(sent[name]) != network.time_steps for name in names):
        steps = {name: len(s) for name, s in sent.items()}
        raise InvalidNetwork(
            f"spike_difference: the model's neurons ran for {steps} steps, the network for {network.time_steps}; pass"
            " the network that was read from this model, and inputs as from_torch takes them"
        )
    ours_by_name = {name: torch.from_numpy(ours[name]) for name in names}
    return SpikeDifference(
        {name: int(sent[name].sum()) for name in names},
        {name: int(ours_by_name[name].sum()) for name in names},
        {name: int((sent[name].reshape(ours_by_name[name].shape) != ours_by_name[name]).sum()) for name in names},
    )


def _as_samples(inputs: Tensor, network: Network | ChipNetwork) -> Tensor:
    """(N, *shape) or (T, N, *shape), where the model may take (C, L) for the network's (C, 1, L)."""
    shape = network.inputs[0].shape
    whole = tuple(inputs.shape[-len(shape) :]) == shape and inputs.dim() > len(shape)
    return inputs if whole else inputs.unsqueeze(-2)


def _run(model: nn.Module, framework: Framework, inputs: Tensor, seen: Mapping[str, list[Tensor]], steps: int) -> None:
    """Call a model until its neurons have taken all steps: once, or once per step where it does not loop itself."""
    with evaluated(model, framework):
        model(inputs)
        if framework.time_axis(model) is None:
            for _ in range(steps - max((len(outputs) for outputs in seen.values()), default=0)):
                model(inputs)


@contextmanager
def _recorded(model: nn.Module, framework: Framework) -> Iterator[dict[str, list[Tensor]]]:
    seen: dict[str, list[Tensor]] = {name: [] for name, m in model.named_modules() if framework.is_neuron(m)}

    def note(name: str) -> Any:
        return lambda _module, _inputs, output: seen[name].append(spikes_of(output).detach().cpu().clone())

    handles = [m.register_forward_hook(note(name)) for name, m in model.named_modules() if name in seen]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _steps(outputs: list[Tensor], axis: int | None) -> Tensor:
    """(T, N, …) integers."""
    # Neurons of a recurrent block are called once per step, whatever their axis of time.
    if axis is None or (axis == 0 and len(outputs) > 1):
        return torch.stack(outputs).to(torch.int64)
    whole = torch.cat(outputs, axis).movedim(axis, 0)
    return whole.to(torch.int64)

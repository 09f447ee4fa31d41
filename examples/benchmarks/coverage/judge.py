"""What is read exactly, what is refused and what to do then: one verdict for each model of a list.

A model is read by `from_torch` as it is written, and runs on inputs that it was not read with; every spike of every
neuron in every step is compared. The comparison is in double precision, where no rounding tips a threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import hw_targets
from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import Accumulator, Network
from neuroprune.frameworks import framework_of

#: What is asked of a chip: one whose neurons reset to zero.
CHIP = "loihi1"
LIVELY = 3.0


@dataclass(frozen=True)
class Case:
    """A model as people write it, and how often.

    Attributes:
        name: what it is, as in its source.
        build: makes it.
        example: an input, as `from_torch` takes it; other inputs have its shape.
        steps: `time_steps` of `from_torch`.
        count: how often its source has it.
        instead: what the refusal advises, as a model; None: it is not refused.
    """

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], Tensor]
    steps: int | None = None
    count: int = 1
    instead: Callable[[], nn.Module] | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a case.

    Attributes:
        status: "exact", "refused" or "wrong".
        spikes: how many the model sent, on inputs it was not read with.
        different: how many of them were not the network's, or the network's alone.
        message: of a refusal.
        instead: the verdict of what it advises.
        on_chip: "as it is", or the share of spikes that differ once neurons reset to zero, or why the chip refuses it.
    """

    status: str
    spikes: int = 0
    different: int = 0
    message: str = ""
    instead: str = ""
    on_chip: str = ""


def judge(case: Case, precise: Callable[[nn.Module], nn.Module]) -> Verdict:
    """Read and compare a model; `precise` gives its twin in double precision."""
    torch.manual_seed(0)
    model, example = lively(case.build()).eval(), case.example()
    try:
        network = hw_targets.from_torch(model, example, time_steps=case.steps)
    except UnsupportedModel as error:
        instead = ""
        if case.instead is not None:
            advised = judge(Case(case.name, case.instead, case.example, case.steps), precise)
            instead = advised.status if advised.status != "refused" else f"refused: {advised.message}"
        return Verdict("refused", message=str(error).removeprefix("from_torch: "), instead=instead)
    spikes = different = 0
    for seed in (1, 2):
        sent, off = _compared(precise(model), network, fresh(example, seed).double())
        spikes, different = spikes + sent, different + off
    on_chip = _on_chip(network, model, case, precise)
    return Verdict("exact" if different == 0 else "wrong", spikes, different, on_chip=on_chip)


def _compared(model: nn.Module, network: Network, inputs: Tensor) -> tuple[int, int]:
    """Spikes the model sent, and how many are not the network's; of a readout, values that differ, too."""
    sent = different = 0
    if any(p.lif is not None for p in network.populations):
        found = hw_targets.spike_difference(model, network, inputs)
        sent, different = sum(found.model.values()), found.total
    end = network.outputs[0]
    if isinstance(end.neuron, Accumulator):
        different += _readouts_that_differ(model, network, inputs)
    return sent, different


@torch.no_grad()
def _readouts_that_differ(model: nn.Module, network: Network, inputs: Tensor) -> int:
    """A model that takes one step per call is none here; a readout is the last of what it returns, or its sum."""
    framework = framework_of(model)
    assert framework is not None
    framework.reset(model)
    values = model(inputs)
    ours = torch.from_numpy(hw_targets.emulate(network, inputs).output)
    several = values.dim() > 1 and len(values) == network.time_steps and values[0].numel() == ours.numel()
    candidates = [values[-1], values.sum(0)] if several else [values]
    return min(int((~torch.isclose(v.reshape(ours.shape), ours, atol=1e-9)).sum()) for v in candidates)


def lively(model: nn.Module) -> nn.Module:
    """The model with larger weights, so that its last layers are not silent as it is initialised."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
                module.weight.mul_(LIVELY)
    return model


def fresh(example: Tensor, seed: int) -> Tensor:
    """Another input of an example's shape and kind: bytes as values 0 … 1, or spikes."""
    generator = torch.Generator().manual_seed(seed)
    if bool(((example == 0) | (example == 1)).all()):
        return (torch.rand(example.shape, generator=generator) < 0.3).float()
    return torch.randint(0, 256, example.shape, generator=generator) / 255


def _on_chip(network: Network, model: nn.Module, case: Case, precise: Callable[[nn.Module], nn.Module]) -> str:
    """Whether the chip has these neurons, or what its own do otherwise, weights in real numbers."""
    chip, example = hw_targets.load_chip(CHIP), case.example()
    try:
        hw_targets.quantize(network, chip)
        return "as it is"
    except UnsupportedModel:
        pass
    approximate = hw_targets.from_torch(model, example, time_steps=case.steps, approximate=True)
    try:
        hw_targets.quantize(approximate, chip)
    except UnsupportedModel as error:
        return f"refused: {str(error).removeprefix('quantize: ')}"
    found = hw_targets.spike_difference(precise(model), approximate, fresh(example, 1).double())
    return f"approximate: {100 * found.total / max(1, sum(found.model.values())):.1f} % of spikes differ"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of verdicts with their cases' names and counts, a row for each."""
    lines = ["| model | times | as a `Network` | on loihi1 |", "|:--|--:|:--|:--|"]
    for row in rows:
        says = f"exact ({row['spikes']} spikes)"
        if row["status"] == "refused":
            says = f"refused: {row['message']}" + (f"; done so: {row['instead']}" if row["instead"] else "")
        elif row["status"] == "wrong":
            says = f"**wrong**: {row['different']} of {row['spikes']} spikes differ"
        cells = (f"`{row['name']}`", str(row["count"]), says, row["on_chip"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def image(*shape: int) -> Callable[[], Tensor]:
    """Makes values of bytes, 0 … 1."""
    return lambda: torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)) / 255


def spikes(*shape: int) -> Callable[[], Tensor]:
    """Makes zeros and ones."""
    return lambda: (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()

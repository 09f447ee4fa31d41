"""The parts of a deployment: each does one thing to a model, or says why it cannot be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from hw_targets.app.stages import (
    Mapped,
    emulated_accuracy,
    example_input,
    first_samples,
    measure_synops,
    read_network,
)
from hw_targets.chips.chip import Chip
from hw_targets.emulation.emulate import emulate
from hw_targets.errors import HardwareTargetError, UnsupportedModel
from hw_targets.frontends.nir.writer import write_nir
from hw_targets.frontends.torch.spike_check import spike_difference
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.passes.dead_neurons import remove_dead_neurons
from hw_targets.quantization.quantize import quantize
from neuroprune.frameworks import framework_of
from neuroprune.synops.counter import SynOps
from neuroprune.training.data.base import DataSet, has_steps
from neuroprune.training.loop import Predict, accuracy, predictor

T = TypeVar("T")


class NotDone(HardwareTargetError):
    """A part that needs what an earlier one did not give."""


@dataclass
class Ledger:
    """What could not be done, in order, each with its reason."""

    not_done: list[dict[str, str]] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Note a part that its own refusal, or a missing package, ends; other errors are faults and go on."""
        try:
            yield
        except (ValueError, ImportError) as error:
            self.note(name, error)

    def note(self, name: str, error: Exception) -> None:
        """Add a part and its reason."""
        self.not_done.append({"part": name, "reason": " ".join(str(error).split())})

    def needed(self, value: T | None, part: str) -> T:
        """The value of an earlier part.

        Raises:
            NotDone: it has none.
        """
        if value is None:
            raise NotDone(f"needs the part {part!r}, which was not done")
        return value

    def reasons(self) -> dict[str, str]:
        """By part."""
        return {entry["part"]: entry["reason"] for entry in self.not_done}


@dataclass
class Version:
    """One version of a model, dense or pruned, and what was found of it so far."""

    model: nn.Module
    accuracy: float | None = None
    chip_accuracy: float | None = None
    synops: SynOps | None = None
    samples: int = 1
    network: Network | None = None
    whole: ChipNetwork | None = None
    chip_network: ChipNetwork | None = None
    mapped: Mapped | None = None
    raster: Activity | None = None

    @staticmethod
    def predictor(model: nn.Module, data: DataSet, time_steps: int) -> Predict:
        """Class scores of what the data's `as_input` gives."""
        return predictor(model, time_steps, data)

    def float_accuracy(self, data: DataSet, time_steps: int) -> float:
        """The model's own."""
        return accuracy(self.model, data, self.predictor(self.model, data, time_steps))

    def count(self, data: DataSet, time_steps: int) -> None:
        """Synaptic operations on all of a set."""
        self.synops, self.samples = measure_synops(self.model, data, time_steps), len(data)

    def read(self, data: DataSet, time_steps: int) -> None:
        """The network that the model computes."""
        if not data.in_unit_range:
            raise UnsupportedModel(
                "a chip takes inputs of 0 … 1, but these samples leave that range; train on samples that are scaled to"
                " 0 … 1, with a batch-norm after the first layer in place of a normalisation"
            )
        self.network = read_network(self.model, data, time_steps)

    def quantize(self, network: Network, chip: Chip, seen: Tensor | None) -> None:
        """The chip's integers, and these without the neurons that no output depends on."""
        self.whole = quantize(network, chip, seen)
        self.chip_network = remove_dead_neurons(self.whole)

    def emulate(self, network: ChipNetwork, data: DataSet) -> None:
        """Accuracy in integers, and the spikes of one sample."""
        self.chip_accuracy = emulated_accuracy(network, data, title="chip")
        if self.whole is not None:
            self.raster = emulate(self.whole, first_samples(data, 1))

    def values(self, version: str) -> dict[str, Any]:
        """Accuracies and operations, as the summary names them."""
        found: dict[str, Any] = {}
        if self.accuracy is not None:
            found[f"{version}_accuracy"] = self.accuracy
        if self.chip_accuracy is not None:
            found["chip_accuracy" if version == "pruned" else f"{version}_chip_accuracy"] = self.chip_accuracy
        if self.synops is not None:
            found[f"synops_{version}"] = self.synops.total / self.samples
            found[f"macs_{version}"] = self.synops.macs / self.samples
            if self.synops.uncounted:
                found[f"uncounted_{version}"] = list(self.synops.uncounted)
        return found


@dataclass(frozen=True)
class Export:
    """A file that was written, and the network that it holds."""

    file_format: str
    path: Path
    network: ChipNetwork


def export_all(
    network: Network, chip: Chip, seen: Tensor | None, folder: Path, ledger: Ledger, *, overwrite: bool
) -> list[Export]:
    """Write the network in NIR, and its integers in every format of the chip's target; what cannot be is noted."""
    with ledger.part("export as nir"):
        write_nir(network, folder / "model.nir", overwrite=overwrite)
    done = []
    target = chip.supported("export")
    for name, exporter in target.exporters.items():
        with ledger.part(f"export as {name}"):
            # Integers of their own: a format may ask for more than the chip does.
            integers = remove_dead_neurons(quantize(network, chip, seen, for_format=name))
            path = folder / ("model.net" if name == "netx" else f"model.{name}")
            exporter(integers, path, overwrite=overwrite)
            done.append(Export(name, path, integers))
    return done


def read_check(version: Version, data: DataSet, time_steps: int) -> dict[str, Any]:
    """Every spike of the network that was read against the torch model's.

    Raises:
        NotDone: there is no network.
        HardwareTargetError: the two cannot be compared.
    """
    if version.network is None:
        raise NotDone("needs the part 'read', which was not done")
    framework = framework_of(version.model)
    if has_steps(data) and framework is not None and framework.time_axis(version.model) is None:
        raise NotDone(
            "the model takes one step per call, and samples have steps of their own; loop over them in forward"
        )
    inputs = example_input(version.model, data, time_steps)
    found = spike_difference(version.model, version.network, inputs)
    sent = sum(found.model.values())
    return {
        "what": "spikes of the network that was read, in real numbers",
        "against": "the torch model itself",
        "compared": sent,
        "differences": found.total,
        "samples": 2,
    }


def judged(exports: list[Export], network: ChipNetwork | None, chip: Chip, shown: Tensor) -> dict[str, Any]:
    """Integers in the simulator that judges the chip, against the emulator.

    Of a written file, what is in it; without one the network itself, where the target's format asks for no more.

    Raises:
        NotDone: the format asks for more, and no file was written.
        ImportError: the simulator is not installed.
    """
    target = chip.supported("verify")
    first = next(iter(target.exporters))
    written = [export for export in exports if export.file_format == first]
    if not written and (network is None or target.constraints(first) is not None):
        raise NotDone(f"needs a file in the format {first}, and none was written; give a folder for it, out=...")
    judged_network = written[0].network if written else network
    assert judged_network is not None
    found = target.verify(judged_network, shown.numpy(), lambda: None)
    return {
        "what": f"{written[0].path.name if written else 'the integers'} as emulated here: {found}",
        "against": target.judge,
        "unit": "values",
        "compared": found.compared,
        "differences": found.differences,
        "samples": found.samples,
    }

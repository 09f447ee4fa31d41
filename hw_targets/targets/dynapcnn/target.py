"""DYNAP-CNN and Speck as a target: formats, dynamics, exporters (each is named here), and sinabs as the judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hw_targets.chips.chip import Chip
from hw_targets.chips.target import Exporter, FormatConstraints, Verdict
from hw_targets.errors import QuantizationError

if TYPE_CHECKING:
    from hw_targets.ir.activity import Activity
    from hw_targets.ir.dynamics import Dynamics
    from hw_targets.ir.formats import NumberFormats
    from hw_targets.ir.network import Array, ChipNetwork, Network


class Dynapcnn:
    """SynSense's chips of one convolution layer per core, whose neuron is `IAF`."""

    name = "dynapcnn"
    judge = "sinabs 3.1.3, SynSense's own simulator (the chip is asynchronous, sinabs is not)"

    @property
    def dynamics(self) -> Dynamics:
        """`dynamics.definition`."""
        from hw_targets.targets.dynapcnn.neuron import DYNAMICS

        return DYNAMICS

    def formats(self, chip: Chip) -> NumberFormats:
        """`formats.number_formats`."""
        from hw_targets.targets.dynapcnn.formats import number_formats

        return number_formats(chip)

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """All integers, layer by layer, or the graph that sinabs loads."""
        from hw_targets.targets.dynapcnn.files import export_dynapcnn
        from hw_targets.targets.dynapcnn.nir_file import export_nir

        return {"npz": export_dynapcnn, "nir": export_nir}

    def constraints(self, file_format: str) -> FormatConstraints | None:
        """None: the files hold what the chip does, or refuse it."""
        if file_format not in ("npz", "nir"):
            raise QuantizationError(f"quantize: for_format is {file_format!r}, {self.name} has npz and nir")
        return None

    def integers(self, network: Network, chip: Chip, *, approximate: bool) -> ChipNetwork:  # noqa: ARG002 - none is
        """`lowering.in_integers`, for a chip that states its widths."""
        from hw_targets.targets.dynapcnn.lowering import in_integers

        return in_integers(network, self.formats(chip))

    def remarks(self, network: ChipNetwork, activity: Activity, chip: Chip) -> tuple[str, ...]:  # noqa: ARG002
        """What fewer channels would save."""
        from hw_targets.placement.channels import channels_that_save

        return tuple(channels_that_save(network, chip))

    def verify(self, network: ChipNetwork, inputs: Array, waiting: Callable[[], object]) -> Verdict:
        """sinabs', on the network's integers."""
        from hw_targets.targets.dynapcnn.sinabs.check import compare_with_sinabs

        waiting()
        result = compare_with_sinabs(network, inputs)
        sentence = (
            f"{result.differences} differences from sinabs in {result.compared} neuron-steps of all layers,"
            f" {result.samples} samples with {result.spikes} spikes"
        )
        return Verdict(sentence, result.differences, result.compared, result.samples)

    def __repr__(self) -> str:
        return "DYNAPCNN"


DYNAPCNN = Dynapcnn()

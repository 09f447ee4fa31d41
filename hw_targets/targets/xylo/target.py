"""Xylo as a target: formats, dynamics, exporters (each is named here), and xylosim as the judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from hw_targets.chips.chip import Chip
from hw_targets.chips.target import Exporter, FormatConstraints, Verdict
from hw_targets.errors import QuantizationError

if TYPE_CHECKING:
    from hw_targets.ir.activity import Activity
    from hw_targets.ir.dynamics import Dynamics
    from hw_targets.ir.formats import NumberFormats
    from hw_targets.ir.network import Array, ChipNetwork, Network


class Xylo:
    """Xylo Audio 2 and 3, and Xylo IMU, whose neuron is `XyloNeuron`."""

    name = "xylo"
    judge = "xylosim 0.1.3, SynSense's own simulator"

    @property
    def dynamics(self) -> Dynamics:
        """`dynamics.definition`."""
        from hw_targets.targets.xylo.neuron import DYNAMICS

        return DYNAMICS

    def formats(self, chip: Chip) -> NumberFormats:
        """`formats.number_formats`."""
        from hw_targets.targets.xylo.formats import number_formats

        return number_formats(chip)

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """One specification, as JSON or as arrays."""
        from hw_targets.targets.xylo.files import export_xylo

        return {kind: partial(export_xylo, file_format=kind) for kind in ("json", "npz")}

    def constraints(self, file_format: str) -> FormatConstraints | None:
        """None: the files hold what the chip does."""
        if file_format not in ("json", "npz"):
            raise QuantizationError(f"quantize: for_format is {file_format!r}, {self.name} has json and npz")
        return None

    def integers(self, network: Network, chip: Chip, *, approximate: bool) -> ChipNetwork:
        """`lowering.in_integers`, for a chip that states its widths."""
        from hw_targets.targets.xylo.lowering import in_integers

        self.formats(chip)
        return in_integers(network, approximate=approximate)

    def remarks(self, network: ChipNetwork, activity: Activity, chip: Chip) -> tuple[str, ...]:
        """Cycles a step, and what pruning takes off them."""
        from hw_targets.targets.xylo.cycles import remarks

        return remarks(network, activity, chip)

    def verify(self, network: ChipNetwork, inputs: Array, waiting: Callable[[], object]) -> Verdict:
        """xylosim's, on the specification."""
        from hw_targets.targets.xylo.xylosim.check import compare_with_xylosim

        result = compare_with_xylosim(network, inputs, waiting=waiting)
        sentence = (
            f"{result.differences} differences from xylosim in {result.compared} integers (currents, potentials and"
            f" spikes of all neurons), {result.samples} samples with {result.spikes} spikes"
        )
        return Verdict(sentence, result.differences, result.compared, result.samples)

    def __repr__(self) -> str:
        return "XYLO"


XYLO = Xylo()

"""Loihi as a target: formats, dynamics, exporters (each is named here), and Lava as the judge."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hw_targets.chips.chip import Chip
from hw_targets.chips.target import Exporter, FormatConstraints, Verdict
from hw_targets.errors import QuantizationError

if TYPE_CHECKING:
    from hw_targets.ir.activity import Activity
    from hw_targets.ir.dynamics import Dynamics
    from hw_targets.ir.formats import NumberFormats
    from hw_targets.ir.network import Array, ChipNetwork, Network


class Loihi:
    """Loihi 1 and 2, whose neuron is `CubaLIF`."""

    name = "loihi"
    judge = "Lava 0.10.0's own simulator"

    @property
    def dynamics(self) -> Dynamics:
        """`dynamics.definition`."""
        from hw_targets.targets.loihi.neuron import DYNAMICS

        return DYNAMICS

    def formats(self, chip: Chip) -> NumberFormats:
        """`formats.number_formats`."""
        from hw_targets.targets.loihi.formats import number_formats

        return number_formats(chip)

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """netx for Lava; SANA-FE's files take a placement and have an exporter of their own, `export_sanafe`."""
        from hw_targets.targets.loihi.netx.writer import export_netx

        return {"netx": export_netx}

    def integers(self, network: Network, chip: Chip, *, approximate: bool) -> ChipNetwork | None:  # noqa: ARG002
        """None, whatever the arguments: scales are searched for, and real neurons lowered one by one."""
        return None

    def remarks(self, network: ChipNetwork, activity: Activity, chip: Chip) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing, whatever the arguments."""
        return ()

    def verify(self, network: ChipNetwork, inputs: Array, waiting: Callable[[], object]) -> Verdict:
        """Lava's, on a netx file."""
        from hw_targets.targets.loihi.lava.check import compare_with_lava
        from hw_targets.targets.loihi.netx.writer import export_netx

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.net")
            export_netx(network, path)
            result = compare_with_lava(network, path, inputs, waiting=waiting)
        sentence = (
            f"{result.differences} differences from Lava in {result.compared} spikes of all layers,"
            f" {result.samples} images; {result.readout_differences} in the readout"
        )
        return Verdict(sentence, result.differences + result.readout_differences, result.compared, result.samples)

    def constraints(self, file_format: str) -> FormatConstraints:
        """netx's."""
        from hw_targets.targets.loihi.netx.constraints import NetxConstraints

        if file_format != "netx":
            raise QuantizationError(f"quantize: for_format is {file_format!r}, {self.name} has netx; leave it out")
        return NetxConstraints()

    def __repr__(self) -> str:
        return "LOIHI"


LOIHI = Loihi()

"""Loihi as a target: formats, dynamics, exporters (each is named here), and Lava as the judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hw_targets.chips.chip import Chip
from hw_targets.chips.target import Exporter, FormatConstraints
from hw_targets.errors import QuantizationError

if TYPE_CHECKING:
    from hw_targets.ir.dynamics import Dynamics
    from hw_targets.ir.formats import NumberFormats


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

    def constraints(self, file_format: str) -> FormatConstraints:
        """netx's."""
        from hw_targets.targets.loihi.netx.constraints import NetxConstraints

        if file_format != "netx":
            raise QuantizationError(f"quantize: for_format is {file_format!r}, {self.name} has netx; leave it out")
        return NetxConstraints()

    def __repr__(self) -> str:
        return "LOIHI"


LOIHI = Loihi()

"""The contract of a target: a family of chips with dynamics of its own, exporters, and a simulator that judges it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hw_targets.chips.chip import Chip
    from hw_targets.ir.dynamics import Dynamics
    from hw_targets.ir.formats import NumberFormats
    from hw_targets.ir.network import Graph

#: Writes a chip network: (network, path, overwrite=...).
Exporter = Callable[..., Any]


@dataclass(frozen=True)
class Together:
    """Populations that a file format gives one integer threshold, of at most `most` (None: whatever the chip holds)."""

    members: tuple[str, ...]
    most: int | None = None


class FormatConstraints(Protocol):
    """What a file format asks of integers beyond what the chip does.

    Attributes:
        joins_weights: two groups of synapses from one source to one target end in one synapse, and share its range.
    """

    joins_weights: bool

    def together(self, network: Graph, largest_weight: int) -> tuple[Together, ...]:
        """All populations but inputs, sources before targets, those of one threshold together."""


class Target(Protocol):
    """A family of chips. What a method needs beyond numpy is imported when it is called.

    Attributes:
        name: of its folder in `hw_targets/targets`, and in the chip files.
        judge: the simulator of others that its integers are held to, in words.
    """

    name: str
    judge: str

    @property
    def dynamics(self) -> Dynamics:
        """Its integer neuron."""

    def formats(self, chip: Chip) -> NumberFormats:
        """A chip's integer ranges.

        Raises:
            QuantizationError: a width that the chip does not state, or that leaves no room for any value.
        """

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """By the format's name, what writes it."""

    def constraints(self, file_format: str) -> FormatConstraints:
        """What a file format of `exporters` asks of integers.

        Raises:
            QuantizationError: there is no such format.
        """

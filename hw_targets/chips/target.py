"""The contract of a target: a family of chips with dynamics of its own, exporters, and a simulator that judges it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hw_targets.chips.chip import Chip
    from hw_targets.ir.activity import Activity
    from hw_targets.ir.dynamics import Dynamics
    from hw_targets.ir.formats import NumberFormats
    from hw_targets.ir.network import Array, ChipNetwork, Graph, Network

#: Writes a chip network: (network, path, overwrite=...).
Exporter = Callable[..., Any]


@dataclass(frozen=True)
class Together:
    """Populations that a file format gives one integer threshold, of at most `most` (None: whatever the chip holds)."""

    members: tuple[str, ...]
    most: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What a judge said: how many of `compared` values of `samples` samples differ, and `sentence`, which names it."""

    sentence: str
    differences: int
    compared: int
    samples: int

    def __str__(self) -> str:
        return self.sentence


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

    def integers(self, network: Network, chip: Chip, *, approximate: bool) -> ChipNetwork | None:
        """A network in the target's integers, where it has a way of its own to find them; None: `quantization` has one.

        Raises:
            UnsupportedModel: neurons that the chip does not have; the message names them, and what to use instead.
            QuantizationError: weights or biases that the chip's integers do not hold.
        """

    def remarks(self, network: ChipNetwork, activity: Activity, chip: Chip) -> tuple[str, ...]:
        """What else is to be said of an activity on a chip, a sentence each."""

    def verify(self, network: ChipNetwork, inputs: Array, waiting: Callable[[], object]) -> Verdict:
        """The judge's verdict on a network's integers for inputs as `emulate` takes them.

        Args:
            network: with integers for the first of `exporters`, where that has constraints.
            inputs: (N, *shape) or (T, N, *shape).
            waiting: called now and then while the judge runs.

        Raises:
            ImportError: the judge is not installed; the message says how.
        """

    def constraints(self, file_format: str) -> FormatConstraints | None:
        """What a file format of `exporters` asks of integers; None: nothing beyond what the chip does.

        Raises:
            QuantizationError: there is no such format.
        """

"""The contract of a target's integer neurons, so that everything else can be general; the rest of a target's is in
`chips/target.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

    from hw_targets.ir.formats import NumberFormats
    from hw_targets.ir.network import ChipNetwork, Population
    from hw_targets.ir.neurons import LIF, ChipNeuron

Ints = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


#: Of each row the spikes that differ from given ones (rows, T, …), for currents (rows, T, …).
RowCounter: TypeAlias = Callable[[Ints, Mask], npt.NDArray[np.int64]]


class Losses(Protocol):
    """Takes note of states that leave their range."""

    def note(self, step: int, wrapped: Mask | None, clipped: Mask | None) -> None:
        """Where, (N, *shape), states wrapped around and where they were held at a limit in a step; None is nowhere."""

    def add(self, counts: Ints, neurons: Array, steps: Array) -> None:
        """(wraps, clips) counted elsewhere, and where neurons, *shape, and steps, (T,), had any."""


class Feedback(Protocol):
    """What a population sends itself."""

    def take(self) -> Tensor:
        """Current (N, *shape) that arrives in this step."""

    def send(self, spikes: Tensor) -> None:
        """Note the spikes (N, *shape) of this step."""


class Engine(Protocol):
    """The neurons of one population, ready to run any number of blocks of samples."""

    def fire(self, current: Tensor, feedback: Feedback | None) -> Tensor:
        """Spikes (T, N, *shape), whole numbers in uint8, for a current (T, N, *shape) in whole numbers.

        A stride of 0 over T says that the current is the same in every step.
        """

    def read(self, current: Tensor, ends: Sequence[int]) -> Tensor:
        """Potentials (ends, N, F) of a readout after the steps `ends`, in the weights' unit."""


class Whole(Protocol):
    """All populations of a network together, ready to run any number of blocks of samples."""

    def run(self, shown: Tensor, losses: Mapping[str, Losses]) -> Mapping[str, Tensor]:
        """Spikes (T, N, *shape), whole numbers, of every population that fires, in aligned time.

        Args:
            shown: (T, N, *shape) whole numbers that the input sends.
            losses: by population, told of states that leave their range.
        """


class Clock(Protocol):
    """When things happen on the chip, in a run of several samples one after the other.

    Attributes:
        arrivals: by population, chip steps until the input's first step has reached it.
        time_steps: T, steps of a sample.
        samples: N.
        total: chip steps of the run.
    """

    @property
    def arrivals(self) -> Mapping[str, int]: ...

    @property
    def time_steps(self) -> int: ...

    @property
    def samples(self) -> int: ...

    @property
    def total(self) -> int: ...

    def resets(self, name: str) -> frozenset[int]:
        """Chip steps, counted from 0, that begin with cleared states."""

    def sample_ends(self, name: str) -> tuple[int, ...]:
        """Chip step, from 0, in which a population answers each sample's last step."""


class Dynamics(Protocol):
    """An integer neuron: its one definition, and what others need to know that follows from it.

    Attributes:
        name: of the target.
        max_spikes: a neuron sends so many in one step at most.
        most_input: an input channel takes so many spikes in one step at most.
        timings: names of the ways in which its chips, or what simulates them, run samples one after the other.
    """

    name: str
    max_spikes: int
    most_input: int
    timings: tuple[str, ...]

    def refusal(self, neuron: LIF) -> str | None:
        """Why a real-valued neuron has no exact counterpart here and what to use instead, as a verb phrase; or None."""

    def lower(self, neuron: LIF, scale: float, formats: NumberFormats) -> ChipNeuron:
        """The integer neuron for a real one that is not refused; `scale` is the integer that stands for 1.0."""

    def lift(self, neuron: ChipNeuron, scale: float) -> LIF | ChipNeuron:
        """The real neuron that an integer one stands for; itself where there is none."""

    def whole(self, network: ChipNetwork) -> Whole | None:
        """What runs all populations together, where a sum depends on more than its terms; None: one after the other.

        Raises:
            InvalidNetwork: a network that the chip's steps cannot run.
        """

    def engine(
        self,
        network: ChipNetwork,
        population: Population,
        *,
        largest: float,
        resets: frozenset[int],
        losses: Losses,
        device: torch.device,
        neuron_steps: int,
    ) -> Engine:
        """The fastest exact way to run a population.

        Args:
            network: holds the population.
            population: of chip neurons, or an `Accumulator`.
            largest: no |current| exceeds it.
            resets: steps that begin with cleared states.
            losses: told of states that leave their range.
            device: where to compute.
            neuron_steps: neurons × steps × samples of the whole run, by which an engine may judge what pays.
        """

    def clock(self, timing: str, network: ChipNetwork, samples: int, *, reset: bool, reset_offset: int | None) -> Clock:
        """The clock of one of `timings`.

        Args:
            timing: which.
            network: of `time_steps` steps a sample.
            samples: N.
            reset: whether states are cleared from sample to sample.
            reset_offset: the step in which the first layer's are, as the simulator counts; None: with its next sample.

        Raises:
            InvalidNetwork: a network that this timing cannot run.
        """

    def may_fire(self, neuron: ChipNeuron, high: Ints, low: Ints, bias: Ints, steps: int) -> Mask:
        """Whether units may fire within `steps`, when no current is above `high` or below `low` in any of them.

        False must be a proof, in the target's own integers.
        """

    def row_counter(self, neuron: ChipNeuron) -> RowCounter | None:
        """What counts differing spikes of rows of such neurons, whose currents stay inside their states.

        None where a current lasts over several steps, so that a bias is no current as any other.
        """

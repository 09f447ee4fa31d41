"""Neurons in discrete time, whatever the chip; a new one is an attribute of `LIF`, and steps in `emulation/reals.py`.

Everything that general code asks of a neuron is asked here, as an attribute; a target's integer neurons derive from
`ChipNeuron` in the target's own folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, nan
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from hw_targets.errors import InvalidNetwork

if TYPE_CHECKING:
    from hw_targets.ir.dynamics import Dynamics

Reset: TypeAlias = Literal["zero", "subtract", "none"]


class Neuron:
    """What is asked of every neuron.

    Attributes:
        is_input: spikes or values come from outside the network.
        is_graded: it sends values 0 … `most_sent`, which are no counts of spikes.
        fires: it has a threshold, and may feed itself.
        most_sent: the largest whole number it sends in one step; 0 for one that sends nothing.
        unit_sent: the integer that stands for 1.0 of what it sends.
        changes: of an input, its model was read from values that change from step to step.
        time_last: of an input, its model takes time as the last axis.
        time_second: of an input, its model takes (N, T, …).
    """

    is_input: ClassVar[bool] = False
    is_graded: ClassVar[bool] = False
    fires: ClassVar[bool] = False
    changes: bool = False
    time_last: bool = False
    time_second: bool = False

    @property
    def most_sent(self) -> int:
        """One spike, unless a neuron says otherwise."""
        return 1

    @property
    def unit_sent(self) -> float:
        """A spike stands for 1.0."""
        return 1.0

    def lasting(self, steps: int) -> float:  # noqa: ARG002 - as long as a neuron's current lasts
        """What a current of 1 in every one of a sample's steps grows to; 1 where it lasts one step."""
        return 1.0


@dataclass(frozen=True)
class GradedInput(Neuron):
    """Values 0 … 2^bits − 1 from outside the chip, such as an image; `scale` is the integer that stands for 1.0.

    `changes`, `time_last` and `time_second` say how the model is shown them, and nothing about what a chip does.
    """

    bits: int = 8
    scale: float = 255.0
    changes: bool = field(default=False, compare=False, repr=False)
    time_last: bool = field(default=False, compare=False, repr=False)
    time_second: bool = field(default=False, compare=False, repr=False)

    is_input: ClassVar[bool] = True
    is_graded: ClassVar[bool] = True

    @property
    def most_sent(self) -> int:
        """2^bits − 1."""
        return (1 << self.bits) - 1

    @property
    def unit_sent(self) -> float:
        """`scale`."""
        return self.scale


@dataclass(frozen=True)
class SpikeInput(Neuron):
    """Spikes from outside the chip, up to `most` of a channel in one step; the rest as for images."""

    most: int = 1
    changes: bool = field(default=False, compare=False, repr=False)
    time_last: bool = field(default=False, compare=False, repr=False)
    time_second: bool = field(default=False, compare=False, repr=False)

    is_input: ClassVar[bool] = True

    @property
    def most_sent(self) -> int:
        """`most`."""
        return self.most


@dataclass(frozen=True)
class LIF(Neuron):
    """Leaky integrate-and-fire, real-valued.

    u ← (1 − i_decay)·u + x;  v ← (1 − v_decay)·v + u + bias;  s = [v ≥ v_threshold], or [v > v_threshold] where
    `strict`; then the reset: "zero" v ← 0 where s, "subtract" v ← v − v_threshold·s, "none" nothing. u = v = 0 before
    the first step. `v_decay = 0` is integrate-and-fire, `i_decay = 1` a current that lasts one step.

    Attributes:
        unit: the integer that stood for 1.0 where the network was trained in integers; `quantize` keeps it if it fits.
        reset: what a spike does to the potential.
        reset_delay: the reset acts one step late, on what the next step has computed. With r = s of the step before,
            "zero" v ← (1 − r)·((1 − v_decay)·v + u + bias), so that what arrives then is lost, and
            "subtract" v ← (1 − v_decay)·v + u + bias − v_threshold·r.
        max_spikes: spikes a neuron may send in one step: s = min(max_spikes, ⌊v / v_threshold⌋), of which a strict one
            counts the multiples of the threshold that v exceeds.
        withholds: a neuron whose potential is above the threshold after its reset fires in the next step only above
            twice the threshold (snnTorch 1.0's subtraction within the step, which never subtracts twice).
        v_decays: the potential's decay of each unit (channel or neuron), where they differ; `v_decay` is NaN then, so
            that nothing computes with one value for all.
        i_decays: likewise of the current.
        bias_lasts: the bias is a current like any other, u ← (1 − i_decay)·u + x + bias, and lasts as they do.
        difference: v is no trace of u but the difference of two traces, which rises before it decays:
            u ← (1 − i_decay)·u + x + bias;  w ← (1 − v_decay)·w + x + bias;  v = u − w. A reset clears u and w.
        v_min: the potential never stays below it: v ← max(v, v_min) at the end of a step. None: there is no such bound.

    Raises:
        InvalidNetwork: an unknown reset, no spikes at all, `withholds` for anything but one spike subtracted, a
            difference that resets by subtraction, or a lower bound of a difference or above 0.
    """

    v_threshold: float
    v_decay: float = 0.0
    i_decay: float = 1.0
    strict: bool = False
    unit: int | None = None
    reset: Reset = "zero"
    reset_delay: bool = False
    max_spikes: int = 1
    withholds: bool = False
    v_decays: tuple[float, ...] = ()
    i_decays: tuple[float, ...] = ()
    bias_lasts: bool = False
    difference: bool = False
    v_min: float | None = None

    fires: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _forget_single_decays(self)
        if self.reset not in ("zero", "subtract", "none") or self.max_spikes < 1:
            raise InvalidNetwork(
                f"a neuron resets to {self.reset!r} and sends {self.max_spikes} spikes a step; it may reset as zero,"
                " subtract or none, and sends one at least"
            )
        if self.withholds and (self.reset != "subtract" or self.reset_delay or self.max_spikes > 1):
            raise InvalidNetwork(
                f"a neuron that {self.reset_in_words} withholds no spikes: only one that subtracts one at once does"
            )
        if self.difference and (self.reset == "subtract" or self.max_spikes > 1):
            raise InvalidNetwork(
                f"a neuron whose potential is the difference of two traces {self.reset_in_words}; there is nothing to"
                " subtract from: it resets to zero, or never"
            )
        if self.v_min is not None and (self.difference or not self.v_min <= 0):
            raise InvalidNetwork(
                f"a neuron's potential is cut off below {self.v_min:g}; only one that is no difference of two traces"
                " is, and at 0 or below, where it starts"
            )

    @property
    def most_sent(self) -> int:
        """`max_spikes`."""
        return self.max_spikes

    @property
    def resets_to_zero(self) -> bool:
        """Whether its spikes are those of a reset to zero within the step, at most one a step.

        They are also where nothing resets v, but nothing of it is left in the next step either.
        """
        forgets = self.reset == "none" and self.v_decay == 1.0 and not self.difference
        plain = not self.reset_delay and self.max_spikes == 1 and self.v_min is None
        return plain and (self.reset == "zero" or forgets)

    @property
    def beyond_one_leak(self) -> str | None:
        """What sets it apart from neurons that share one leak, as a verb phrase for messages; None: nothing does."""
        if self.difference:
            return "has a potential that is the difference of two traces"
        return _several_decays(self)

    @property
    def reset_in_words(self) -> str:
        """A verb phrase, for messages: "resets by subtraction one step late"."""
        how = {"zero": "resets to zero", "subtract": "resets by subtraction", "none": "never resets"}[self.reset]
        late = " one step late (reset_delay=True)" if self.reset_delay else ""
        several = f" and sends up to {self.max_spikes} spikes a step" if self.max_spikes > 1 else ""
        return f"{how}{late}{several}{'' if self.v_min is None else f' and is cut off below {self.v_min:g}'}"

    def lasting(self, steps: int) -> float:
        """Σ (1 − i_decay)^t over a sample's steps: what a current of 1 in every step grows to."""
        keep = 1.0 - self.i_decay
        return float(steps) if keep == 1.0 else (1.0 - keep**steps) / (1.0 - keep)


@dataclass(frozen=True)
class Accumulator(Neuron):
    """A readout: sums its input over the run of one sample and never fires; its potential after the last step counts.

    u ← (1 − i_decay)·u + x;  v ← (1 − v_decay)·v + u + bias. Without decays that is the plain sum. `v_decays`,
    `i_decays` and `bias_lasts` are those of `LIF`.
    """

    v_decay: float = 0.0
    i_decay: float = 1.0
    v_decays: tuple[float, ...] = ()
    i_decays: tuple[float, ...] = ()
    bias_lasts: bool = False

    def __post_init__(self) -> None:
        _forget_single_decays(self)

    @property
    def most_sent(self) -> int:
        """0: it sends nothing."""
        return 0

    @property
    def leaks(self) -> bool:
        """Whether it is more than a sum."""
        return self.v_decay != 0.0 or self.i_decay != 1.0

    @property
    def beyond_one_leak(self) -> str | None:
        """As a `LIF`'s."""
        return _several_decays(self)


def _forget_single_decays(neuron: LIF | Accumulator) -> None:
    """NaN for the one decay of neurons that have several."""
    for several, single in (("v_decays", "v_decay"), ("i_decays", "i_decay")):
        if values := getattr(neuron, several):
            if not all(isfinite(value) for value in values):
                raise InvalidNetwork(f"a neuron's {several} are not all finite: {values}")
            object.__setattr__(neuron, single, nan)


def _several_decays(neuron: LIF | Accumulator) -> str | None:
    for values, of in ((neuron.v_decays, "potential"), (neuron.i_decays, "current")):
        if values:
            return f"has neurons whose {of} decays by {min(values):.4g} … {max(values):.4g} a step"
    return None


class ChipNeuron(Neuron):
    """An integer neuron of a target, which knows how it steps (`dynamics`)."""

    fires: ClassVar[bool] = True

    @property
    def dynamics(self) -> Dynamics:
        """The one definition of its step, and what follows from it.

        Raises:
            NotImplementedError: the target's neuron does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} states no dynamics")

"""Pruning that ends within a chip's limits on the synapses a neuron may receive, and on those it may send through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neuroprune._numbers import check_share, check_whole
from neuroprune.pruning.shards import WHOLE, Shards
from neuroprune.schedules import Schedule


@dataclass(frozen=True)
class Cap:
    """At most `limit` non-zero weights per neuron, reached by a threshold that is higher for the rows over it.

    A row is what one neuron receives: a row of a linear layer's matrix, a kernel of a convolution. (As a limit on
    fan-out, a row is what one neuron sends through: a column of a matrix, an input channel's weights.) While training,
    the number it may keep falls from its length n to the limit, n − (n − limit)·(1 − (1 − x)³), the cubic ramp of
    gradual pruning (Zhu & Gupta, 2017), x being the share of `ramp`·`steps` that is over; a row with more gets the
    smallest threshold that keeps to it. Rows below it keep the common threshold, and after the last planned step all
    rows are within the limit, without a final cut.

    Args:
        limit: synapses per neuron, at least 1, for example 4096 (Loihi 1's input axons per core).
        steps: planned optimizer steps; by default the schedule's, if it has them.
        ramp: share of the steps after which the limit holds, in (0, 1].

    Raises:
        ValueError: values outside their range.
    """

    limit: int
    steps: int | None = None
    ramp: float = 0.75

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1:
            raise ValueError(f"Cap: limit must be a whole number of synapses >= 1, got {self.limit!r}")
        if self.steps is not None:
            check_whole(self, "steps", self.steps)
        check_share(self, "ramp", self.ramp)

    def planned(self, schedule: Schedule) -> int:
        """Planned steps, its own or the schedule's.

        Raises:
            ValueError: neither says.
        """
        steps = self.steps if self.steps is not None else getattr(schedule, "steps", None)
        if not steps:
            raise ValueError(
                f"Cap: {type(schedule).__name__} does not say for how many steps it is planned; give"
                f" Cap({self.limit}, steps=...)"
            )
        return int(steps)

    def allowed(self, fan_in: int, step: int, steps: int) -> int:
        """Synapses a neuron with `fan_in` weights may keep before optimizer step number `step` of `steps`."""
        if fan_in <= self.limit:
            return fan_in
        over = min(1.0, step / max(1.0, math.floor(self.ramp * steps)))
        return round(fan_in - (fan_in - self.limit) * (1.0 - (1.0 - over) ** 3))


class ChipLimits(Protocol):
    """What a chip says of one neuron, such as `hw_targets.load_chip("xylo-audio2")`; None: nothing.

    Attributes:
        inputs_per_neuron: synapses that may end in it.
        input_axons_per_core: neurons that it may hear, as all of them have an axon on its core.
        synapses_out_per_neuron: synapses that may start from it.
    """

    @property
    def inputs_per_neuron(self) -> int | None: ...

    @property
    def input_axons_per_core(self) -> int | None: ...

    @property
    def synapses_out_per_neuron(self) -> int | None: ...


@dataclass(frozen=True)
class Caps:
    """Limits on what neurons receive and on what they send, each None where there is none.

    A limit on fan-out holds for each parameter by itself: where neurons feed several layers, give each its share.
    """

    fan_in: Cap | None = None
    fan_out: Cap | None = None

    def steps(self, schedule: Schedule) -> int:
        """Planned steps, of either limit or the schedule; see `Cap.planned`."""
        return max((cap.planned(schedule) for cap in (self.fan_in, self.fan_out) if cap is not None), default=0)


def limits_of(fan_in: Cap | None, fan_out: Cap | None, caps: Caps | ChipLimits | None) -> Caps | None:
    """The limits that a pruner was given, one by one or as those of a chip.

    Raises:
        TypeError: something else.
        ValueError: both, or a chip that limits neither.
    """
    for name, cap in (("fan_in", fan_in), ("fan_out", fan_out)):
        if not isinstance(cap, (Cap, type(None))):
            raise TypeError(f"SoftThresholdPruner: expected {name}=Cap(limit), got {type(cap).__name__}")
    if caps is None:
        return None if fan_in is None and fan_out is None else Caps(fan_in, fan_out)
    if fan_in is not None or fan_out is not None:
        raise ValueError("SoftThresholdPruner: got caps and fan_in or fan_out; give the limits in one way")
    if isinstance(caps, Caps):
        return caps
    keys = ("inputs_per_neuron", "input_axons_per_core", "synapses_out_per_neuron")
    if not all(hasattr(caps, key) for key in keys):
        raise TypeError(f"SoftThresholdPruner: expected caps=load_chip(name), got {type(caps).__name__}")
    into = [limit for limit in (caps.inputs_per_neuron, caps.input_axons_per_core) if limit is not None]
    out = caps.synapses_out_per_neuron
    if not into and out is None:
        raise ValueError(
            f"SoftThresholdPruner: {getattr(caps, 'name', 'the chip')} states no limit on the synapses of one neuron;"
            " give fan_in=Cap(...) or fan_out=Cap(...)"
        )
    return Caps(Cap(min(into)) if into else None, None if out is None else Cap(out))


def column_thresholds(
    theta: Tensor, threshold: Tensor | float, allowed: int, parameter: Tensor | None = None, shards: Shards = WHOLE
) -> Tensor | float:
    """The smallest thresholds ≥ d that leave at most `allowed` weights of each column of θ (second axis: sources).

    Args:
        theta: (out, in, …).
        threshold: d, one for all or tensors that broadcast to θ, such as rows' of their own.
        allowed: weights above their threshold.
        parameter: the one in shards whose rows here θ are; the magnitudes of all its rows are gathered.
        shards: its shards.

    Returns:
        What broadcasts to θ, or d itself if no column has more; of a parameter in shards it has the rows of θ.
    """
    magnitude = theta.detach().abs()
    here = magnitude * (magnitude > threshold)
    alive = (here if parameter is None else shards.whole(here, parameter)).transpose(0, 1).flatten(1)
    over = torch.count_nonzero(alive, dim=1) > allowed
    if not bool(over.any()):
        return threshold
    columns = alive.new_zeros(len(alive))
    columns[over] = torch.kthvalue(alive[over], alive.shape[1] - allowed, dim=1).values
    columns = columns.view(1, -1, *(1,) * (theta.dim() - 2))
    if shards.sharded:
        columns = columns.expand(len(theta), *columns.shape[1:])
    return torch.maximum(columns, torch.as_tensor(threshold).to(columns))


def row_thresholds(theta: Tensor, threshold: float, allowed: int, shards: Shards = WHOLE) -> Tensor | float:
    """The smallest thresholds ≥ d that leave at most `allowed` weights of each row of θ (first axis: neurons).

    Returns:
        (out, 1, …), or d itself if no row has more.
    """
    magnitude = theta.detach().abs().flatten(1)
    over = torch.count_nonzero(magnitude > threshold, dim=1) > allowed
    if not shards.any(bool(over.any())):
        return threshold
    rows = magnitude.new_full((theta.shape[0],), threshold)
    rows[over] = torch.kthvalue(magnitude[over], magnitude.shape[1] - allowed, dim=1).values
    return rows.view(-1, *(1,) * (theta.dim() - 1))

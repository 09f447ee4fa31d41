"""What is known of a tensor while a model runs: the signal it carries, and which step of a sample it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.maps import AvgPool, Grid
from hw_targets.frontends.signals import Signal, Term
from hw_targets.frontends.torch.axes import Axes
from hw_targets.ir.network import Op


@dataclass(frozen=True)
class Moment:
    """What of a sample's time a tensor holds.

    "every": the same in every step (a static image); "step": step `number` alone; "all": all steps, along an axis;
    "sum" and "mean": over the first `number` steps.
    """

    kind: Literal["every", "step", "all", "sum", "mean"]
    number: int = 0

    @property
    def is_reduced(self) -> bool:
        """Whether steps can no longer be told apart."""
        return self.kind in ("sum", "mean")

    def __str__(self) -> str:
        if self.kind == "step":
            return f"step {self.number}"
        return {"every": "every step", "all": "all steps"}.get(self.kind, f"the {self.kind} over {self.number} steps")


EVERY = Moment("every")
ALL = Moment("all")


@dataclass(frozen=True, eq=False)
class Traced:
    """A tensor that carries a signal.

    Attributes:
        signal: of one step.
        moment: what of a sample's time it holds.
        axes: how its own axes are laid out.
        complement: it is 1 − signal.
        layer: the last layer with weights that it went through, which names a readout.
        after: functions that were applied to it at last and are left to whoever reads the output.
    """

    signal: Signal
    moment: Moment
    axes: Axes
    complement: bool = False
    layer: str = "output"
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """The `index`-th state that a neuron module returned from its `call`-th call.

    `is_potential`: it is the last one it returned, its potential. `steps`: a tensor of it in so many steps, the last of
    which is `call`'s, along the axis of time; 0: it is of one step.
    """

    neuron: str
    call: int
    index: int
    is_potential: bool = False
    steps: int = 0


@dataclass(frozen=True)
class Opaque:
    """Something without a counterpart on the chip, and why; no harm unless the output depends on it.

    `is_state`: it is made of a neuron's states, which a model may return beside its output.
    """

    reason: str
    is_state: bool = False


Mark: TypeAlias = Traced | State | Opaque


def merged(a: Moment, b: Moment) -> Moment:
    """The moment of what is computed from two tensors of the same step.

    Raises:
        UnsupportedModel: the two belong to different steps.
    """
    if a == b or b == EVERY:
        return a
    if a == EVERY:
        return b
    raise UnsupportedModel(
        f"from_torch: the model combines {a} with {b}; only what belongs to the same step may meet, since recurrent and"
        " delayed connections are not read"
    )


def accumulated(a: Traced, b: Traced) -> Traced | None:
    """A running sum, where one signal is added up step after step from step 0; None where it is something else."""
    if b.moment.kind != "step":
        a, b = b, a
    first = a.moment == Moment("step", 0)
    steps = 1 if first else a.moment.number
    if b.moment != Moment("step", steps) or not (first or a.moment.kind == "sum") or not same(a.signal, b.signal):
        return None
    return replace(b, moment=Moment("sum", steps + 1))


def are_steps(marks: Sequence[Traced]) -> bool:
    """Whether they are one signal's steps, in their order from the first."""
    return all(m.moment == Moment("step", i) and same(m.signal, marks[0].signal) for i, m in enumerate(marks))


def are_repeats(marks: Sequence[Traced]) -> bool:
    """Whether they are one thing that never changes, several times."""
    return all(m.moment == EVERY and same(m.signal, marks[0].signal) for m in marks)


def in_steps(states: Sequence[State]) -> State | None:
    """One state's steps from the first on, put together in their order; None where they are something else."""
    first = states[0]
    in_order = all(s == replace(first, call=i) for i, s in enumerate(states))
    return replace(states[-1], steps=len(states)) if in_order and not first.steps else None


def same(a: Signal, b: Signal) -> bool:
    """Whether two signals are the same function of the same populations."""
    if a is b:
        return True
    if a.shape != b.shape or len(a.terms) != len(b.terms) or (a.bias is None) != (b.bias is None):
        return False
    biased_alike = a.bias is None or (b.bias is not None and np.array_equal(a.bias, b.bias))
    return biased_alike and all(_same_term(s, t) for s, t in zip(a.terms, b.terms, strict=True))


def _same_term(s: Term, t: Term) -> bool:
    if s.source != t.source:
        return False
    if s.via is None or t.via is None or isinstance(s.via, AvgPool) or isinstance(t.via, AvgPool):
        return s.via == t.via
    return _same_map(s.via, t.via)


def _same_map(a: Op | Grid, b: Op | Grid) -> bool:
    if a is b:
        return True
    return type(a) is type(b) and all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))

"""What a model returns, as the outputs of its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import signals
from hw_targets.frontends.torch import mixing
from hw_targets.frontends.torch.axes import letters, plain
from hw_targets.frontends.torch.builder import Builder
from hw_targets.frontends.torch.layout import Layout
from hw_targets.frontends.torch.marks import ALL, Mark, Opaque, State, Traced, are_steps, in_steps, same
from hw_targets.frontends.torch.shaping import flattened
from hw_targets.ir.network import Accumulator


@dataclass(frozen=True)
class Readout:
    """Ends a network in what its model returned."""

    network: Builder
    layout: Layout

    def read(self, output: Any, mark_of: Callable[[Any], Mark | None]) -> None:
        """Turn each thing that the model returns into an accumulator, unless it is the spikes of one population.

        Raises:
            UnsupportedModel: it returns nothing that was computed from its input, or not all of a sample's steps.
        """
        returned = self._returned(output, mark_of)
        if isinstance(returned, State):
            self.network.read_potential(returned, self.network.calls[returned.neuron])
            return
        marks = [flattened(mark, self.layout) for mark in returned]
        for mark in marks:
            self._check_whole(mark)
        different = [m for i, m in enumerate(marks) if not any(same(m.signal, before.signal) for before in marks[:i])]
        self.network.keep_only(self._end(different[0]) if len(different) == 1 else self._joined(different))

    def _returned(self, output: Any, mark_of: Callable[[Any], Mark | None]) -> list[Traced] | State:
        """The marks of what the model returns, its neurons' states left out; a state where there is nothing else."""
        parts = list(output.values()) if isinstance(output, Mapping) else output
        if not isinstance(parts, (tuple, list)):
            parts = [parts]
        marks = [mark_of(part) for part in parts]
        known = [m for m in marks if isinstance(m, Traced)]
        if len(known) > 1 and len(known) == len(marks) and are_steps(known):
            return [replace(known[0], moment=ALL, axes=("T", *known[0].axes))]
        states = [m for m in marks if isinstance(m, State)]
        if states and len(states) == len(marks):
            # One potential in every step, or the states of the last neurons, the potential last.
            return in_steps(states) or states[-1]
        opaque = [m for m in marks if isinstance(m, Opaque)]
        if wrong := [m for m in opaque if not (known and m.is_state)]:
            raise UnsupportedModel(wrong[0].reason)
        if not known:
            raise UnsupportedModel("from_torch: the model must return one tensor computed from its input")
        if len(known) == 1 and (potential := self._instead_of_silence(known[0], states)) is not None:
            return potential
        return known

    def _instead_of_silence(self, spikes: Traced, states: Sequence[State]) -> State | None:
        """Of neurons that can never fire, the potential that the model returns beside their spikes."""
        own = [m for m in states if spikes.signal.is_only(m.neuron) and m.is_potential]
        return own[-1] if own and self.network.is_silent(own[-1].neuron) else None

    def _joined(self, marks: Sequence[Traced]) -> str:
        """One readout of several things returned: their features one after the other."""
        names = [mark.layer for mark in marks]
        flat = [signals.flatten(mark.signal) for mark in marks]
        whole = mixing.joined(flat, [part.shape[0] for part in flat], "F")
        name = "+".join(dict.fromkeys(names))
        sizes = ", ".join(str(prod(mark.signal.shape)) for mark in marks)
        self.network.notes.append(
            f"the model returns {len(marks)} tensors, of {sizes} values: {name} holds them in a row"
        )
        self.network.add(name, replace(marks[0], signal=whole, moment=ALL), Accumulator())
        return name

    def _check_whole(self, mark: Traced) -> None:
        steps = self.layout.steps or self.network.steps
        one_step = steps <= 1
        whole = mark.moment == ALL or (mark.moment.is_reduced and mark.moment.number == steps)
        if mark.complement or not (whole or one_step):
            raise UnsupportedModel(
                f"from_torch: the model returns {mark.moment}{' of 1 − spikes' if mark.complement else ''}, not all"
                " steps; return torch.stack of every step's output, or their sum or mean"
            )
        self._check_order(mark)

    def _end(self, mark: Traced) -> str:
        """The name of the population that answers for the one thing returned."""
        for function in mark.after:
            self.network.notes.append(
                f"the model ends in torch's `{function}`, which is left to whoever reads the output"
            )
        signal = mark.signal
        if signal.is_spikes and len(signal.terms) == 1 and signal.terms[0].source != self.network.entry:
            name = signal.terms[0].source
            if self.network.is_silent(name):
                raise UnsupportedModel(
                    f"from_torch: {name} has an infinite threshold and never fires; return its potential"
                )
            return name
        self.network.add(mark.layer, replace(mark, moment=ALL), Accumulator())
        return mark.layer

    def _check_order(self, mark: Traced) -> None:
        sizes = {**self.layout.sizes(mark.signal.shape)}
        own = "".join(name for held in plain(mark.axes, sizes) for name in held if name not in "TN")
        if own != "".join(name for name in letters(mark.signal.shape) if sizes[name] != 1):
            raise UnsupportedModel(
                f"from_torch: the model returns its values in another order ({own}) than its layers have; return them"
                " as they are"
            )

"""Populations and synapses as they are found in a model."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, count
from math import inf

import numpy as np
import torch
from torch import Tensor, nn

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import maps, signals
from hw_targets.frontends.signals import Floats, Signal, Term
from hw_targets.frontends.torch import layers, per_neuron
from hw_targets.frontends.torch.marks import ALL, EVERY, Moment, State, Traced, merged, same
from hw_targets.ir.network import LIF, Accumulator, ChipNeuron, GradedInput, Population, Shape, SpikeInput, Synapses
from neuroprune.frameworks import NeuronEquation


def as_lif(equation: NeuronEquation, shape: Shape) -> LIF:
    """A framework's neurons of one layer; where each has a threshold of its own, that of `per_neuron.gains`, 1."""
    return LIF(
        equation.v_threshold if equation.v_thresholds is None else 1.0,
        v_decay=equation.v_decay,
        i_decay=equation.i_decay,
        strict=equation.strict,
        unit=equation.unit,
        reset=equation.reset,
        reset_delay=equation.reset_delay,
        withholds=equation.withholds,
        v_decays=per_neuron.by_unit(equation.v_decays, shape, "decay of the potential"),
        i_decays=per_neuron.by_unit(equation.i_decays, shape, "decay of the current"),
        difference=equation.difference,
        max_spikes=equation.max_spikes,
        v_min=equation.v_min,
    )


#: What is wrong with neurons whose equations differ.
UNSTEADY = "changes its threshold, decay or reset from one step to another; give it the same ones in all steps"


_CHANGED = (
    "gets another current in its call {calls} than in its first, made of {moment}: either it is used several times in a"
    " step, then give each use its own neurons; or what it gets changes from step to step, as connections back from an"
    " earlier step make it, then leave these out, or use a layer that gives neurons their own spikes back"
    " (SpikingJelly's layer.LinearRecurrentContainer, snnTorch's RLeaky)"
)


def alike(first: NeuronEquation, now: NeuronEquation) -> bool:
    """Whether two equations of the same neurons are the same."""
    own = ("v_thresholds", "v_decays", "i_decays", "input_gains")
    pairs = [(getattr(first, name), getattr(now, name)) for name in own]
    return first == now and all((a is None) == (b is None) and (a is None or torch.equal(a, b)) for a, b in pairs)


def _sources(signal: Signal) -> str:
    return "+".join(dict.fromkeys(t.source for t in signal.terms))


class Builder:
    """Collects a network. A loop over time visits a population once a step, always with the same signal."""

    #: A max-pool of spikes is one neuron per window that fires where any does.
    pool_neuron = LIF(1.0)

    def __init__(self, entry: str) -> None:
        self.entry = entry
        self.populations: list[Population] = []
        self.synapses: list[Synapses] = []
        self.notes: list[str] = []
        self.calls: dict[str, int] = {}
        self._equations: dict[str, NeuronEquation] = {}
        self.at_once: set[str] = set()
        self._folded: set[str] = set()
        self._driven_by: dict[str, Signal] = {}
        self._made: dict[tuple[str, Moment], Traced] = {}

    @property
    def steps(self) -> int:
        """How many steps the model ran its neurons for; 0 where they take all at once, or there are none.

        Raises:
            UnsupportedModel: some of them for more than others.
        """
        calls = {name: n for name, n in self.calls.items() if name not in self.at_once}
        if len(set(calls.values())) > 1:
            raise UnsupportedModel(f"from_torch: the model runs its neurons for unequal numbers of steps, {calls}")
        return max(calls.values(), default=0)

    def add_input(self, shape: Shape, neuron: GradedInput | SpikeInput) -> None:
        """The population that stands for the model's input."""
        self.populations.append(Population(self.entry, shape, neuron))

    def add_neurons(self, name: str, mark: Traced, equation: NeuronEquation) -> Traced:
        """A framework's neurons, driven by a current.

        Raises:
            UnsupportedModel: what `add` says, or values of each neuron's own that have no place in the network.
        """
        if isinstance(equation.exact, ChipNeuron):
            return self.add(name, mark, equation.exact)
        if not alike(self._equations.setdefault(name, equation), equation):
            raise UnsupportedModel(UNSTEADY)
        neuron, driven = as_lif(equation, mark.signal.shape), mark.signal
        gains = per_neuron.gains(equation, driven.shape)
        if (gains != 1.0).any():
            driven = signals.scale(driven, gains)
        if neuron.i_decay != 1.0 and driven.bias is not None and driven.bias.any():
            neuron = replace(neuron, bias_lasts=True)
        if equation.v_thresholds is not None:
            self._folded.add(name)
        return self.add(name, replace(mark, signal=driven), neuron)

    def add(self, name: str, mark: Traced, neuron: LIF | Accumulator | ChipNeuron) -> Traced:
        """A population driven by a signal, or the next step of one that was there before.

        Raises:
            UnsupportedModel: it was there before, but with another signal, or out of step.
        """
        call = self.calls.get(name, 0)
        if not call:
            self._append(name, mark.signal, neuron)
        elif mark.moment == ALL:
            raise UnsupportedModel("is called twice in one pass; give each use its own neurons")
        elif not same(mark.signal, self._driven_by[name]):
            raise UnsupportedModel(_CHANGED.format(calls=call + 1, moment=mark.moment))
        if mark.moment not in (ALL, EVERY, Moment("step", call)):
            raise UnsupportedModel(
                f"gets {mark.moment} in its step {call}; only what belongs to the same step may meet, since recurrent"
                " and delayed connections are not read"
            )
        if neuron.fires:
            self.calls[name] = call + 1
        if mark.moment == ALL:
            self.at_once.add(name)
        sent = Signal(mark.signal.shape, (Term(name, mark.signal.shape),))
        return replace(mark, signal=sent, moment=ALL if mark.moment == ALL else Moment("step", call))

    def add_pool(self, counted: Traced, module: str | None = None) -> Traced:
        """A max-pool: neurons named after its module, or after what they pool where it is none.

        A module that pools several signals is several populations, numbered from the second on.

        Raises:
            UnsupportedModel: what `add` says.
        """
        base = module or f"{_sources(counted.signal)} max-pooled"
        return self._add_made(base, counted, self.pool_neuron)

    def _add_made(self, base: str, counted: Traced, neuron: LIF) -> Traced:
        """Neurons of the reader's own, those that were made of this signal before, or others, numbered from 2 on."""
        for name in chain([base], (f"{base} {n}" for n in count(2))):
            if (made := self._made.get((name, counted.moment))) is not None:
                if same(counted.signal, self._driven_by[name]):
                    return made
            elif name not in self._driven_by or same(counted.signal, self._driven_by[name]):
                made = self.add(name, counted, neuron)
                self._made[name, counted.moment] = made
                return made
        raise AssertionError("names never end")

    def add_feedback(self, name: str, feedback: nn.Module | Tensor, gains: Floats) -> None:
        """Synapses of a population to itself, one step later: a layer's weights, or each neuron's own weight.

        Raises:
            UnsupportedModel: a layer of another kind, or weights to itself that differ between a channel's positions.
        """
        if any(s.source == s.target == name for s in self.synapses):
            return
        shape = next(p.shape for p in self.populations if p.name == name)
        op = layers.recurrent_op(feedback, shape)
        self.synapses.append(Synapses(name, name, maps.scaled(op, shape, gains)))

    def is_silent(self, name: str) -> bool:
        """Whether a population's neurons can never fire."""
        return any(p.name == name and p.lif is not None and p.lif.v_threshold == inf for p in self.populations)

    def read_potential(self, state: State, steps: int) -> None:
        """Make neurons that never reset a readout: the model returns their potential.

        Raises:
            UnsupportedModel: neurons that reset, hear themselves or are heard, or a state that is no potential.
        """
        name = state.neuron
        index = next(i for i, p in enumerate(self.populations) if p.name == name)
        neuron, population = self.populations[index].lif, self.populations[index]
        assert neuron is not None
        instead = 'end in neurons that never reset (snnTorch: reset_mechanism="none"), or return spikes'
        if not state.is_potential or neuron.difference:
            raise UnsupportedModel(
                f"from_torch: the model returns a state of {name} that is no potential, such as a current; {instead}"
            )
        if neuron.reset != "none":
            raise UnsupportedModel(
                f"from_torch: the model returns the potential of {name}, which {neuron.reset_in_words}, but only spikes"
                f" leave neurons that reset; {instead}"
            )
        if any(s.source == name for s in self.synapses):
            raise UnsupportedModel(
                f"from_torch: the model returns the potential of {name}, whose spikes it uses as well; {instead}"
            )
        if name in self._folded:
            raise UnsupportedModel(
                f"from_torch: the model returns the potential of {name}, whose neurons have a threshold each, by which"
                " they never reset; give them one threshold"
            )
        if state.call + 1 != steps:
            raise UnsupportedModel(
                f"from_torch: the model returns the potential of {name} after step {state.call} of {steps}; return"
                " that after the last"
            )
        readout = Accumulator(neuron.v_decay, neuron.i_decay, neuron.v_decays, neuron.i_decays, neuron.bias_lasts)
        self.populations[index] = replace(population, neuron=readout)
        self.keep_only(name)

    def product(self, a: Traced, b: Traced) -> Traced:
        """Spikes times spikes (SEW AND), or times one minus spikes (SEW IAND), by neurons that forget in every step.

        s·x = [s + x ≥ 2] and (1 − s)·x = [x − s ≥ 1]; with v_decay = 1 nothing is left over for the next step.

        Raises:
            UnsupportedModel: factors that are not made of single neurons' spikes.
        """
        if a.complement and b.complement:
            raise UnsupportedModel("multiplies 1 − spikes by 1 − spikes; write it as one minus their sum and product")
        if a.complement:
            a, b = b, a
        left, right = a.signal, b.signal
        for factor in (left, right):
            self.check_spikes(factor)
        if left.shape != right.shape:
            raise UnsupportedModel(f"multiplies spikes of shapes {left.shape} and {right.shape}")
        if b.complement:
            right = signals.scale(right, np.full(right.shape[0], -1.0))
        base = f"{_sources(left)}{' and not ' if b.complement else ' and '}{_sources(right)}"
        both = replace(a, signal=signals.add(left, right), moment=merged(a.moment, b.moment), complement=False)
        return self._add_made(base, both, LIF(1.0 if b.complement else 2.0, v_decay=1.0))

    def check_spikes(self, signal: Signal) -> None:
        """Refuse what is not made of single neurons' spikes.

        Raises:
            UnsupportedModel: it is a sum of spikes, a current or an image.
        """
        if not signal.is_choice:
            raise UnsupportedModel(
                "max-pools or multiplies currents or a sum of spikes, where neither is a threshold; do it straight"
                " after neurons (convolution, neurons, max-pool), or use an average pool, and train the model so (it is"
                " another network, as neurons that charge would add up the largest current of every step; only for one"
                " step is it the same)"
            )
        sources = [p for p in self.populations if any(t.source == p.name for t in signal.terms)]
        if any(p.is_input and (p.neuron.is_graded or p.neuron.most_sent > 1) for p in sources):
            raise UnsupportedModel(
                "max-pools or multiplies the model's input (an image, counts of events), where neither is a threshold;"
                " do it before the model, or straight after neurons, and train the model so"
            )
        if several := [p.name for p in sources if p.neuron.most_sent > 1]:
            raise UnsupportedModel(
                f"max-pools or multiplies numbers of spikes of {', '.join(several)}, which may send several in a step;"
                " no neuron finds the largest number: sum them up (sinabs.layers.SumPool2d), or let each neuron send"
                " one spike a step (sinabs: spike_fn=SingleSpike)"
            )

    def keep_only(self, *outputs: str) -> None:
        """Drop the populations that no output depends on, such as a product nobody uses."""
        heard = set(outputs)
        for population in reversed(self.populations):
            if population.name in heard:
                heard |= {s.source for s in self.synapses if s.target == population.name}
        self.populations = [p for p in self.populations if p.name in heard]
        self.synapses = [s for s in self.synapses if s.target in heard]

    def _append(self, name: str, signal: Signal, neuron: LIF | Accumulator | ChipNeuron) -> None:
        if any(p.name == name for p in self.populations):
            raise UnsupportedModel("is called twice in one pass; give each use its own neurons")
        self._driven_by[name] = signal
        self.populations.append(Population(name, signal.shape, neuron, signal.bias))
        for term in signal.terms:
            self._lay_out(term)
        for source in dict.fromkeys(t.source for t in signal.terms):
            self.synapses += [
                Synapses(source, name, op) for op in (signals.as_op(t) for t in signal.terms if t.source == source)
            ]

    def _lay_out(self, term: Term) -> None:
        """Give neurons in a list the shape of a grid (C, H, W), where they are read as one: their order stays.

        Raises:
            UnsupportedModel: they are the input, or read as several grids.
        """
        index, old = next((i, p) for i, p in enumerate(self.populations) if p.name == term.source)
        if len(term.source_shape) == 1 or term.source_shape == old.shape:
            return
        if old.is_input or len(old.shape) > 1:
            raise UnsupportedModel(
                f"takes {old.name}, of shape {old.shape}, as {term.source_shape}; give the model's input and each layer"
                " one shape, (C, H, W)"
            )
        self.populations[index] = replace(old, shape=term.source_shape)

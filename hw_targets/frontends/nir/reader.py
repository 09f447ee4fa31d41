"""Networks from the Neuromorphic Intermediate Representation (Pedersen et al., Nat. Commun. 2024).

NIR's neurons are differential equations; `neurons` says what one step of them is here. The rest of the discrete
meaning: in step t every node answers step t of its input, and what a population sends itself arrives in step t + 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np

from hw_targets.errors import InvalidNetwork, UnsupportedModel, check_whole
from hw_targets.frontends import signals
from hw_targets.frontends.nir.file import read_tree
from hw_targets.frontends.nir.neurons import Dynamics, Solver, Step, dynamics, says_reset
from hw_targets.frontends.nir.nodes import LAYERS, Flow, added, along_one_axis, apply, weighted
from hw_targets.frontends.nir.order import check_reach, feeding_populations, population_order, stateless_order
from hw_targets.frontends.nir.tree import FlatGraph, Node, flattened, from_object
from hw_targets.frontends.signals import Floats, Signal, Term
from hw_targets.ir.network import (
    Accumulator,
    GradedInput,
    Network,
    Neuron,
    Population,
    Shape,
    SpikeInput,
    Synapses,
)
from hw_targets.ir.neurons import Reset

#: Seconds; the step for which snnTorch 1.0 and SpikingJelly 2.0 write their files.
DEFAULT_DT = 1e-4
STATELESS = (*LAYERS, "Delay")


def from_nir(
    graph: Any,
    *,
    time_steps: int | None = None,
    dt: float | None = None,
    solver: Solver = "euler",
    strict: bool | None = None,
    reset: Reset | None = None,
    reset_delay: bool | None = None,
    inputs: SpikeInput | GradedInput | None = None,
    input_shape: Shape | None = None,
) -> Network:
    """Read the populations and synapses of a NIR graph.

    A file states equations, not steps, so what it computes depends on `dt` and `solver`. With these the network spikes
    as the model that was exported, up to the float32 rounding of the file:

    - snnTorch 1.0: `reset="subtract", reset_delay=True`, the defaults of its neurons, or what the model was given; its
      exporter does not say.
    - SpikingJelly 2.0: `strict=False`, and `reset="subtract"` for neurons with `v_reset=None`.
    - Norse 1.1: `dt=1e-6` (its exporter multiplies time constants in seconds by its dt of 1e-3), `dt=1` for IF alone;
      `input_shape`, since it counts the batch. A spike adds its whole weight to LIFCell's current, but in the file only
      dt/τ_syn of it.
    - Sinabs 3.1: `dt=1, solver="exponential", strict=False`. Its exporter does not say how neurons reset, how often
      they spike in a step, whether they have a lower bound (`min_v_mem`), nor `norm_input=False`.

    Args:
        graph: a `nir.NIRGraph`, or the path of a .nir file, which is read without the nir package.
        time_steps: T, the steps a sample lasts; by default what `to_nir` left in the file.
        dt: length of a step, in the unit of the file's time constants; by default the file's own, or 1e-4.
        solver: "euler", v ← v + (dt/τ)·(v_leak − v + R·I), or "exponential", the same with 1 − exp(−dt/τ).
        strict: whether neurons fire at v > v_threshold, as NIR says, or at v ≥ v_threshold; by default what `to_nir`
            left in the file, or True.
        reset: how neurons reset that do not say it themselves (those `to_nir` wrote do): "zero", "subtract" or "none".
            By default to zero in the step they fire, and a note of the network says that this was assumed.
        reset_delay: whether that acts one step late.
        inputs: what the input is; by default what `to_nir` left in the file, or spikes.
        input_shape: (C, H, W) or (F,), in place of the Input node's; signals (C, L) become (C, 1, L).

    Returns:
        Network: populations are named after NIR's neuron nodes and start at v_reset, which is 0 here. A final layer
        without neurons, or I, becomes an `Accumulator`: it sums over the steps.

    Raises:
        InvalidFile: no such file, or one that is damaged or no NIR.
        InvalidNetwork: a graph or an argument that contradicts itself.
        UnsupportedModel: a node without an exact counterpart on a chip; the message names it.
    """
    tree = read_tree(graph) if isinstance(graph, (str, os.PathLike)) else from_object(graph)
    steps = tree.metadata.get("time_steps") if time_steps is None else time_steps
    if steps is None:
        raise InvalidNetwork("from_nir: the graph does not say how many steps a sample lasts; pass time_steps")
    steps = check_whole("from_nir", "time_steps", steps)
    found = tree.metadata.get("dt") if dt is None else dt
    length = float(DEFAULT_DT if found is None else found)
    if not (isfinite(length) and length > 0) or solver not in ("euler", "exponential"):
        raise InvalidNetwork(f"from_nir: dt is {length:g} and solver {solver!r}, expected dt > 0, euler or exponential")
    if reset not in (None, "zero", "subtract", "none"):
        raise InvalidNetwork(f"from_nir: reset is {reset!r}, expected zero, subtract or none")
    step = Step(length, found is None, solver, strict, reset, reset_delay)
    reader = _Reader(flattened(tree), step)
    reader.read(inputs, input_shape)
    return Network(
        tuple(reader.populations), tuple(reader.synapses), time_steps=int(steps), notes=_notes(reader.graph, step)
    )


def _notes(graph: FlatGraph, step: Step) -> tuple[str, ...]:
    """A sentence on what was assumed of neurons that do not say how they reset."""
    silent = [name for name, node in graph.nodes.items() if not says_reset(node)]
    if step.reset is not None or not silent:
        return ()
    return (
        f"the NIR graph does not say how {', '.join(silent)} reset{'s' if len(silent) == 1 else ''}: assumed is"
        " to zero, in the step they fire; pass reset=",
    )


@dataclass
class _Reader:
    """The graph, and what of the network was found so far; `flows` holds what leaves each node."""

    graph: FlatGraph
    step: Step
    populations: list[Population] = field(default_factory=list)
    synapses: list[Synapses] = field(default_factory=list)
    flows: dict[str, Flow] = field(default_factory=dict)

    def read(self, inputs: SpikeInput | GradedInput | None, input_shape: Shape | None) -> None:
        """Input, then neurons, each after its sources, then the readout."""
        entry, output = self.graph.only("Input"), self.graph.only("Output")
        between = stateless_order(self.graph, STATELESS)
        feeds = feeding_populations(self.graph, between)
        check_reach(self.graph, output)
        self._enter(entry, inputs, input_shape)
        for name in population_order({n: f for n, f in feeds.items() if n not in (*between, output)}, entry):
            self._pass_on(between)
            self._add_neurons(name, between)
        self._pass_on(between)
        self._finish(output)

    def _enter(self, name: str, inputs: SpikeInput | GradedInput | None, shape: Shape | None) -> None:
        node = self.graph.nodes[name]
        if shape is None:
            if "shape" not in node.fields:
                raise InvalidNetwork(f"from_nir: {name} does not say the input's shape; pass input_shape")
            shape = node.integers("shape")
        if len(shape) not in (1, 2, 3) or min(shape, default=0) < 1:
            raise InvalidNetwork(
                f"from_nir: the input has shape {shape}, expected (C, H, W), (C, L) or (F,); pass input_shape"
            )
        if inputs is None:
            bits = node.metadata.get("bits")
            inputs = SpikeInput() if bits is None else GradedInput(int(bits), float(node.metadata.get("scale", 255.0)))
        self._append(name, along_one_axis(shape), inputs, None)

    def _pass_on(self, between: list[str]) -> None:
        """Through the stateless nodes, as far as what feeds them is known."""
        for name in between:
            sources = self.graph.sources(name)
            if name not in self.flows and all(s in self.flows for s in sources):
                node = self.graph.nodes[name]
                with _naming(name, node):
                    self.flows[name] = apply(node, added([self.flows[s] for s in sources]), self.step.dt)

    def _add_neurons(self, name: str, between: list[str]) -> None:
        """A population, with its synapses to itself."""
        node, sources = self.graph.nodes[name], self.graph.sources(name)
        known = [self.flows[s] for s in sources if s in self.flows]
        with _naming(name, node):
            shape = known[0].signal.shape if known else _declared_shape(node)
            self.flows[name] = self._spikes(name, shape)
            self._pass_on(between)
            self._connect(name, [self.flows[s] for s in sources], dynamics(node, shape, self.step))

    def _connect(self, name: str, flows: list[Flow], found: Dynamics) -> None:
        """A population and the synapses that end in it; flows with delays keep synapses of their own."""
        prompt = [f for f in flows if f.delay is None]
        apart = ([added(prompt)] if prompt else []) + [f for f in flows if f.delay is not None]
        shapes = {f.signal.shape for f in apart}
        if len(shapes) != 1:
            raise UnsupportedModel(f"adds signals of shapes {sorted(shapes)}; they must be equal")
        signals_in = [weighted(f, found.gain) for f in apart]
        incoming, neuron = _total([s.bias for s in signals_in]), found.neuron
        if incoming is not None and incoming.any() and neuron.i_decay != 1.0:
            if found.bias is not None and found.bias.any():
                raise UnsupportedModel(
                    "gets a bias through a synaptic current that lasts over steps, and another through its leak"
                    " (v_leak); export a layer without bias before it, or v_leak = v_reset"
                )
            neuron = replace(neuron, bias_lasts=True)
        called = self._called(name)
        for signal, flow in zip(signals_in, apart, strict=True):
            if flow.delay is not None and any(t.source == called for t in signal.terms):
                raise UnsupportedModel("feeds itself through a Delay; recurrent spikes come one step later, no more")
            self.synapses += [Synapses(t.source, called, signals.as_op(t), flow.delay) for t in signal.terms]
        self._append(name, shapes.pop(), neuron, _total([incoming, found.bias]))

    def _append(self, name: str, shape: Shape, neuron: Neuron, bias: Floats | None) -> None:
        self.populations.append(Population(self._called(name), shape, neuron, bias))
        self.flows[name] = self._spikes(name, shape)

    def _spikes(self, name: str, shape: Shape) -> Flow:
        return Flow(Signal(shape, (Term(self._called(name), shape),)))

    def _called(self, name: str) -> str:
        """The population of a node: HDF5 does not allow every name, so `to_nir` may have noted another."""
        return str(self.graph.nodes[name].metadata.get("name", name))

    def _finish(self, output: str) -> None:
        """A readout where the last node has no neurons; the output feeds nothing else."""
        sources = self.graph.sources(output)
        while len(sources) == 1 and self.graph.nodes[sources[0]].kind == "Through":
            sources = self.graph.sources(sources[0])
        last = sources[0]
        node = self.graph.nodes[last]
        if len(sources) != 1 or node.kind == "Input":
            raise UnsupportedModel(f"from_nir: the output is fed by {sources}, expected one node after the input")
        shape = self.flows[last].signal.shape
        if node.kind in STATELESS:
            with _naming(last, node):
                self._connect(last, [self.flows[last]], Dynamics(Accumulator(), np.ones(shape[0])))
        called = self._called(last)
        if any(s.source == called and not s.is_recurrent for s in self.synapses):
            raise UnsupportedModel(f"from_nir: {last} is the output and feeds other nodes; a chip's output feeds none")
        said = self.graph.nodes[output].fields.get("shape")
        if said is not None and np.prod(np.asarray(said)) != np.prod(shape):
            raise InvalidNetwork(f"from_nir: {output} declares the shape {said}, but {last} sends {shape}")


def _declared_shape(node: Node) -> Shape:
    shapes = [np.shape(v) for v in node.fields.values() if not isinstance(v, str)]
    shape = max(shapes, key=len, default=())
    if not shape:
        raise InvalidNetwork("says no shape, and is fed by itself only; store one value per neuron")
    return along_one_axis(shape)


def _total(biases: list[Floats | None]) -> Floats | None:
    given = [b for b in biases if b is not None]
    return sum(given[1:], given[0]) if given else None


@contextmanager
def _naming(name: str, node: Node) -> Iterator[None]:
    """Puts the node before what is wrong with it."""
    try:
        yield
    except (UnsupportedModel, InvalidNetwork) as error:
        text = str(error)
        raise type(error)(text if text.startswith("from_nir:") else f"from_nir: {name} ({node.kind}) {text}") from error

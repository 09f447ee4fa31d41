"""A specification in xylosim: every state and spike of every step.

xylosim 0.1.3 keeps bare pointers to the synapses it is given: they live here for as long as its layer does. Its
`evolve` goes on from where it stopped, so that each sample starts with a reset.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from hw_targets.targets.xylo.arithmetic import MOST_INPUT
from hw_targets.targets.xylo.specification import Ints, Specification


class XylosimUnavailable(ImportError):
    """xylosim cannot be imported here."""


class Trace(NamedTuple):
    """What a core did, int64 (T, N, …): currents (…, hidden, states), potentials, spikes; and those of the outputs."""

    isyn: Ints
    vmem: Ints
    spikes: Ints
    isyn_out: Ints
    vmem_out: Ints
    spikes_out: Ints


def run_xylosim(spec: Specification, inputs: Ints) -> Trace:
    """Run samples (T, N, inputs) one after the other, each from cleared states.

    Raises:
        XylosimUnavailable: xylosim is not installed; the message says how.
    """
    layer = Layer(spec)
    traces = [layer.run(np.asarray(inputs[:, sample])) for sample in range(inputs.shape[1])]
    return Trace(*(np.stack(parts, axis=1) for parts in zip(*traces, strict=True)))


class Layer:
    """A core in xylosim."""

    def __init__(self, spec: Specification) -> None:
        """Raises XylosimUnavailable."""
        core = _xylosim()
        self._spec = spec
        self._synapses = [
            _synapses(core, weights) for weights in (spec.weights_in, spec.weights_rec, spec.weights_out[:, :, None])
        ]
        # An empty list of neurons has no type that xylosim would take; a missing second current never gets any.
        dashes = [[int(a), int(b)] for a, b in zip(spec.dash_syn, spec.dash_syn_2, strict=True)]
        self._layer = core.XyloLayer(
            *self._synapses,
            aliases=[list(map(int, targets)) for targets in spec.aliases] or [[] for _ in range(spec.hidden)],
            threshold=spec.threshold.tolist(),
            threshold_out=spec.threshold_out.tolist(),
            has_bias=True,
            bias=spec.bias_hidden.tolist(),
            bias_out=spec.bias_out.tolist(),
            weight_shift_inp=int(spec.weight_shift_in),
            weight_shift_rec=int(spec.weight_shift_rec),
            weight_shift_out=int(spec.weight_shift_out),
            dash_mem=spec.dash_mem.tolist(),
            dash_mem_out=spec.dash_mem_out.tolist(),
            dash_syns=dashes,
            dash_syns_out=[[int(dash)] for dash in spec.dash_syn_out],
            name="neuroprune",
        )

    def evolve(self, inputs: list[list[int]]) -> list[list[int]]:
        """Output spikes of every step, by output neuron, from cleared states."""
        self._layer.reset_all()
        sent: list[list[int]] = self._layer.evolve(inputs)
        return sent

    def run(self, inputs: Ints) -> tuple[Ints, ...]:
        """The parts of a `Trace` (T, …) of one sample (T, inputs)."""
        layer, spec = self._layer, self._spec
        sent = np.asarray(self.evolve(np.minimum(inputs, MOST_INPUT).astype(np.int64).tolist()), np.int64)
        steps = len(inputs)
        currents = [np.asarray(layer.rec_i_syn, np.int64).T, np.asarray(layer.rec_i_syn2, np.int64).T]
        return (
            np.stack(currents[: spec.states], axis=2),
            np.asarray(layer.rec_v_mem, np.int64).T,
            np.asarray(layer.rec_recurrent_spikes, np.int64),
            np.asarray(layer.rec_i_syn_out, np.int64).T,
            np.asarray(layer.rec_v_mem_out, np.int64).T,
            sent.reshape(steps, spec.outputs),
        )


def _synapses(core: Any, weights: Ints) -> list[list[Any]]:
    """By source, each non-zero weight: (sources, targets, states)."""
    return [
        [core.XyloSynapse(int(target), int(state), int(row[target, state])) for target, state in np.argwhere(row)]
        for row in weights
    ]


def _xylosim() -> Any:
    try:
        return importlib.import_module("xylosim.v2")
    except ImportError as error:
        raise XylosimUnavailable(
            f"xylosim cannot be imported ({error}); install it with: pip install xylosim==0.1.3 (it compiles C++ for"
            " about a minute)"
        ) from error

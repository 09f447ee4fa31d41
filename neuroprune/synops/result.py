"""What is reported of each layer, and of a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuroprune._html import html_table


@dataclass(frozen=True)
class LayerSynOps:
    """Operations of one layer, summed over every sample, time step and call.

    Attributes:
        name: qualified module name (the class name, for a model that is itself one layer). A product that a module
            computes by a function, without a layer of its own, is called ``"module (function)"``.
        kind: ``'spikes'`` (constants times them included); ``'pooled'`` (average-pooled spikes, or their mean);
            ``'real'`` (inputs that are no sums of spikes, such as a static image: counted in ``macs``); ``'mixed'``
            (calls of several kinds); ``'unused'`` (no call).
        synops: spikes times their non-zero outgoing synapses.
        dense: the same with every weight taken as non-zero.
        macs: multiply-accumulates of the real-valued calls: non-zero synapses reached, whatever the input values.
        dense_macs: the same with every weight taken as non-zero.
    """

    name: str
    kind: str
    synops: int
    dense: int
    macs: int
    dense_macs: int


@dataclass(frozen=True)
class SynOps:
    """Operations of a model: ``total``, ``dense``, ``macs`` and ``dense_macs`` are the sums over ``layers``.

    A layer is counted with the weight it computes with, which need not be its ``weight`` (standardised, quantized).
    ``uncounted`` names what is in none of the numbers: modules that own weights but are no convolution or linear layers
    (RNNs, attention with a softmax, ...), layers whose product nobody saw, and, as ``"module (function)"``, functions
    that multiply with weights, or spikes with spikes, in another way than a matrix product or a convolution.
    """

    total: int
    dense: int
    macs: int
    dense_macs: int
    layers: dict[str, LayerSynOps]
    uncounted: tuple[str, ...]

    def _repr_html_(self) -> str:
        """A row per layer, as notebooks show it."""
        rows = [[name, one.kind, one.synops, one.dense, one.macs] for name, one in self.layers.items()]
        left = f"; not counted: {', '.join(self.uncounted)}" if self.uncounted else ""
        head = ["layer", "inputs", "SynOps", "with zeros billed", "MACs"]
        return html_table(f"Synaptic operations{left}", head, [*rows, ["sum", "", self.total, self.dense, self.macs]])


@dataclass
class Tally:
    """Running counts of one layer."""

    synops: int = 0
    dense: int = 0
    macs: int = 0
    dense_macs: int = 0
    kinds: set[str] = field(default_factory=set)

    def add_synops(self, synops: int, dense: int) -> None:
        self.synops += synops
        self.dense += dense

    def add_macs(self, macs: int, dense: int) -> None:
        self.macs += macs
        self.dense_macs += dense
        self.kinds.add("real")

    def layer(self, name: str) -> LayerSynOps:
        kind = "mixed" if len(self.kinds) > 1 else next(iter(self.kinds), "unused")
        return LayerSynOps(name, kind, self.synops, self.dense, self.macs, self.dense_macs)

"""Synaptic operations, counted exactly: the counter, fan-out maps, what counts as a spike, feedback."""

from neuroprune.synops.counter import LayerSynOps, SynOps, SynOpsCounter, count_synops

__all__ = ["LayerSynOps", "SynOps", "SynOpsCounter", "count_synops"]

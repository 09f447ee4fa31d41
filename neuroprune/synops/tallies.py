"""The running counts of every layer, and what is kept to make them fast."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from neuroprune.synops.call import arrivals_of
from neuroprune.synops.fan_out import FanOut, Geometry
from neuroprune.synops.known import Arrivals, Data, Known, is_parameter, is_whole, version_of
from neuroprune.synops.products import Operations, Pair, count_data, count_weighted
from neuroprune.synops.result import LayerSynOps, Tally
from neuroprune.synops.spikes import integer_sum, known_sum

_SUMS_KEPT = 16  # sums of a layer's spikes that wait to be added up
_INPUTS_KEPT = 4  # inputs whose counts are remembered for other layers that read them too


class Tallies:
    """Counts by layer. Fan-out maps stay for as long as their weights do; sums of spikes are multiplied at the end."""

    def __init__(self, known: Known, names: Iterable[str]) -> None:
        """`names`: layers that are listed, called or not; others follow as they come."""
        self._known, self._names = known, tuple(names)
        self._maps: dict[tuple[str, Geometry, tuple[int, ...], torch.device], FanOut] = {}
        self._summed: deque[_Summed] = deque(maxlen=_INPUTS_KEPT)
        self.reset()

    def reset(self) -> None:
        """Zero; maps stay."""
        self._tallies = {name: Tally() for name in self._names}
        self._spikes: dict[FanOut, tuple[str, list[Tensor]]] = {}

    def forget(self) -> None:
        """Forget which inputs were summed up."""
        self._summed.clear()

    def layers(self) -> dict[str, LayerSynOps]:
        """Counts so far."""
        self._settle()
        return {name: tally.layer(name) for name, tally in self._tallies.items()}

    def add_weighted(self, name: str, pair: Pair, *, data_left: bool) -> None:
        """A product of data and a weight."""
        spikes, pooled = self._spikes_of(pair.left if data_left else pair.right)
        self._add(name, count_weighted(pair, spikes, data_left=data_left), pooled=pooled)

    def add_data(self, name: str, pair: Pair) -> None:
        """A product of data and data."""
        (left, first), (right, second) = self._spikes_of(pair.left), self._spikes_of(pair.right)
        self._add(name, count_data(pair, left, right), pooled=first or second)

    def _add(self, name: str, operations: Operations, *, pooled: bool) -> None:
        tally = self._tally(name)
        if operations.is_spikes:
            tally.add_synops(operations.count, operations.dense)
            tally.kinds.add("pooled" if pooled else "spikes")
        else:
            tally.add_macs(operations.count, operations.dense)

    def add_layer(self, name: str, x: Tensor, weight: Tensor, geometry: Geometry) -> None:
        """A layer's product of its input and a weight."""
        fan_out = self._fan_out(name, geometry, weight, x)
        counts, kind = self._summed_spikes(x, fan_out.counts.shape[1])
        tally = self._tally(name)
        if counts is None:
            rows = x.numel() // max(1, fan_out.counts.shape[1])
            tally.add_macs(*(rows * total for total in fan_out.totals))
            return
        tally.kinds.add(kind)
        _, sums = self._spikes.setdefault(fan_out, (name, []))
        sums.append(counts)
        if len(sums) > _SUMS_KEPT:
            sums[:] = [_total(sums)]
        if not is_parameter(weight):
            self._settle()  # every call has a weight and a map of its own, none of which is kept

    def _spikes_of(self, x: Tensor) -> tuple[Tensor | None, bool]:
        """Spikes at each position of a factor, None if it is real; and whether they are pooled."""
        mark = self._known.data(x)
        arrivals = arrivals_of(x, self._known) if mark is not None else Arrivals.valued(x, is_whole)
        counts = None if arrivals is None else arrivals.counts()
        if arrivals is None or counts is not None:
            return counts, arrivals is not None and arrivals.pooled
        return x if is_whole(x) else None, False

    def _summed_spikes(self, x: Tensor, positions: int) -> tuple[Tensor | None, str]:
        """Spikes per position, None where the inputs are real; and their kind. Once for all that read them."""
        for summed in self._summed:
            if summed.of() is x and summed.version == version_of(x):
                return summed.result
        result = self._sum(x, positions)
        if not x.is_inference():  # those cannot tell whether they were written to
            self._summed.append(_Summed(weakref.ref(x), version_of(x), result))
        return result

    def _sum(self, x: Tensor, positions: int) -> tuple[Tensor | None, str]:
        mark = self._known.data(x) or Data()
        if mark.analog:
            return None, "real"
        spikes = None if mark.arrivals is None else mark.arrivals.counts()
        if spikes is not None and mark.arrivals is not None:
            kind = "pooled" if mark.arrivals.pooled else "spikes"
            return integer_sum(spikes.reshape(-1, positions), known=True), kind
        rows = x.reshape(-1, positions)
        counts = known_sum(rows, mark.most) if mark.is_spikes else None
        if counts is None:
            counts = integer_sum(rows, known=mark.is_spikes)
        return counts, "real" if counts is None else "spikes"

    def _fan_out(self, name: str, geometry: Geometry, weight: Tensor, x: Tensor) -> FanOut:
        shape = tuple(x.shape[1 - weight.dim() :])
        if not is_parameter(weight):
            return FanOut.of(geometry, name, weight, shape, x.device)
        key = (name, geometry, shape, x.device)
        known = self._maps.get(key)
        if known is None or not known.holds_for(weight):
            known = self._maps[key] = FanOut.of(geometry, name, weight, shape, x.device)
        return known

    def _tally(self, name: str) -> Tally:
        return self._tallies.setdefault(name, Tally())

    def _settle(self) -> None:
        for fan_out, (name, sums) in self._spikes.items():
            self._tally(name).add_synops(*(fan_out.counts * _total(sums)).sum(1).tolist())
        self._spikes.clear()


def _total(sums: list[Tensor]) -> Tensor:
    """Their sum, int64."""
    total = sums[0].long()
    for counts in sums[1:]:
        total = total + counts.long()
    return total


@dataclass(frozen=True)
class _Summed:
    """A layer's input (not kept alive), its version then, and what was counted in it."""

    of: weakref.ref[Tensor]
    version: int
    result: tuple[Tensor | None, str]

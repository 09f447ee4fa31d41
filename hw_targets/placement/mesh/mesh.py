"""Cores on the chip's mesh, so that spikes travel few hops: chips filled along a smooth order, then swaps of cores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints

Floats = npt.NDArray[np.float64]
SWEEPS = 12
"""Averaging sweeps that smooth the order of cores."""
SWAPS = 6000
"""Most swaps of cores, all chips together; at most two per core."""


@dataclass(frozen=True, eq=False)
class Links:
    """Messages from core `sender[k]` to another core `receiver[k]`, each pair once."""

    sender: Ints
    receiver: Ints
    messages: Floats


@dataclass(frozen=True)
class MeshTraffic:
    """What positions on the mesh cost: messages times hops.

    Messages are spikes of the activity passed to `place`, or one per neuron and destination core without one
    (`is_measured`). `hops` sums messages × routers passed (|Δx| + |Δy|) between cores of one chip; `hops_lower_bound`
    is what no arrangement of each chip's cores can go below; `between_chips` counts messages that leave their chip.
    """

    hops: float
    hops_lower_bound: float
    between_chips: float
    messages: float
    is_measured: bool


def arrange(cores: int, links: Links, chip: Chip) -> Ints | None:
    """(cores, 3) int64: chip, x and y of the router of each core; None if the mesh is not published."""
    if chip.mesh_columns is None or chip.mesh_rows is None or chip.cores_per_router is None:
        return None
    order = _smooth_order(cores, links, chip.cores_per_chip)
    positions = np.empty((cores, 3), dtype=np.int64)
    slots, chips = _slots(chip), -(-cores // chip.cores_per_chip)
    place = np.empty(cores, dtype=np.int64)
    place[order] = np.arange(cores)
    for number, inside in enumerate(_by_chip(place, links, chips, chip.cores_per_chip)):
        begin = number * chip.cores_per_chip
        members = order[begin : begin + chip.cores_per_chip]
        traffic = _both_ways(place, begin, members.size, inside)
        used = _improved(traffic, slots, SWAPS // chips)
        positions[members, 0] = number
        positions[members, 1:] = slots[used]
    return positions


def _by_chip(place: Ints, links: Links, chips: int, per_chip: int) -> Iterator[Links]:
    """The links inside each chip; core c fills slot `place[c]` of all chips in a row."""
    a, b = place[links.sender] // per_chip, place[links.receiver] // per_chip
    inside = np.flatnonzero(a == b)
    inside = inside[np.argsort(a[inside], kind="stable")]
    edges = np.searchsorted(a[inside], np.arange(chips + 1))
    for low, high in pairwise(edges.tolist()):
        chosen = inside[low:high]
        yield Links(links.sender[chosen], links.receiver[chosen], links.messages[chosen])


def measure(positions: Ints, links: Links, chip: Chip, *, is_measured: bool) -> MeshTraffic:
    """Cost of positions, with the lower bound for cores that stay on their chips."""
    a, b = positions[links.sender], positions[links.receiver]
    here = a[:, 0] == b[:, 0]
    hops = np.abs(a[:, 1:] - b[:, 1:]).sum(1)
    return MeshTraffic(
        hops=float((links.messages * hops)[here].sum()),
        hops_lower_bound=_lower_bound(len(positions), links, here, chip),
        between_chips=float(links.messages[~here].sum()),
        messages=float(links.messages.sum()),
        is_measured=is_measured,
    )


def _slots(chip: Chip) -> Ints:
    """(cores of a chip, 2): x and y of each core's router, routers in serpentine order."""
    assert chip.mesh_columns is not None
    assert chip.mesh_rows is not None
    assert chip.cores_per_router is not None
    # Turning along the shorter side keeps neighbours in the order close together.
    short, long = sorted((chip.mesh_columns, chip.mesh_rows))
    walk = [(i, j if i % 2 == 0 else short - 1 - j) for i in range(long) for j in range(short)]
    routers = np.array(walk if chip.mesh_columns == long else [(j, i) for i, j in walk], dtype=np.int64)
    return np.repeat(routers, chip.cores_per_router, axis=0)[: chip.cores_per_chip]


def _smooth_order(cores: int, links: Links, per_chip: int) -> Ints:
    """Cores so that those that talk are near each other: by index, or by repeated averages over partners if better.

    The averages approach the second eigenvector of the traffic's random walk, the order of spectral placement.
    """
    by_index = np.arange(cores, dtype=np.int64)
    if cores <= per_chip or links.messages.size == 0:
        return by_index
    ends = np.concatenate((links.sender, links.receiver)), np.concatenate((links.receiver, links.sender))
    weight = np.tile(links.messages, 2)
    degree = np.bincount(ends[0], weight, cores)
    place = by_index.astype(np.float64)
    best, least = by_index, _crossing(by_index, links, per_chip)
    for _ in range(SWEEPS):
        mean = np.bincount(ends[0], weight * place[ends[1]], cores) / np.maximum(degree, 1e-300)
        place = np.where(degree > 0, (place + mean) / 2, place)
        order = np.argsort(place, kind="stable").astype(np.int64)
        place[order] = np.arange(cores)
        if (crossing := _crossing(order, links, per_chip)) < least:
            best, least = order, crossing
    return best


def _crossing(order: Ints, links: Links, per_chip: int) -> float:
    """Messages between chips, if chips are filled in an order."""
    chip = np.empty_like(order)
    chip[order] = np.arange(order.size) // per_chip
    return float(links.messages[chip[links.sender] != chip[links.receiver]].sum())


def _both_ways(place: Ints, begin: int, size: int, inside: Links) -> Floats:
    """(size, size): messages in both directions between the cores of one chip."""
    pair = (place[inside.sender] - begin) * size + place[inside.receiver] - begin
    one_way = np.bincount(pair, inside.messages, size**2).reshape(size, size)
    return one_way + one_way.T


def _improved(traffic: Floats, slots: Ints, swaps: int) -> Ints:
    """Slot of each core of a chip: the given order, improved by the best swap until none helps (or `swaps` were made).

    Swapping the slots of r and s changes Σ traffic·distance by Σ_k (t_rk − t_sk)(d_sk − d_rk), k ≠ r, s, which one
    matrix product m = t·d gives for all pairs. The swap itself adds (t_ir − t_is)(d_sj − d_rj) to m_ij, j ≠ r, s (all
    of it exact in floats while messages are whole). Free slots take part as cores without traffic.
    """
    count, size = len(traffic), len(slots)
    t = np.zeros((size, size))
    t[:count, :count] = traffic
    used = np.arange(size, dtype=np.int64)
    distance = np.abs(slots[:, None] - slots[None]).sum(2).astype(np.float64)
    d = distance.copy()
    m = t @ d
    for _ in range(min(swaps, 2 * count)):
        own = np.diag(m)
        change = m + m.T
        change -= own[:, None]
        change -= own
        change += 2 * t * d
        best = int(np.argmin(change))
        if change.flat[best] >= -1e-9 * (1.0 + abs(float(own.sum()))):
            break
        r, s = divmod(best, size)
        m += np.outer(t[:, r] - t[:, s], d[s] - d[r])
        used[[r, s]] = used[[s, r]]
        d[[r, s]] = d[[s, r]]
        d[:, [r, s]] = d[:, [s, r]]
        m[:, [r, s]] = t @ d[:, [r, s]]
    return used[:count]


def _lower_bound(cores: int, links: Links, here: npt.NDArray[np.bool_], chip: Chip) -> float:
    """Half the sum over cores of their traffic, heaviest partner first, times the least distances there are.

    A router has c cores, so c − 1 partners can be at no distance, 4c more at one hop, 8c at two, 4k·c at k.
    """
    assert chip.cores_per_router is not None
    a, b = np.minimum(links.sender, links.receiver)[here], np.maximum(links.sender, links.receiver)[here]
    pair, inverse = np.unique(a * cores + b, return_inverse=True)
    weight = np.bincount(inverse, links.messages[here], pair.size)
    ends, both = np.concatenate(np.divmod(pair, cores)), np.tile(weight, 2)
    order = np.lexsort((-both, ends))
    first = np.flatnonzero(np.diff(ends[order], prepend=-1))
    rank: Ints = np.arange(ends.size) - np.repeat(first, np.diff(np.append(first, ends.size)))
    per_hop = [chip.cores_per_router - 1, *(4 * k * chip.cores_per_router for k in range(1, chip.cores_per_chip + 1))]
    distance = np.searchsorted(np.cumsum(per_hop), rank, side="right")
    return float((both[order] * distance).sum()) / 2

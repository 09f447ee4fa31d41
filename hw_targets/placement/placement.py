"""The result of mapping: which core every neuron lives on, what each core holds, and its file format."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.files.atomic import new_file
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork, Population
from hw_targets.placement.bounds.bounds import cores_by_resource, totals
from hw_targets.placement.cores.cost import CoreUsage, Part, usage_of
from hw_targets.placement.fingerprint import fingerprint
from hw_targets.placement.limits import check_destinations
from hw_targets.placement.mesh.mesh import MeshTraffic, arrange, measure
from hw_targets.placement.mesh.traffic import core_links, messages_sent
from hw_targets.placement.packing.packing import count_destinations
from hw_targets.placement.skips import as_held, assumptions, has_delays
from neuroprune._html import html_table

Cores = npt.NDArray[np.int32]
SHOWN = 50
"""Cores that a notebook lists."""
STAMP = "neuroprune placement, network sha256 "
"""What the comment of a placement's archive begins with, before the network's fingerprint."""


@dataclass(frozen=True, eq=False, repr=False)
class Placement:
    """Neurons of a network laid out on the cores of a chip.

    `cores[name]` is int32, one core index per neuron of a population in flattened (C, H, W) order; inputs live off
    chip and are absent. `usage[k]` is what core k holds, of one population or several. `destinations[name]` counts, per
    neuron (inputs included), the distinct cores its spikes go to. `messages` is what the activity passed to `place`
    sends between cores over its whole batch, input events included: one per event and destination core; None without
    an activity. `positions` (cores, 3) holds the chip and the router's x and y of each core, and `mesh` what messages
    cost there; both None if the chip's mesh is not published.
    """

    network: ChipNetwork
    chip: Chip
    cores: Mapping[str, Cores]
    usage: tuple[CoreUsage, ...]
    destinations: Mapping[str, Ints]
    messages: int | None = None
    positions: Ints | None = None
    mesh: MeshTraffic | None = None

    def __repr__(self) -> str:
        return f"Placement({self.core_count} cores, {self.chips} {self.chip.name} chip(s), {self.network!r})"

    def _repr_html_(self) -> str:
        """What each core holds, as notebooks show it; of many cores the first."""
        keys = ("neurons", "input_axons", "output_axons", "synapses", "synaptic_bits")
        rows = [[f"{k}: {core.population}", *(getattr(core, key) for key in keys)] for k, core in enumerate(self.usage)]
        more = f", the first {SHOWN} here" if len(rows) > SHOWN else ""
        title = f"{self.core_count} cores (at least {self.lower_bound}) on {self.chips} {self.chip.name} chip(s){more}"
        return html_table(title, ["core", *(key.replace("_", " ") for key in keys)], rows[:SHOWN])

    @property
    def core_count(self) -> int:
        """Cores in use."""
        return len(self.usage)

    @property
    def chips(self) -> int:
        """Chips needed: cores in use over cores per chip, rounded up."""
        return -(-self.core_count // self.chip.cores_per_chip)

    @property
    def lower_bound(self) -> int:
        """Cores that the scarcest resource alone asks for (see `bounds.totals`); no placement can do much better."""
        return max(self.bounds.values(), default=0)

    @cached_property
    def bounds(self) -> Mapping[str, int]:
        """Cores that each resource alone asks for, by the chip's fact that limits it."""
        return cores_by_resource(totals(as_held(self.network, self.chip), self.chip), self.chip)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """How connections that pass over layers are held on the chip; empty where there are none."""
        return tuple(assumptions(self.network, self.chip))

    @property
    def not_enforced(self) -> tuple[str, ...]:
        """What could not be checked exactly because the chip's numbers are unpublished; empty if all was."""
        limits = ("input_axons_per_core", "output_axons_per_core", "synaptic_bits_per_core")
        unknown = [f"{key}: unpublished, not checked" for key in limits if getattr(self.chip, key) is None]
        if not self.chip.knows_entry_format and self.chip.synaptic_bits_per_core is not None:
            known = self.chip.weight_bits is not None
            unknown.append(
                "synaptic_bits_per_core: synapse format unpublished, "
                + ("checked against the weights alone, so more cores may be needed" if known else "not checked")
            )
        if has_delays(self.network):
            if self.chip.max_delay is None:
                unknown.append("max_delay: unpublished, not checked")
            if self.chip.delay_bits is None and self.chip.synaptic_bits_per_core is not None:
                unknown.append("delay_bits: unpublished, the memory of delays not counted")
        if self.chip.populations_per_core is None and any(len(core.neurons_of) > 1 for core in self.usage):
            unknown.append("populations_per_core: unpublished, cores shared by populations not checked")
        return tuple(unknown)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write `cores` as an .npz: one int32 array per population, named after it. Equal placements, equal bytes.

        The archive's comment holds the network's fingerprint, by which `load_placement` knows a foreign file.

        Raises:
            InvalidFile: the file exists and `overwrite` is false, or its folder cannot be written.
        """
        with new_file(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.comment = (STAMP + fingerprint(self.network)).encode()
            for name, cores in self.cores.items():
                member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                member.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(member, "w") as stream:
                    np.save(stream, cores, allow_pickle=False)


def placed_populations(network: ChipNetwork) -> tuple[Population, ...]:
    """Populations that live on the chip, sources before targets."""
    return tuple(network[name] for name in network.order if not network[name].is_input)


def assembled(
    network: ChipNetwork, chip: Chip, parts: Sequence[Sequence[Part]], events: Mapping[str, Ints] | None
) -> Placement:
    """The placement of given parts on given cores: everything that follows from them, counted."""
    destinations = count_destinations(parts, {p.name: p.size for p in network.populations})
    check_destinations(destinations, network, chip)
    cores = {p.name: np.full(p.size, -1, dtype=np.int32) for p in placed_populations(network)}
    for index, core in enumerate(parts):
        for part in core:
            cores[part.population][part.neurons] = index
    usage = tuple(usage_of(core, destinations, chip) for core in parts)
    messages = None if events is None else sum(messages_sent(events, destinations).values())
    positions, mesh = None, None
    if chip.mesh_columns is not None:
        links = core_links(parts, cores, events)
        positions = arrange(len(parts), links, chip)
        assert positions is not None
        mesh = measure(positions, links, chip, is_measured=events is not None)
    return Placement(network, chip, cores, usage, destinations, messages, positions, mesh)

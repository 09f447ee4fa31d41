"""The result of mapping: which core every neuron lives on, what each core holds, and its file format."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw_targets.chip import Chip, load_chip
from hw_targets.connectivity import Ints
from hw_targets.errors import InvalidFile
from hw_targets.files import new_file
from hw_targets.mapping.cost import CoreUsage, Window, core_order
from hw_targets.network import ChipNetwork, Population

Cores = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False, repr=False)
class Placement:
    """Neurons of a network laid out on the cores of a chip.

    `cores[name]` is int32, one core index per neuron of a population in flattened (C, H, W) order; inputs live off
    chip and are absent. `usage[k]` is what core k holds. `destinations[name]` counts, per neuron (inputs included),
    the distinct cores its spikes go to. `messages` is what the activity passed to `place` sends between cores over
    its whole batch, input events included: one per event and destination core; None without an activity.
    """

    network: ChipNetwork
    chip: Chip
    cores: Mapping[str, Cores]
    usage: tuple[CoreUsage, ...]
    destinations: Mapping[str, Ints]
    messages: int | None = None

    def __repr__(self) -> str:
        return f"Placement({self.core_count} cores, {self.chips} {self.chip.name} chip(s), {self.network!r})"

    @property
    def core_count(self) -> int:
        """Cores in use."""
        return len(self.usage)

    @property
    def chips(self) -> int:
        """Chips needed: cores in use over cores per chip, rounded up."""
        return -(-self.core_count // self.chip.cores_per_chip)

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
        return tuple(unknown)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write `cores` as an .npz: one int32 array per population, named after it. Equal placements, equal bytes.

        Raises:
            InvalidFile: the file exists and `overwrite` is false, or its folder cannot be written.
        """
        with new_file(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, cores in self.cores.items():
                member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                member.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(member, "w") as stream:
                    np.save(stream, cores, allow_pickle=False)


def placed_populations(network: ChipNetwork) -> tuple[Population, ...]:
    """Populations that live on the chip, sources before targets."""
    return tuple(network[name] for name in network.order if not network[name].is_input)


def load_placement(path: str | os.PathLike[str], network: ChipNetwork, chip: Chip | None = None) -> Placement:
    """Read a placement of `network` on `chip` (by default the chip the network was quantised for).

    Raises:
        InvalidFile: a file that is missing or no placement, one of another network (names, sizes), core indices with
            gaps, a core shared by populations, or a core that exceeds a limit of the chip.
        InvalidChip: no chip given and the network names none that is known.
    """
    chip = load_chip(network.chip) if chip is None else chip
    cores = _read(Path(path))
    expected = {p.name: p.size for p in placed_populations(network)}
    if set(cores) != set(expected):
        raise InvalidFile(
            f"{path} places {sorted(cores)}, but the network has {sorted(expected)} on chip; it belongs to another"
            " network, pass that one or place this one"
        )
    for name, size in expected.items():
        if cores[name].shape != (size,) or cores[name].dtype != np.int32:
            raise InvalidFile(
                f"{path}: {name!r} is {cores[name].dtype} {cores[name].shape}, expected int32 ({size},); it belongs to"
                " another network, pass that one or place this one"
            )
    return _measured({name: cores[name] for name in expected}, network, chip, str(path))


def _read(path: Path) -> dict[str, Cores]:
    """All arrays of an .npz."""
    try:
        if path.exists() and not zipfile.is_zipfile(path):
            raise InvalidFile(f"{path} is not an .npz file; pass one that Placement.save wrote")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidFile):
            raise
        raise InvalidFile(f"{path} cannot be read as an .npz: {error}; write it again with Placement.save") from error


def _measured(cores: dict[str, Cores], network: ChipNetwork, chip: Chip, where: str) -> Placement:
    """Count what every core holds under a given assignment, and refuse one that breaks a rule."""
    everyone = np.concatenate([np.unique(part) for part in cores.values()]) if cores else np.zeros(0, np.int32)
    if not np.array_equal(np.sort(everyone), np.arange(everyone.size)):
        raise InvalidFile(f"{where}: core indices must run from 0 without gaps, and no core may hold two populations")
    destinations = {p.name: np.zeros(p.size, dtype=np.int64) for p in network.populations}
    usage: dict[int, CoreUsage] = {}
    for name in reversed(cores):
        order = core_order(network[name])
        for core in np.unique(cores[name]).tolist():
            window = Window(network, name, order[cores[name][order] == core], destinations[name], chip)
            usage[core] = window.cost(window.targets.size)
            for source, neurons in window.sources(window.targets.size).items():
                destinations[source][neurons] += 1
            if exceeded := usage[core].exceeded(chip):
                key, used, limit = exceeded[0]
                raise InvalidFile(
                    f"{where}: core {core} ({name!r}) has {key} {used}, {used - limit} more than the {limit} of"
                    f" {chip.name}; place the network again"
                )
    return Placement(network, chip, cores, tuple(usage[core] for core in range(len(usage))), destinations)

"""`neuroprune map` and `verify` on a netx file that may come from elsewhere, in the place of a run folder."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw_targets.app.cli.console import Console
from hw_targets.app.cli.tables import quantity, table
from hw_targets.chips.chip import Chip
from hw_targets.errors import InvalidChip
from hw_targets.ir.connectivity import fan_in
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement import place
from hw_targets.targets.loihi.lava.check import compare_with_lava
from hw_targets.targets.loihi.netx.reader import read_netx
from hw_targets.targets.registry import load_chip
from neuroprune.training.progress import progress_bar

#: Steps a random sample lasts where the file does not say.
STEPS = 16


def is_netx(path: Path) -> bool:
    """Whether a path names a netx file rather than a run folder."""
    return path.suffix == ".net" and not os.path.isdir(path)


def map_file(path: Path, chip_name: str, out: Path | None, *, overwrite: bool, console: Console) -> None:
    """Lay the file's network on a chip's cores."""
    chip = _chip("map", path, chip_name)
    network = read_netx(path)
    placement = place(network, chip)
    out = out or path.with_suffix(".placement.npz")
    placement.save(out, overwrite=overwrite)
    found: dict[str, dict[str, int]] = {}
    for name, cores in placement.cores.items():
        synapses = sum(int(fan_in(s, network).sum()) for s in network.incoming(name))
        found[name] = {"neurons": network[name].size, "synapses": synapses, "cores": len(np.unique(cores))}
    rows = [[name, str(p["neurons"]), quantity(p["synapses"]), str(p["cores"])] for name, p in found.items()]
    values = {"chip": chip.name, "cores": placement.core_count, "chips": placement.chips, "populations": found}
    console.result(
        {**values, "written": out},
        f"{table(rows, ['population', 'neurons', 'non-zero synapses', 'on cores'])}\n\n"
        f"{placement.core_count} cores on {placement.chips} {chip.name} chip(s); no images, so no energy\n"
        f"written to {out}",
    )
    console.notes((*placement.assumptions, *placement.not_enforced))


def verify_file(path: Path, chip_name: str, samples: int, console: Console) -> None:
    """Compare every chip step with Lava on random inputs, half of them active."""
    _chip("verify", path, chip_name)
    network = read_netx(path)
    if network.steps_assumed:
        network = replace(network, time_steps=STEPS, steps_assumed=False)
    frames = random_frames(network, samples)
    with console.progress(), progress_bar(None, "Lava") as bar:
        result = compare_with_lava(network, path, frames, timing="netx", waiting=bar.update)
    console.result(
        asdict(result),
        f"{result.differences} differences from Lava in {result.compared} spikes of all layers,"
        f" {result.samples} random samples of {network.time_steps} steps; {result.readout_differences} in the readout",
    )


def _chip(call: str, path: Path, name: str) -> Chip:
    """A chip that takes netx files.

    Raises:
        InvalidChip: it takes others, or none.
    """
    chip = load_chip(name)
    formats = chip.supported(call).exporters
    if "netx" not in formats:
        raise InvalidChip(
            f"{call}: {path} is a netx file, whose integers are Loihi's, and {chip.name} takes {', '.join(formats)};"
            " name one of Loihi's family with --chip, or give the run folder that the file was made from"
        )
    return chip


def random_frames(network: ChipNetwork, samples: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """(T, N, *shape): whole numbers of the input's range, half of them zero."""
    rng, entry = np.random.default_rng(seed), network.inputs[0]
    shape = (network.time_steps, samples, *entry.shape)
    top = entry.neuron.most_sent
    return rng.integers(1, top + 1, shape) * rng.integers(0, 2, shape)

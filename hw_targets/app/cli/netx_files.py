"""`neuroprune map` and `verify` on a netx file that may come from elsewhere, in the place of a run folder."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw_targets.app.cli.tables import quantity, table
from hw_targets.ir.connectivity import fan_in
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement import place
from hw_targets.targets.loihi.lava.check import compare_with_lava
from hw_targets.targets.loihi.netx.reader import read_netx
from hw_targets.targets.registry import load_chip
from neuroprune.training.loop import progress_bar

#: Steps a random sample lasts where the file does not say.
STEPS = 16


def is_netx(path: Path) -> bool:
    """Whether a path names a netx file rather than a run folder."""
    return path.suffix == ".net" and not os.path.isdir(path)


def map_file(options: argparse.Namespace) -> None:
    """Lay the file's network on a chip's cores."""
    network, chip = read_netx(options.folder), load_chip(options.chip)
    placement = place(network, chip)
    out = options.out or options.folder.with_suffix(".placement.npz")
    placement.save(out, overwrite=options.overwrite)
    rows = []
    for name, cores in placement.cores.items():
        synapses = sum(int(fan_in(s, network).sum()) for s in network.incoming(name))
        rows.append([name, str(network[name].size), quantity(synapses), str(len(np.unique(cores)))])
    print(table(rows, ["population", "neurons", "non-zero synapses", "on cores"]))
    print(f"\n{placement.core_count} cores on {placement.chips} {chip.name} chip(s); no images, so no energy")
    for note in (*placement.assumptions, *placement.not_enforced):
        print(f"note: {note}")
    print(f"written to {out}")


def verify_file(options: argparse.Namespace) -> None:
    """Compare every chip step with Lava on random inputs, half of them active."""
    network = read_netx(options.folder)
    if network.steps_assumed:
        network = replace(network, time_steps=STEPS, steps_assumed=False)
    with progress_bar(None, "Lava") as bar:
        result = compare_with_lava(
            network, options.folder, random_frames(network, options.images), timing="netx", waiting=bar.update
        )
    print(
        f"{result.differences} differences from Lava in {result.compared} spikes of all layers,"
        f" {result.samples} random samples of {network.time_steps} steps; {result.readout_differences} in the readout"
    )


def random_frames(network: ChipNetwork, samples: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """(T, N, *shape): whole numbers of the input's range, half of them zero."""
    rng, entry = np.random.default_rng(seed), network.inputs[0]
    shape = (network.time_steps, samples, *entry.shape)
    top = entry.neuron.most_sent
    return rng.integers(1, top + 1, shape) * rng.integers(0, 2, shape)

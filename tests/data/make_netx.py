"""Writes `tests/data/netx/*.net` with lava-dl's slayer blocks: `python tests/data/make_netx.py` (Lava installed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import torch

from hw_targets.targets.loihi.lava.shim import lava_importable

with lava_importable():
    from lava.lib.dl import slayer

NEURON = {"threshold": 1.25, "current_decay": 0.4, "voltage_decay": 0.1, "requires_grad": False}
ENTRY = {**NEURON, "current_decay": 1.0}
SHARP = {**NEURON, "current_decay": 1.0, "voltage_decay": 0.0}
NORMED = {**NEURON, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
RESONATOR = {"threshold": 1.0, "period": 8, "decay": 0.1}


def write(path: Path, blocks: list[Any], shape: tuple[int, ...]) -> None:
    """Run the blocks once, so that they know their shapes, spread their delays, and export them."""
    x = (torch.rand(1, *shape, 12) < 0.4).float()
    with torch.no_grad():
        for block in blocks:
            x = block(x)
    with h5py.File(path, "w", libver="latest") as file:
        for index, block in enumerate(blocks):
            if getattr(block, "delay", None) is not None:
                block.delay.delay.data.uniform_(0, 5)
            block.export_hdf5(file.create_group(f"layer/{index}"))


def main(folder: Path) -> None:
    """One file per kind of network."""
    cuba = slayer.block.cuba
    many = {"weight_scale": 3}
    files: dict[str, tuple[list[Any], tuple[int, ...]]] = {
        "conv": (
            [
                cuba.Input(delay_shift=False),
                cuba.Conv(NEURON, 2, 3, 3, padding=1, **many),
                cuba.Conv(SHARP, 3, 4, (2, 3), stride=(2, 1), dilation=(1, 2), **many),
                cuba.Flatten(),
                cuba.Dense(NEURON, 4 * 3 * 3, 6, delay=True, **many),
                cuba.Dense(SHARP, 6, 5, **many),
            ],
            (2, 6, 7),
        ),
        "groups": (
            [
                cuba.Input(delay_shift=False),
                cuba.Conv(SHARP, 4, 6, 3, groups=2, **many),
                cuba.Flatten(),
                cuba.Dense(SHARP, 24, 5, **many),
            ],
            (4, 4, 4),
        ),
        "recurrent": (
            [
                cuba.Input(delay_shift=False),
                cuba.Dense(NEURON, 7, 8, delay=True, **many),
                cuba.Recurrent(NEURON, 8, 8, **many),
                cuba.Dense(NEURON, 8, 4, delay=True, **many),
            ],
            (7,),
        ),
        "recurrent_delay": (
            [
                cuba.Input(delay_shift=False),
                cuba.Recurrent(NEURON, 6, 6, delay=True, **many),
                cuba.Dense(NEURON, 6, 4, **many),
            ],
            (6,),
        ),
        "input_neurons": (
            [
                cuba.Input(ENTRY, weight=1.5),
                cuba.Conv(NEURON, 2, 3, 3, **many),
                cuba.Flatten(),
                cuba.Affine(NEURON, 27, 4, **many),
            ],
            (2, 5, 5),
        ),
        "pool": ([cuba.Input(delay_shift=False), cuba.Conv(NEURON, 1, 2, 3), cuba.Pool(NEURON, 2)], (1, 6, 6)),
        "batch_norm": ([cuba.Input(delay_shift=False), cuba.Dense(NORMED, 5, 4)], (5,)),
        "resonator": ([cuba.Input(delay_shift=False), slayer.block.rf.Dense(RESONATOR, 5, 4)], (5,)),
    }
    for name, (blocks, shape) in files.items():
        torch.manual_seed(0)
        write(folder / f"{name}.net", blocks, shape)


if __name__ == "__main__":
    main(Path(__file__).parent / "netx")

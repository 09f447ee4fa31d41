"""Do networks made up at random spike exactly as we say? Torch against the emulator, and the emulator against Lava.

Of every torch model: its own spikes against `emulate` of what `from_torch` read, and, with the weights the chip stores
put back into it, against `emulate` of the chip's integers. Of every chip network: each step of each layer against
Lava's simulator on the exported file, and that file read back. Any difference is a failure, and is shrunk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from examples.benchmarks.common import Report, one_thread
from examples.benchmarks.truth.finding import Finding, Tally, checked
from examples.benchmarks.truth.lava_path import Exported, check_lava, export_case
from examples.benchmarks.truth.reporting import add_tally
from examples.benchmarks.truth.tape import Tape
from examples.benchmarks.truth.torch_path import check_torch
from hw_targets.errors import HardwareTargetError
from hw_targets.targets.loihi.lava.check import LavaUnavailable
from neuroprune.training.progress import progress_bar

#: Torch models and Lava networks of a full and of a quick run; networks per process of Lava.
FULL, QUICK, BATCH = (2000, 200), (60, 8), 20


def run(*, quick: bool) -> Report:
    """Check as many networks as the size asks for."""
    models, chips = QUICK if quick else FULL
    report = Report("chip_truth", quick, {"torch_models": models, "lava_networks": chips}, str(__doc__).strip())
    with one_thread():
        add_tally(report, "torch models", torch_networks(models))
        try:
            add_tally(report, "networks in Lava", lava_networks(chips))
        except LavaUnavailable as error:
            report.skipped["networks in Lava"] = str(error)
    return report


def torch_networks(count: int) -> Tally:
    """The models of the first `count` seeds."""
    tally = Tally()
    with progress_bar(count, "torch models") as bar:
        for seed in range(count):
            tally.add(seed, checked(check_torch, Tape(seed)), check_torch)
            bar.update()
    return tally


def lava_networks(count: int) -> Tally:
    """The first `count` networks that can be exported."""
    tally = Tally()
    with progress_bar(count, "networks in Lava") as bar, tempfile.TemporaryDirectory() as folder:
        for batch in _batches(count, Path(folder), tally):
            for seed, finding in _in_lava(batch):
                tally.add(seed, finding)
                bar.update()
    return tally


def _batches(count: int, folder: Path, tally: Tally) -> Iterator[dict[int, Exported]]:
    """Exported networks by seed, some at a time; refusals go into the tally at once."""
    batch: dict[int, Exported] = {}
    seed = exported = 0
    while exported < count:
        one = export_case(Tape(seed), folder / f"{seed}.net")
        if isinstance(one, Exported):
            batch[seed] = one
            exported += 1
        else:
            tally.add(seed, one)
        seed += 1
        if batch and (len(batch) == BATCH or exported == count):
            yield batch
            batch = {}


def _in_lava(batch: dict[int, Exported]) -> Iterator[tuple[int, Finding]]:
    """Findings by seed; where Lava fails on a batch, its networks are run one by one to say on which."""
    try:
        yield from zip(batch, check_lava(list(batch.values())), strict=True)
    except LavaUnavailable:
        raise
    except HardwareTargetError as error:
        if len(batch) == 1:
            ((seed, one),) = batch.items()
            one.finding.faults.append(str(error))
            yield seed, one.finding
            return
        for seed, one in batch.items():
            yield from _in_lava({seed: one})

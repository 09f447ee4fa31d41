"""Two small real data sets for Xylo: signals of aeon's wheel (PyPI), as counts of spikes.

    pip download --no-deps aeon==1.6.0

The wheel is read as an archive; aeon itself is not needed. Japanese Vowels: Kudo et al., 1999, 12 cepstra of 9
speakers, 270 utterances to train on and 370 to test. Basic Motions: accelerometer and gyroscope of a smart watch, 4
motions, 40 recordings of 10 s to train on and 40 to test.
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hw_targets.targets.xylo.arithmetic import MOST_INPUT
from neuroprune.training.data.arrays import ArraySet
from neuroprune.training.data.base import DatasetNotFound, Split
from neuroprune.training.data.signals import signals

FOLDER = "aeon/datasets/data"


@dataclass(frozen=True)
class Task:
    """A data set, and the chip that has a sensor of its kind.

    Attributes:
        name: of the data set in aeon.
        chip: its name.
        length: steps a sample lasts; shorter ones end in silence.
        batch: samples a training step.
        steps: of the optimizer.
        hidden: neurons of each of two hidden layers, too many for the chip where all weights are there.
        levels: None: a channel's value is its count of spikes, 0 … 15. Else the levels of its range; each that it
            crosses on its way up is a spike in one input, on its way down in another (level-crossing encoding).
        thirds: of the training samples, which are held out in turn while settings are chosen.
    """

    name: str
    chip: str
    length: int
    batch: int
    steps: int
    hidden: int = 112
    levels: int | None = None
    thirds: tuple[int, ...] = (0, 1)

    def data(self, wheel: Path) -> Split[ArraySet]:
        """Training and test samples, (N, T, channels) counts of 0 … 15 spikes.

        Raises:
            DatasetNotFound: `wheel` is no archive with this data set in it.
        """
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, f"{self.name}_{part}.ts") for part in ("TRAIN", "TEST")]
            try:
                with zipfile.ZipFile(wheel) as archive:
                    for file in files:
                        file.write_bytes(archive.read(f"{FOLDER}/{self.name}/{file.name}"))
            except (OSError, KeyError, zipfile.BadZipFile) as error:
                raise DatasetNotFound(
                    f"{wheel} holds no {FOLDER}/{self.name} ({error}); download it: pip download --no-deps aeon==1.6.0"
                ) from error
            split = signals(str(files[0]), str(files[1]), length=self.length, counts=self.levels or MOST_INPUT)
        if self.levels is None:
            return split
        train, test = (replace(part, samples=crossings(part.samples)) for part in (split.train, split.test))
        return Split(train, test, test)


def crossings(levels: Tensor) -> Tensor:
    """Levels (N, T, C) as spikes (N, T, 2·C): how far each rose since the step before, and how far it fell, 0 … 15."""
    change = levels.int().diff(dim=1, prepend=levels[:, :1].int())
    return torch.cat([change.clamp(0, MOST_INPUT), (-change).clamp(0, MOST_INPUT)], dim=2).to(torch.uint8)


def held_out(data: ArraySet, third: int) -> tuple[ArraySet, ArraySet]:
    """Two thirds to train on and the other one, every third sample of each class from number `third` on."""
    held = torch.zeros(len(data), dtype=torch.bool)
    for label in range(data.classes):
        held[(data.labels == label).nonzero()[third::3]] = True
    rest, out = (replace(data, samples=data.samples[part], labels=data.labels[part]) for part in (~held, held))
    return rest, out


TASKS = {
    "japanese_vowels": Task("JapaneseVowels", "xylo-audio3", length=30, batch=45, steps=120),
    "basic_motions": Task("BasicMotions", "xylo-imu", length=50, batch=20, steps=120, levels=60, thirds=(0,)),
}

"""What is trained: small networks on Fashion-MNIST, each with one budget that all methods share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from examples.benchmarks.frontier.models import LeNet, PatchTransformer, SpikingMLP
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data.base import Split
from neuroprune.training.data.fashion_mnist import fashion_mnist
from neuroprune.training.data.images import ImageSet
from neuroprune.training.loop import Hyperparameters

IMAGE = (1, 28, 28)
BUILDERS: dict[str, Callable[[tuple[int, ...], bool], nn.Module]] = {
    "snn-mlp": lambda widths, _: SpikingMLP(widths),
    "sew": lambda widths, pool: SmallSEWResNet(widths, stem_pool=pool),
    "cnn": lambda widths, _: LeNet(widths),
    "transformer": lambda widths, _: PatchTransformer(widths),
}


@dataclass(frozen=True)
class Task:
    """A network and its budget; `images` of the 55 000 training images are used, `hyper.seed` is set per run.

    Where there is a `start`, the network has been trained by it, without pruning, before the budget begins.
    """

    model: str
    size: str
    widths: tuple[int, ...]
    images: int
    hyper: Hyperparameters
    time_steps: int = 1
    stem_pool: bool = False
    start: Hyperparameters | None = None

    def build(self, seed: int) -> nn.Module:
        """The network with the initial weights of a seed."""
        torch.manual_seed(seed)
        return BUILDERS[self.model](self.widths, self.stem_pool)

    def seeded(self, seed: int) -> Hyperparameters:
        """The budget with the batch order of a seed."""
        return replace(self.hyper, seed=seed)

    def settings(self) -> dict[str, Any]:
        """Everything that decides the budget, as plain JSON values; the seed is no part of it."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del values["hyper"]["seed"]
        # These are younger than the first results, which are still the same budget's.
        if not values["hyper"]["adamw"]:
            del values["hyper"]["adamw"]
        if values["start"] is None:
            del values["start"]
        return values


_SEW_QUICK = Hyperparameters(epochs=2, batch_size=64, lr=0.3)
# Learning rates: the best dense validation accuracy (seed 0, quick size) among 0.1, 0.3, 0.5 for the spiking networks
# and 0.05, 0.1, 0.2 for the CNN.
_QUICK = (
    Task("snn-mlp", "quick", (256,), 20_000, Hyperparameters(epochs=3, batch_size=64, lr=0.5), time_steps=4),
    Task("sew", "quick", (8, 16, 96), 10_000, _SEW_QUICK, time_steps=2, stem_pool=True),
    Task("cnn", "quick", (6, 16, 128), 20_000, Hyperparameters(epochs=2, batch_size=64, lr=0.1)),
)
_FULL = (
    Task("snn-mlp", "full", (512, 256), 55_000, Hyperparameters(epochs=10, batch_size=128, lr=0.5), time_steps=4),
    Task("sew", "full", (32, 64, 128), 55_000, Hyperparameters(epochs=10, batch_size=128, lr=0.3), time_steps=4),
    Task("cnn", "full", (20, 50, 500), 55_000, Hyperparameters(epochs=10, batch_size=128, lr=0.1)),
)

_TRANSFORMER = Task("transformer", "quick", (64, 128, 128), 20_000, Hyperparameters(epochs=3, batch_size=64))
#: The best dense validation accuracy (seed 0) among 1e-3, 3e-3 and 1e-2.
_ADAMW_LR = {"snn-mlp": 1e-2, "sew": 1e-2, "cnn": 1e-2, "transformer": 3e-3}
_ADAMW = tuple(
    replace(task, size="adamw", hyper=replace(task.hyper, adamw=True, lr=_ADAMW_LR[task.model], weight_decay=1e-2))
    for task in (*_QUICK, _TRANSFORMER)
)
#: Trained with AdamW as above, then pruned within one epoch, at a tenth of the learning rate.
_FINE_TUNING = tuple(
    replace(task, size="finetune", hyper=replace(task.hyper, epochs=1, lr=task.hyper.lr / 10), start=task.hyper)
    for task in _ADAMW
)
#: Tasks by size and model name.
TASKS: dict[str, dict[str, Task]] = {
    tasks[0].size: {t.model: t for t in tasks} for tasks in (_QUICK, _FULL, _ADAMW, _FINE_TUNING)
}


def digest(settings: dict[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of settings; equal settings, equal digest."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def device_of(task: Task) -> torch.device:
    """The GPU for full runs where there is one; quick runs belong to the CPU, to be the same everywhere."""
    return torch.device("cuda" if task.size == "full" and torch.cuda.is_available() else "cpu")


def load(task: Task, device: torch.device) -> Split[ImageSet]:
    """The task's images, on the device. Labels stay on the CPU, where accuracy is counted."""
    split = fashion_mnist()

    def placed(part: ImageSet) -> ImageSet:
        return ImageSet(part.images.to(device), part.labels)

    return Split(placed(split.train.subset(0, task.images)), placed(split.validation), placed(split.test))

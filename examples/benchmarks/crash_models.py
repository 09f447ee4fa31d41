"""Models and data of the runs that `crashes` kills: small, and random wherever a run can be."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

from neuroprune.training.data.base import Split
from neuroprune.training.data.images import ImageSet

SIDE, CLASSES = 8, 4


class Noisy(nn.Module):
    """Dropout, batch-norm, noise of all generators that there are, and a buffer that its state_dict leaves out."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first, self.norm, self.last = (
            nn.Linear(SIDE * SIDE, width),
            nn.BatchNorm1d(width),
            nn.Linear(width, CLASSES),
        )
        self.dropout = nn.Dropout(0.3)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        y = self.dropout(torch.relu(self.norm(self.first(x.flatten(1)))))
        if self.training:
            y = y * (1 + 0.1 * np.random.standard_normal()) + 0.1 * random.random()  # noqa: NPY002 - people's models do
            y = y + 0.01 * self.calls
        scores: Tensor = self.last(y)
        return scores


class Plain(nn.Module):
    """Two layers, and nothing random."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(SIDE * SIDE, width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.relu(self.first(x.flatten(1))))
        return scores


def images(samples: int = 96) -> Split[ImageSet]:
    """Grey squares, brighter in one quarter, which is the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % CLASSES
    grey = torch.randint(0, 128, (samples, 1, SIDE, SIDE), generator=generator)
    half = SIDE // 2
    for index, label in enumerate(labels.tolist()):
        row, column = half * (label // 2), half * (label % 2)
        grey[index, 0, row : row + half, column : column + half] += 100
    data = ImageSet(grey.to(torch.uint8), labels)
    return Split(data, data.subset(0, 32), data.subset(0, 16))

"""Thresholds that are learned with the weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from neuroprune._numbers import check_number
from neuroprune.schedules.base import Schedule


@dataclass(frozen=True)
class LearnedThreshold:
    """One layer's threshold d = σ(s), and the momentum of s."""

    s: float
    velocity: float = 0.0

    @property
    def threshold(self) -> float:
        """d = σ(s) = 1/(1 + e^−s)."""
        return sigmoid(self.s)


class Learned(Schedule):
    """A schedule whose thresholds belong to layers and move with their gradients.

    The pruner then takes the true gradient of w = S_d(θ), in place of the straight-through one.
    """

    @property
    @abstractmethod
    def start(self) -> LearnedThreshold:
        """What every layer starts from."""

    @abstractmethod
    def learn(self, state: LearnedThreshold, slope: float, lr: float) -> LearnedThreshold:
        """One layer's state after a step with learning rate `lr`, `slope` being ∂L/∂d."""

    @property
    def initial_threshold(self) -> float:
        """The start's."""
        return self.start.threshold

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """Unchanged: `learn` moves thresholds."""
        return threshold


@dataclass(frozen=True)
class STR(Learned):
    """Soft threshold reparameterization: one threshold d = σ(s) per layer, s learned with the weights (Kusupati et al.,
    "Soft Threshold Weight Reparameterization for Learnable Sparsity", ICML 2020).

    Unlike the schedules, STR takes the true gradient of w = S_d(θ), computed in closed form from ∂L/∂w before the
    optimizer steps: ∂L/∂θ = ∂L/∂w where w ≠ 0 and 0 elsewhere, so a pruned weight comes back only if the threshold
    falls; ∂L/∂s = −σ′(s)·Σ ∂L/∂w·sign(w). s takes SGD steps of its own with the learning rate of its layer's parameter
    group. Weight decay on s, which starts far below zero, is what makes thresholds grow: it decides the sparsity.

    Args:
        s_init: s before the first step.
        weight_decay: decay of s ≥ 0.
        momentum: momentum of s, in [0, 1).

    Raises:
        ValueError: values outside their range.
    """

    s_init: float = -10.0
    weight_decay: float = 1e-3
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_number(self, "s_init", self.s_init, -math.inf)
        check_number(self, "weight_decay", self.weight_decay)
        check_number(self, "momentum", self.momentum)
        if self.momentum >= 1:
            raise ValueError(f"STR: momentum must lie in 0 … 1, 1 excluded, got {self.momentum}")

    @property
    def start(self) -> LearnedThreshold:
        """s_init, at rest."""
        return LearnedThreshold(self.s_init)

    def learn(self, state: LearnedThreshold, slope: float, lr: float) -> LearnedThreshold:
        """One SGD step on s with momentum and weight decay, `slope` being ∂L/∂d.

        v ← m·v + ∂L/∂d·σ(s)(1 − σ(s)) + λ·s;  s ← s − η·v.
        """
        d = state.threshold
        velocity = self.momentum * state.velocity + slope * d * (1 - d) + self.weight_decay * state.s
        return LearnedThreshold(state.s - lr * velocity, velocity)


def threshold_slope(gradient: Tensor, weight: Tensor) -> Tensor:
    """∂L/∂d = −Σ ∂L/∂w·sign(w) of w = S_d(θ), a scalar; zero weights do not depend on d."""
    return -torch.sum(gradient * torch.sign(weight))


def sigmoid(s: float) -> float:
    """σ(s) without overflow."""
    return 1.0 / (1.0 + math.exp(-s)) if s >= 0 else math.exp(s) / (1.0 + math.exp(s))

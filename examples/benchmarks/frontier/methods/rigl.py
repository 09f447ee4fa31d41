"""RigL: sparse from the start, connections dropped and grown while training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from examples.benchmarks.frontier.methods.base import Handle, Knob, Run, prunable
from examples.benchmarks.frontier.methods.masks import Masked


@dataclass(frozen=True)
class RigL:
    """Evci et al., "Rigging the Lottery", ICML 2020 (arXiv 1911.11134): Erdős–Rényi-kernel init, drop and grow.

    Every `1/updates` of the run, until `end` of it, each layer drops the fraction α/2·(1 + cos πt/t_end) of its weights
    with the smallest |w| and grows as many where the dense gradient of that step is largest; grown weights start at
    zero. Only active weights get gradients, and a weight that is dropped or grown starts without momentum. Unlike the
    original, the optimizer also takes its step on the steps that rewire, so that all methods take as many.
    """

    alpha: float = 0.3
    end: float = 0.75
    updates: int = 60
    name: str = "rigl"
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Begin with random masks of ERK densities, drawn from the run's seed."""
        return _RigL(self, run)


def erk_densities(shapes: Sequence[Sequence[int]], sparsity: float) -> list[float]:
    """Density of each layer, ε·Σ(dimensions)/Π(dimensions), no more than 1 (Evci et al., 2020, section 3).

    ε makes the densities add up to (1 − sparsity) of all weights; a layer that would exceed 1 is dense, and the others
    share the rest.

    Raises:
        ValueError: sparsity out of [0, 1].
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"erk_densities: sparsity must lie in 0 … 1, got {sparsity}")
    sizes = [math.prod(shape) for shape in shapes]
    raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    full: set[int] = set()
    while True:
        budget = (1.0 - sparsity) * sum(sizes) - sum(sizes[i] for i in full)
        rest = [i for i in range(len(sizes)) if i not in full]
        epsilon = budget / sum(raw[i] * sizes[i] for i in rest) if rest else 0.0
        over = {i for i in rest if epsilon * raw[i] > 1.0}
        if not over:
            return [1.0 if i in full else epsilon * raw[i] for i in range(len(sizes))]
        # One at a time, the fullest first: the others' share changes with each.
        full.add(max(over, key=lambda i: raw[i]))


def random_masks(shapes: Sequence[Sequence[int]], densities: Sequence[float], seed: int) -> list[Tensor]:
    """Masks with round(density·size) random ones each."""
    generator = torch.Generator().manual_seed(seed)
    masks = []
    for shape, density in zip(shapes, densities, strict=True):
        size = math.prod(shape)
        mask = torch.zeros(size, dtype=torch.bool)
        mask[torch.randperm(size, generator=generator)[: round(density * size)]] = True
        masks.append(mask.view(*shape))
    return masks


def rewire(weight: Tensor, gradient: Tensor, mask: Tensor, fraction: float) -> Tensor:
    """New mask: round(fraction·active) smallest |w| dropped, as many inactive ones grown where |gradient| is largest.

    What was just dropped may grow again, as in the original; as many weights are active after as before.
    """
    active = int(mask.sum())
    count = min(round(fraction * active), mask.numel() - active)
    magnitude = torch.where(mask, weight.abs(), torch.inf).flatten()
    kept = mask.clone().flatten()
    kept[torch.topk(magnitude, count, largest=False).indices] = False
    growth = torch.where(kept, -torch.inf, gradient.abs().flatten())
    kept[torch.topk(growth, count).indices] = True
    return kept.view_as(mask)


class _RigL(Masked):
    def __init__(self, method: RigL, run: Run) -> None:
        parameters = prunable(run.optimizer)
        shapes = [tuple(p.shape) for p in parameters]
        masks = random_masks(shapes, erk_densities(shapes, run.target), run.hyper.seed)
        self._alpha, self._last = method.alpha, method.end * run.steps
        self._every = max(1, run.steps // method.updates)
        self._dense: list[Tensor] = []
        super().__init__(run, [m.to(p.device) for m, p in zip(masks, parameters, strict=True)])

    def before_step(self, step: int) -> None:
        rewires = (step + 1) % self._every == 0 and step + 1 < self._last
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        self._dense = [g.clone() for g in gradients] if rewires else []
        for gradient, mask in zip(gradients, self.masks, strict=True):
            gradient.mul_(mask)

    def after_step(self, step: int) -> None:
        self.apply()
        if not self._dense:
            return
        fraction = self._alpha / 2 * (1 + math.cos(math.pi * (step + 1) / self._last))
        for index, (parameter, gradient) in enumerate(zip(self.parameters, self._dense, strict=True)):
            before = self.masks[index]
            after = rewire(parameter, gradient, before, fraction)
            self.masks[index] = after
            for name in ("momentum_buffer", "exp_avg"):
                momentum = self.optimizer.state[parameter].get(name)
                if momentum is not None:
                    momentum.mul_(after & before)
        self.apply()

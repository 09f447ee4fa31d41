"""Gradual magnitude pruning."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from examples.benchmarks.frontier.methods.base import Handle, Knob, Run, prunable
from examples.benchmarks.frontier.methods.masks import Masked, cubic_ramp, global_masks


@dataclass(frozen=True)
class GMP:
    """Global magnitude pruning on a cubic ramp (Zhu & Gupta, 2017, arXiv 1710.01878), then fine-tuning.

    From `start` to `end` (fractions of the run), in `updates` equal moves, the smallest |w| of all layers together are
    zeroed for good; gradients and momentum act on the weights that are left.
    """

    start: float = 0.1
    end: float = 0.75
    updates: int = 50
    name: str = "gmp"
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Begin with full masks."""
        return _GMP(self, run)


class _GMP(Masked):
    def __init__(self, method: GMP, run: Run) -> None:
        self._target = run.target
        self._first, self._last = round(method.start * run.steps), max(1, round(method.end * run.steps))
        self._every = max(1, (self._last - self._first) // method.updates)
        super().__init__(run, [torch.ones_like(p, dtype=torch.bool) for p in prunable(run.optimizer)])

    def after_step(self, step: int) -> None:
        self.apply()
        done = step + 1
        if done == self._last or (self._first <= done < self._last and (done - self._first) % self._every == 0):
            x = (done - self._first) / max(1, self._last - self._first)
            # What is zero already has the lowest score, so it stays zero.
            self.masks = global_masks([p.abs() for p in self.parameters], cubic_ramp(self._target, x))
            self.apply()

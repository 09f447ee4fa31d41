"""ST-3: soft threshold, straight-through gradient, quantile ramp, rescaled rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from examples.benchmarks.frontier.methods.base import Attached, Handle, Knob, Run
from examples.benchmarks.frontier.methods.masks import cubic_ramp
from neuroprune import soft_threshold


@dataclass(frozen=True)
class ST3:
    """Vanderschueren & De Vleeschouwer, WACV 2023 (arXiv 2212.01076), ST-3 with one global threshold.

    The model computes with w = scale(θ)·S_d(θ) and the optimizer moves θ with the gradient taken at w. After every step
    d is the r-quantile of all |θ|, r on a cubic ramp from `start` to `end` (fractions of the run; the published
    ImageNet configuration ramps from epoch 5 to 50 of 100), and the target from then on: the mask stays free to the
    end. The scale is that of the published code, see `row_scale`. Its gradient clipping is left out, as no other
    method here has it.
    """

    start: float = 0.05
    end: float = 0.5
    name: str = "st3"
    knob: Knob | None = None

    def attach(self, run: Run) -> Handle:
        """Begin with θ = w."""
        return _ST3(self, run)


def row_scale(theta: Tensor, threshold: float) -> Tensor:
    """Factor per output neuron that makes up for what is pruned: 1.01/(m + 0.01), m = mean(|θ|·[|θ|>d])/mean|θ|.

    Both means run over a neuron's incoming weights, with 10⁻⁶ added to each (published code of Vanderschueren & De
    Vleeschouwer, 2023). It is 1 for a neuron that keeps all weights and at most 101. Shape (out, 1, …).
    """
    magnitude = theta.abs()
    axes = tuple(range(1, theta.dim()))
    kept = (magnitude * (magnitude > threshold)).mean(axes, keepdim=True)
    share = (kept + 1e-6) / (magnitude.mean(axes, keepdim=True) + 1e-6)
    return 1.01 / (share + 0.01)


def magnitude_quantile(tensors: list[Tensor], fraction: float) -> float:
    """The `fraction`-quantile of all |values| together, linear between neighbours; 0 for fraction 0."""
    if fraction <= 0.0:
        return 0.0
    values = torch.cat([t.abs().flatten() for t in tensors])
    place = (values.numel() - 1) * fraction
    low = int(place)
    # Two selections are several times faster than one sort.
    below = float(values.kthvalue(low + 1).values)
    above = float(values.kthvalue(min(low + 2, values.numel())).values)
    return below + (above - below) * (place - low)


class _ST3(Attached):
    def __init__(self, method: ST3, run: Run) -> None:
        super().__init__(run)
        self._method, self._target, self._steps = method, run.target, run.steps
        self._latent = [p.detach().clone() for p in self.parameters]
        self._threshold = 0.0

    def before_step(self, step: int) -> None:  # noqa: ARG002 - the interface
        for parameter, theta in zip(self.parameters, self._latent, strict=True):
            parameter.copy_(theta)

    def after_step(self, step: int) -> None:
        m = self._method
        self._latent = [p.detach().clone() for p in self.parameters]
        ramp = cubic_ramp(self._target, ((step + 1) / self._steps - m.start) / (m.end - m.start))
        self._threshold = magnitude_quantile(self._latent, ramp)
        for parameter, theta in zip(self.parameters, self._latent, strict=True):
            if self._threshold > 0.0:
                parameter.copy_(row_scale(theta, self._threshold) * soft_threshold(theta, self._threshold))

    def finish(self) -> dict[str, Any]:
        self._latent = []
        return {**super().finish(), "final_threshold": self._threshold}

"""Thresholds that learn: what a pruner does around the optimizer's step when its schedule is a `Learned` one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer

from neuroprune.pruning.parameters import PrunedParameters
from neuroprune.pruning.shards import local
from neuroprune.schedules import Learned, Schedule


def take_true_gradients(parameters: PrunedParameters, optimizer: Optimizer) -> None:
    """The true gradient of w(θ, d), while the parameters still hold w: ∂L/∂d is noted, ∂L/∂θ is 0 where w is."""
    scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer under GradScaler unscales for itself
    for _, _, latent in parameters.known():
        latent.slope = 0.0
    for _, parameter, latent in parameters:
        if parameter.grad is None or latent.learned is None or latent.mask is not None:
            continue
        here = (local(parameter.grad), local(parameter).detach(), latent.theta)
        # Over shards the sum over all of them is that of the whole tensors, bit for bit.
        gradient, weight, theta = (parameters.shards.whole(part, parameter) for part in here)
        d = latent.threshold
        everywhere = parameters.shards.whole(d, parameter) if isinstance(d, Tensor) else d
        slope = float(latent.proximal.take_true_gradient(gradient, weight, theta, everywhere))
        if parameters.shards.sharded:
            latent.proximal.take_true_gradient(*here, d)
        latent.slope = slope if scale is None else slope / float(scale)


def learn(
    parameters: PrunedParameters, schedule: Schedule, thresholds: Sequence[float], rates: Sequence[float]
) -> list[float]:
    """Move learned thresholds with their groups' learning rates; the groups' thresholds become the means of theirs."""
    if not isinstance(schedule, Learned):
        return list(thresholds)
    for index, _, latent in parameters.known():
        if latent.learned is not None:
            latent.learned = schedule.learn(latent.learned, latent.slope, rates[index])
    means = [parameters.mean_learned(index) for index in range(len(thresholds))]
    return [d if mean is None else mean for d, mean in zip(thresholds, means, strict=True)]

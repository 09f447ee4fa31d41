"""Synaptic operations of a model as a number that a pruner can prune to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from neuroprune.frameworks import framework_of
from neuroprune.synops.counter import count_synops


def synops_per_sample(
    model: nn.Module,
    inputs: Any,
    samples: int,
    *,
    forward: Callable[[nn.Module, Any], object] | None = None,
    time_steps: int = 1,
    analog_input: bool = False,
) -> Callable[[], float]:
    """A measure for `prune_to_budget`: what `count_synops` reports of a model in evaluation mode, over the samples.

    Each call resets the model's neurons before and after, and leaves every module in the mode it was in.

    Args:
        model: as for `count_synops`, and so is all else.
        inputs: likewise; a few hundred samples.
        samples: how many there are in `inputs`: which axis that is only the model knows.
        forward: likewise.
        time_steps: likewise.
        analog_input: likewise.

    Raises:
        ValueError: `samples` below 1; when it measures, as `count_synops`.
    """
    framework = framework_of(model)
    if samples < 1:
        raise ValueError(f"synops_per_sample: samples must be at least 1, got {samples}")

    def measure() -> float:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            if framework is not None:
                framework.reset(model)
            found = count_synops(model, inputs, forward=forward, time_steps=time_steps, analog_input=analog_input)
            return found.total / samples
        finally:
            if framework is not None:
                framework.reset(model)
            for module, training in modes:
                module.training = training

    return measure

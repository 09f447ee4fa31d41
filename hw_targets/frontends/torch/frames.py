"""How a model is shown its input: the same values in every step, or others."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from hw_targets.frontends.torch.layout import Layout
from hw_targets.ir.network import GradedInput, SpikeInput


def shown_as(neuron: GradedInput | SpikeInput, example: Tensor, layout: Layout) -> GradedInput | SpikeInput:
    """An input that knows whether its values changed from step to step on the example, and where time lies."""
    if not layout.has_all_steps:
        return neuron
    frames = example.movedim(-1 if layout.time_last else int(layout.time_second), 0)
    changes = len(frames) > 1 and not bool((frames[1:] == frames[:1]).all())
    return replace(neuron, changes=changes, time_last=layout.time_last, time_second=layout.time_second)

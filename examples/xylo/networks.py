"""Networks for Xylo, as recipes name them."""

from __future__ import annotations

from torch import nn

from hw_targets import XyloLayer


def two_layers(inputs: int, hidden: int, classes: int) -> nn.Sequential:
    """Inputs, two recurrent layers, outputs; potentials decay by 1/8 and 1/16 a step, currents by a quarter."""
    return nn.Sequential(
        XyloLayer(inputs, hidden, recurrent=True, dash_mem=3, threshold=8.0, weight_shift=1),
        XyloLayer(hidden, hidden, recurrent=True, dash_mem=3, threshold=2.0, weight_shift=1),
        XyloLayer(hidden, classes, output=True, dash_mem=4, threshold=2.0, weight_shift=1),
    )

"""Networks for Xylo, as recipes name them."""

from __future__ import annotations

from torch import nn

from hw_targets import XyloLayer


def two_layers(inputs: int, hidden: int, classes: int) -> nn.Sequential:
    """Inputs, a layer, a recurrent layer, outputs; decays by 1/8 and 1/16 of potentials and a quarter of currents."""
    return nn.Sequential(
        XyloLayer(inputs, hidden, dash_mem=3, threshold=8.0, weight_shift=1),
        XyloLayer(hidden, hidden, recurrent=True, dash_mem=3, threshold=2.0, weight_shift=1),
        XyloLayer(hidden, classes, output=True, dash_mem=4, threshold=2.0, weight_shift=1),
    )

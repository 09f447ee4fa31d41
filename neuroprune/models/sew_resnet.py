"""A small spike-element-wise residual network, built from SpikingJelly's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuroprune._require import require

functional = require("spikingjelly.activation_based.functional", "spikingjelly")
layer = require("spikingjelly.activation_based.layer", "spikingjelly")
neuron = require("spikingjelly.activation_based.neuron", "spikingjelly")
sew_resnet = require("spikingjelly.activation_based.model.sew_resnet", "spikingjelly")
surrogate = require("spikingjelly.activation_based.surrogate", "spikingjelly")


class SmallSEWResNet(nn.Module):
    """SEW ResNet (Fang et al., NeurIPS 2021) with ADD connections and one basic block per width.

    Layers: 3×3 stem, one `BasicBlock` per entry of `widths` (the first keeps the resolution, each further one halves
    it), global average pool, linear readout. Takes (T, N, C, H, W), or (N, C, H, W) per step with `step_mode="s"`;
    returns the readout of every step, to be averaged over time.

    Args:
        widths: channels of the blocks.
        neuron_type: "IF" (as published) or "LIF" (τ = 2, input not decayed).
        in_channels: image channels.
        classes: outputs.
        stem_stride: stride of the stem convolution.
        stem_pool: 2×2 max-pool after the stem neurons.
        step_mode: "m" (all steps at once) or "s".
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        *,
        neuron_type: Literal["IF", "LIF"] = "IF",
        in_channels: int = 1,
        classes: int = 10,
        stem_stride: int = 2,
        stem_pool: bool = False,
        step_mode: Literal["m", "s"] = "m",
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"surrogate_function": surrogate.ATan(), "detach_reset": True}
        if neuron_type == "LIF":
            options.update(tau=2.0, decay_input=False)
        spiking = {"IF": neuron.IFNode, "LIF": neuron.LIFNode}[neuron_type]
        self.conv1 = layer.Conv2d(in_channels, widths[0], 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = layer.BatchNorm2d(widths[0])
        self.sn1 = spiking(**options)
        self.pool = layer.MaxPool2d(2) if stem_pool else nn.Identity()
        blocks = []
        for index, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            stride = 1 if index == 0 else 2
            shortcut = None
            if stride != 1 or before != width:
                shortcut = nn.Sequential(sew_resnet.conv1x1(before, width, stride), layer.BatchNorm2d(width))
            blocks.append(
                sew_resnet.BasicBlock(
                    before,
                    width,
                    stride,
                    shortcut,
                    norm_layer=layer.BatchNorm2d,
                    cnf="ADD",
                    spiking_neuron=spiking,
                    **options,
                )
            )
        self.blocks = nn.Sequential(*blocks)
        self.avgpool = layer.AdaptiveAvgPool2d((1, 1))
        self.fc = layer.Linear(widths[-1], classes)
        self._initialise()
        functional.set_step_mode(self, step_mode)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Readout (T, N, classes) or, single-step, (N, classes)."""
        x = self.pool(self.sn1(self.bn1(self.conv1(x))))
        x = self.avgpool(self.blocks(x))
        out: Tensor = self.fc(torch.flatten(x, -3))
        return out
